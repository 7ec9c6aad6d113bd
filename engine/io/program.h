#pragma once
// The frame of every program: exceptions become one line on stderr and an exit status.

#include <exception>
#include <functional>

namespace bitloom {

/// Runs `body(argc, argv)` and returns the exit status: the body's own; 0 after --help, printed on stdout; 2 after a
/// UsageError, with a hint to --help; 1 after any other exception, or where stdout could not be written. Messages are one
/// line on stderr, "PROGRAM: what".
int run_program(int argc, char** argv, const std::function<int(int, char**)>& body);

}  // namespace bitloom
