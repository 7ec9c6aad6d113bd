#pragma once
// The frame of the BSQ programs.

#include <functional>
#include <string>

#include "apps/bsq/run.h"
#include "engine/error.h"
#include "engine/io/program.h"
#include "engine/threads.h"

namespace bitloom::bsq {

/// Parses, records the run in its folder, runs it; returns the exit status.
int run_as_program(const std::string& program, Flags& flags, Settings& settings, int argc, const char* const* argv,
                   const std::function<Result(const Settings&)>& run);

}  // namespace bitloom::bsq
