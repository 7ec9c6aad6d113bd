#include <unistd.h>

#include <cmath>
#include <cstdarg>
#include <cstdio>

#include "engine/io/terminal.h"
#include "engine/train/callbacks.h"
#include "engine/train/trainer.h"

namespace bitloom {

namespace {

[[gnu::format(printf, 1, 2)]] std::string format(const char* pattern, ...) {
    char buffer[256];
    std::va_list arguments;
    va_start(arguments, pattern);
    std::vsnprintf(buffer, sizeof buffer, pattern, arguments);
    va_end(arguments);
    return buffer;
}

double seconds_since(std::chrono::steady_clock::time_point begin) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// "1:02:03" or "2:03".
std::string clock_text(double seconds) {
    const long s = std::lround(seconds);
    return s >= 3600 ? format("%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60) : format("%ld:%02ld", s / 60, s % 60);
}

}  // namespace

ProgressBar::ProgressBar(std::string label)
    : label_(label.empty() ? std::string() : std::move(label) + "  "), terminal_(terminal_columns(STDERR_FILENO) > 0) {}

ProgressBar::~ProgressBar() {
    if (line_open_) std::fputc('\n', stderr);
}

void ProgressBar::start(const Trainer& trainer) {
    begin_ = Clock::now();
    shown_ = {};
    first_batch_ = trainer.state().batch;
    first_sample_ = trainer.state().samples;
}

void ProgressBar::show(const std::string& line, bool last) {
    // A line that wraps could not be written over; "\x1b[K" clears what a longer line before it left.
    const std::size_t room = last ? std::string::npos : static_cast<std::size_t>(terminal_columns(STDERR_FILENO)) - 1;
    if (terminal_)
        std::fprintf(stderr, "\r%s\x1b[K%s", (label_ + line).substr(0, room).c_str(), last ? "\n" : "");
    else
        std::fprintf(stderr, "%s%s\n", label_.c_str(), line.c_str());
    line_open_ = terminal_ && !last;
    std::fflush(stderr);
}

void ProgressBar::on_load(Trainer& trainer) { start(trainer); }
void ProgressBar::before_epoch(Trainer& trainer) { start(trainer); }

void ProgressBar::after_step(Trainer& trainer) {
    if (!terminal_) return;
    const Clock::time_point now = Clock::now();
    if (now - shown_ < std::chrono::milliseconds(100)) return;
    shown_ = now;
    const TrainState& state = trainer.state();
    const double seconds = std::max(seconds_since(begin_), 1e-9);
    const double left = seconds / static_cast<double>(state.batch - first_batch_) *
                        static_cast<double>(trainer.batches() - state.batch);
    show(format("epoch %ld/%ld  batch %ld/%ld  loss %.4f  acc %.2f %%  %.0f images/s  %s left",
                static_cast<long>(state.epoch + 1), static_cast<long>(trainer.options().epochs),
                static_cast<long>(state.batch), static_cast<long>(trainer.batches()), trainer.running_loss(),
                100 * trainer.running_accuracy(), static_cast<double>(state.samples - first_sample_) / seconds,
                clock_text(left).c_str()),
         false);
}

void ProgressBar::after_epoch(Trainer& trainer) {
    const EpochRecord& record = trainer.record();
    std::string line = format("epoch %ld/%ld  loss %.4f  accuracy %.2f %%", static_cast<long>(record.epoch + 1),
                              static_cast<long>(trainer.options().epochs), record.loss, 100 * record.accuracy);
    if (trainer.has_validation())
        line +=
            format("  val_loss %.4f  val_accuracy %.2f %%", record.validation_loss, 100 * record.validation_accuracy);
    line += format("  lr %g  %s", record.learning_rate, clock_text(seconds_since(begin_)).c_str());
    show(line, true);
}

}  // namespace bitloom
