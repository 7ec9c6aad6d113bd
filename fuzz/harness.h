#pragma once
// What the fuzz targets share: the input as a file, and the bound on memory.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

namespace bitloom::fuzz {

/// A short-lived file that holds the input, in memory where the system has a folder for that.
class InputFile {
   public:
    InputFile(const std::uint8_t* data, std::size_t size);
    ~InputFile();
    InputFile(const InputFile&) = delete;
    InputFile& operator=(const InputFile&) = delete;
    const std::string& path() const { return path_; }

   private:
    std::string path_;
};

/// Runs a reader of `size` bytes. It may throw Error (UsageError included) with a message of one line; any other
/// exception, and a heap that grows beyond twice the input plus 64 MB, ends the program.
void check_reader(std::size_t size, const std::function<void()>& reader);

}  // namespace bitloom::fuzz
