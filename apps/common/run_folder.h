#pragma once
// The folder that a run leaves behind.

#include <string>

namespace bitloom {

/// Creates the folder and its parents, and makes sure that files can be written there. Throws Error in one line.
void make_folder(const std::string& path);

}  // namespace bitloom
