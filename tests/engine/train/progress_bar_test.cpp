// What a training run shows of itself: a line an epoch, and on a terminal the batches in between.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <thread>

#include "engine/error.h"
#include "engine/train/callbacks.h"
#include "tests/engine/train/toy.h"

namespace bitloom {
namespace {

using testing::ContainsRegex;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

/// Waits long enough before the end of one step for the bar to show the step, or ends the run there.
class Pause final : public Callback {
   public:
    Pause(std::int64_t step, bool fails) : step_(step), fails_(fails) {}
    std::string name() const override { return "pause"; }
    void after_step(Trainer& trainer) override {
        if (trainer.state().batch != step_) return;
        std::this_thread::sleep_for(std::chrono::milliseconds(120));
        if (fails_) fail("the run ends here");
    }

   private:
    std::int64_t step_;
    bool fails_;
};

/// Two epochs of 4 batches on stderr, `pause` before the bar's turn or behind it.
void train(const std::shared_ptr<Callback>& pause, bool behind, bool validates) {
    toy::Linear model;
    const auto optimizer = make_optimizer("sgd", model.named_parameters(), 0.1);
    Trainer trainer(model, *optimizer, toy::cross_entropy, {.epochs = 2});
    const auto bar = std::make_shared<ProgressBar>("run");
    if (pause && !behind) trainer.add(pause);
    trainer.add(bar);
    if (pause && behind) trainer.add(pause);
    const LoaderOptions batches{.batch_size = 16, .workers = 0};
    Loader train(toy::dataset(60, 1), batches), validation(toy::dataset(40, 2), batches);
    trainer.fit(train, validates ? &validation : nullptr);
}

/// A terminal in place of stderr.
class Terminal {
   public:
    explicit Terminal(unsigned short columns = 80) : master_(posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK)), saved_(dup(STDERR_FILENO)) {
        if (master_ < 0 || grantpt(master_) != 0 || unlockpt(master_) != 0) return;
        const int slave = open(ptsname(master_), O_RDWR | O_NOCTTY);
        termios settings{};
        tcgetattr(slave, &settings);
        cfmakeraw(&settings);  // newlines stay what they are
        tcsetattr(slave, TCSANOW, &settings);
        const winsize size{.ws_row = 25, .ws_col = columns, .ws_xpixel = 0, .ws_ypixel = 0};
        ioctl(slave, TIOCSWINSZ, &size);
        std::fflush(stderr);
        ready_ = dup2(slave, STDERR_FILENO) >= 0;
        close(slave);
    }
    ~Terminal() {
        finish();
        close(master_);
    }
    bool ready() const { return ready_; }
    /// What was written, and stderr as it was.
    std::string finish() {
        if (saved_ < 0) return {};
        std::fflush(stderr);
        std::string text;
        char buffer[4096];
        for (ssize_t got; (got = read(master_, buffer, sizeof buffer)) > 0;) text.append(buffer, static_cast<std::size_t>(got));
        dup2(saved_, STDERR_FILENO);
        close(saved_);
        saved_ = -1;
        return text;
    }

   private:
    int master_, saved_;
    bool ready_ = false;
};

TEST(ProgressBar, OneLineAnEpochWhereNobodyWatches) {
    testing::internal::CaptureStderr();
    train(std::make_shared<Pause>(2, false), false, true);
    const std::string text = testing::internal::GetCapturedStderr();
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);
    EXPECT_THAT(text, Not(HasSubstr("\r")));
    EXPECT_THAT(text, ContainsRegex("^run  epoch 1/2  loss [0-9.]+  accuracy [0-9.]+ %  val_loss [0-9.]+  "
                                    "val_accuracy [0-9.]+ %  lr 0.1  [0-9]+:[0-9][0-9]\nrun  epoch 2/2  "));
}

TEST(ProgressBar, BatchesInOneLineOfATerminal) {
    Terminal terminal;
    if (!terminal.ready()) GTEST_SKIP() << "no pseudo-terminal here";
    train(std::make_shared<Pause>(4, false), false, false);
    const std::string text = terminal.finish();
    EXPECT_THAT(text, StartsWith("\rrun  epoch 1/2  batch 1/4  loss "));
    EXPECT_THAT(text, ContainsRegex("\rrun  epoch 1/2  batch 4/4  loss [0-9.]+  acc [0-9.]+ %  [0-9]+ images/s  "
                                    "0:00 left\x1b\\[K\rrun  epoch 1/2  loss [0-9.]+  accuracy [0-9.]+ %  lr 0.1  [0-9]+:[0-9][0-9]\x1b\\[K\n"));
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);
}

TEST(ProgressBar, BatchesStayWithinANarrowTerminal) {
    Terminal terminal(40);
    if (!terminal.ready()) GTEST_SKIP() << "no pseudo-terminal here";
    train(nullptr, false, false);
    const std::string text = terminal.finish();
    EXPECT_THAT(text, StartsWith("\rrun  epoch 1/2  batch 1/4  loss "));
    EXPECT_EQ(text.find("\x1b[K"), 1u + 39u);
}

TEST(ProgressBar, LeavesNoLineHalfWritten) {
    Terminal terminal;
    if (!terminal.ready()) GTEST_SKIP() << "no pseudo-terminal here";
    EXPECT_THROW(train(std::make_shared<Pause>(1, true), true, false), Error);
    const std::string text = terminal.finish();
    EXPECT_THAT(text, HasSubstr("batch 1/4"));
    EXPECT_THAT(text, EndsWith("\x1b[K\n"));
}

}  // namespace
}  // namespace bitloom
