#pragma once
// Files that appear whole or not at all.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace bitloom {

/// Writes `contents` to a temporary file beside `path` (`<path>.tmp-<pid>`), fsyncs it, renames it over `path` and
/// fsyncs the folder: a kill or a power cut at any moment leaves the old file or the new one. The mode of an existing
/// file is kept, a symbolic link is followed, and what is no regular file (/dev/stdout, a pipe) is written directly.
/// Temporary files that killed processes left for the same path are removed first. Throws Error ("PATH: cannot write:
/// No space left on device"); the temporary file is then gone and the old file stands. Thread-safe.
void write_file_atomically(const std::string& path, std::string_view contents);

/// The whole file. Throws Error ("PATH: No such file or directory"), also where it has more than `most` bytes: what is no
/// regular file may have no end.
std::string read_file(const std::string& path, std::size_t most = SIZE_MAX);

}  // namespace bitloom
