#include "engine/train/signals.h"

#include <signal.h>
#include <unistd.h>

namespace bitloom {

namespace {

std::atomic<bool> stop_flag{false};
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler may only touch lock-free atomics");

void handle(int) {
    if (stop_flag.exchange(true)) _exit(interrupted_exit_status);
}

}  // namespace

const std::atomic<bool>& install_stop_handlers() {
    struct sigaction action = {};
    action.sa_handler = handle;
    action.sa_flags = SA_RESTART;  // reading and writing go on; the trainer looks at the flag after its step
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, nullptr);
    sigaction(SIGTERM, &action, nullptr);
    return stop_flag;
}

}  // namespace bitloom
