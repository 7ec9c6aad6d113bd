#pragma once
// The folder that a run leaves behind.

#include <string>

namespace bitloom {

/// Creates the folder and its parents, and makes sure that files can be written there. Throws Error in one line.
void make_folder(const std::string& path);

/// Holds the folder, or a part of it ("fold 3"), until this process ends, however it ends. Throws Error where another process
/// holds it. A file system that has no locks, or no room for one more file, holds nothing and is no obstacle.
void claim_folder(const std::string& path, const std::string& part = "");

/// The line that tells where a program's report lies: "report: ABSOLUTE PATH".
std::string report_line(const std::string& path);

}  // namespace bitloom
