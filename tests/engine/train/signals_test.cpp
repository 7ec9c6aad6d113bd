#include "engine/train/signals.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <cstdlib>

namespace bitloom {
namespace {

void one_signal(int signal) {
    const std::atomic<bool>& stop = install_stop_handlers();
    const bool before = stop.load();
    ::raise(signal);
    std::exit(!before && stop.load() ? 7 : 1);
}
void two_signals() {
    install_stop_handlers();
    ::raise(SIGINT);
    ::raise(SIGINT);
    std::exit(7);
}

TEST(SignalsDeathTest, TheFirstAsksTheSecondEnds) {
    EXPECT_EXIT(one_signal(SIGINT), ::testing::ExitedWithCode(7), "");
    EXPECT_EXIT(one_signal(SIGTERM), ::testing::ExitedWithCode(7), "");
    EXPECT_EXIT(two_signals(), ::testing::ExitedWithCode(interrupted_exit_status), "");
}

}  // namespace
}  // namespace bitloom
