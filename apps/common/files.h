#pragma once
// Small text files of a run folder.

#include <string>
#include <string_view>

namespace bitloom {

/// Creates the folder and its parents, and makes sure that files can be written there. Throws Error in one line.
void make_folder(const std::string& path);
/// Writes `<path>.tmp-<pid>` and renames it over `path`, so that a reader never sees half a file. Throws Error.
void write_file(const std::string& path, std::string_view text);
/// The whole file. Throws Error where it cannot be read.
std::string read_file(const std::string& path);

}  // namespace bitloom
