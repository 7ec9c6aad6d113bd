#include "apps/common/progress_board.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "apps/common/text.h"
#include "engine/error.h"
#include "engine/io/terminal.h"
#include "engine/train/trainer.h"

namespace bitloom {
namespace {

using Clock = std::chrono::steady_clock;

}  // namespace

ProgressBoard::ProgressBoard(std::vector<std::string> labels)
    : labels_(std::move(labels)), texts_(labels_.size()), terminal_(terminal_columns(STDERR_FILENO) > 0) {}

ProgressBoard::~ProgressBoard() {
    const std::lock_guard lock(mutex_);
    if (terminal_) draw();
}

void ProgressBoard::rename(int row, const std::string& label) {
    const std::lock_guard lock(mutex_);
    labels_[static_cast<std::size_t>(row)] = label;
}

void ProgressBoard::show(int row, const std::string& text) {
    if (!terminal_) return;
    const std::lock_guard lock(mutex_);
    texts_[static_cast<std::size_t>(row)] = text;
    if (Clock::now() - drawn_at_ > std::chrono::milliseconds(100)) draw();
}

void ProgressBoard::report(int row, const std::string& text) {
    const std::lock_guard lock(mutex_);
    texts_[static_cast<std::size_t>(row)] = text;
    if (terminal_)
        draw();
    else
        std::fprintf(stderr, "%s: %s\n", labels_[static_cast<std::size_t>(row)].c_str(), text.c_str());
}

void ProgressBoard::draw() {
    // A wrapped line would put the cursor arithmetic out: cut at the terminal's width.
    const std::size_t width = static_cast<std::size_t>(terminal_columns(STDERR_FILENO)) - 1;
    std::string screen = lines_drawn_ > 0 ? cat("\x1b[", lines_drawn_, "F") : std::string();
    lines_drawn_ = 0;
    for (std::size_t i = 0; i < labels_.size(); ++i) {
        if (texts_[i].empty()) continue;
        screen += (labels_[i] + ": " + texts_[i]).substr(0, width) + "\x1b[K\n";
        ++lines_drawn_;
    }
    std::fputs(screen.c_str(), stderr);
    drawn_at_ = Clock::now();
}

void BoardProgress::before_epoch(Trainer&) { epoch_began_ = Clock::now(); }

void BoardProgress::after_step(Trainer& trainer) {
    const TrainState& state = trainer.state();
    board_.show(row_, cat("epoch ", state.epoch + 1, "/", trainer.options().epochs, "  batch ", state.batch, "/",
                          trainer.batches(), "  loss ", fixed(trainer.running_loss(), 4), "  acc ",
                          fixed(trainer.running_accuracy(), 4)));
}

void BoardProgress::after_epoch(Trainer& trainer) {
    const EpochRecord& record = trainer.record();
    std::string text = cat("epoch ", record.epoch + 1, "/", trainer.options().epochs, "  loss ", fixed(record.loss, 4),
                           "  acc ", fixed(record.accuracy, 4));
    if (trainer.has_validation())
        text +=
            cat("  val_loss ", fixed(record.validation_loss, 4), "  val_acc ", fixed(record.validation_accuracy, 4));
    const std::chrono::duration<double> seconds = Clock::now() - epoch_began_;
    board_.report(row_, cat(text, "  lr ", record.learning_rate, "  ", fixed(seconds.count(), 1), " s"));
}

}  // namespace bitloom
