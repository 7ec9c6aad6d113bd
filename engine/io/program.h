#pragma once
// The frame of every program: exceptions become one line on stderr and an exit status.

#include <exception>
#include <functional>

namespace bitloom {

/// Thrown by check_interrupt after SIGINT or SIGTERM.
class Interrupted : public std::exception {
public:
    explicit Interrupted(int signal) : signal_(signal) {}
    const char* what() const noexcept override { return "interrupted"; }
    int signal() const { return signal_; }

private:
    int signal_;
};

/// From now on SIGINT and SIGTERM only set a flag, so that a run can save its state; a second one ends the process at
/// once. For programs that call check_interrupt (or interrupted) between their steps.
void catch_interrupts();
/// The signal that arrived since catch_interrupts, or 0. Safe from any thread.
int interrupted();
/// Throws Interrupted where one arrived.
void check_interrupt();

/// Runs `body(argc, argv)` and returns the exit status: the body's own; 0 after --help, printed on stdout; 2 after a
/// UsageError, with a hint to --help; 1 after any other exception, or where stdout could not be written; 128 + signal
/// (130) after Interrupted. Messages are one line on stderr, "PROGRAM: what".
int run_program(int argc, char** argv, const std::function<int(int, char**)>& body);

}  // namespace bitloom
