#pragma once
// Finding and reading data files; used by the readers only.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

struct gzFile_s;

namespace bitloom {

/// The first folder among `data_dir` and its `subfolders` that holds any of `names`; empty where none does.
std::string find_folder(const std::string& data_dir, const std::vector<std::string>& subfolders,
                        const std::vector<std::string>& names);
/// As find_folder, but throws Error naming the data set, the file and the folders searched.
std::string require_folder(const std::string& set, const std::string& data_dir,
                           const std::vector<std::string>& subfolders, const std::vector<std::string>& names);
/// Size in bytes of a regular file. Throws Error where it is missing or none.
std::uint64_t file_size(const std::string& path);

/// Sequential reader of a plain or gzip file.
class ByteStream {
   public:
    /// Throws Error where the file cannot be opened.
    explicit ByteStream(const std::string& path);
    ~ByteStream();
    ByteStream(const ByteStream&) = delete;
    ByteStream& operator=(const ByteStream&) = delete;
    /// Fills `target`. Throws Error where the file ends before, or its compressed data are damaged.
    void read(std::span<std::uint8_t> target);
    /// A big-endian 32-bit word.
    std::uint32_t read_u32();
    /// Throws Error where more bytes follow.
    void expect_end();
    /// Throws Error unless the file can hold `bytes` more: its size for plain files, deflate's greatest ratio
    /// otherwise.
    void expect_room(std::uint64_t bytes) const;

   private:
    std::string path_;
    std::uint64_t file_bytes_ = 0;
    std::uint64_t position_ = 0;
    gzFile_s* file_ = nullptr;
};

}  // namespace bitloom
