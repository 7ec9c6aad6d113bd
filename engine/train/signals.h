#pragma once
// SIGINT and SIGTERM end a run in order: the flag is set, the trainer writes its checkpoint and returns.

#include <atomic>

namespace bitloom {

/// Exit status of an interrupted program.
inline constexpr int interrupted_exit_status = 130;

/// Installs the handlers (once) and returns the flag they set. The second signal ends the program at once with status
/// 130; files are safe, as checkpoints are renamed into place.
const std::atomic<bool>& install_stop_handlers();

}  // namespace bitloom
