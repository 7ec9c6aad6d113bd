#include "engine/data/files.h"

#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "engine/error.h"

namespace bitloom {

namespace fs = std::filesystem;

namespace {
std::vector<std::string> candidate_folders(const std::string& data_dir, const std::vector<std::string>& subfolders) {
    std::vector<std::string> folders{data_dir};
    for (const std::string& folder : subfolders) folders.push_back((fs::path(data_dir) / folder).string());
    return folders;
}
}  // namespace

std::string find_folder(const std::string& data_dir, const std::vector<std::string>& subfolders,
                        const std::vector<std::string>& names) {
    std::error_code ignored;
    for (const std::string& folder : candidate_folders(data_dir, subfolders))
        for (const std::string& name : names)
            if (fs::exists(fs::path(folder) / name, ignored)) return folder;
    return {};
}

std::string require_folder(const std::string& set, const std::string& data_dir,
                           const std::vector<std::string>& subfolders, const std::vector<std::string>& names) {
    require(!data_dir.empty(), set, ": needs a data folder (--data-dir)");
    std::error_code ignored;
    require(fs::is_directory(data_dir, ignored), set, ": data folder ", data_dir, " does not exist");
    const std::string found = find_folder(data_dir, subfolders, names);
    if (!found.empty()) return found;
    std::string searched;
    for (const std::string& folder : candidate_folders(data_dir, subfolders))
        searched += (searched.empty() ? "" : ", ") + folder;
    fail(set, ": no ", names.front(), " in ", searched, " (scripts/get_data.sh downloads it)");
}

std::uint64_t file_size(const std::string& path) {
    std::error_code code;
    require(fs::exists(path, code), path, ": no such file");
    require(fs::is_regular_file(path, code), path, ": not a regular file");
    const std::uint64_t bytes = fs::file_size(path, code);
    require(!code, path, ": ", code.message());
    return bytes;
}

ByteStream::ByteStream(const std::string& path) : path_(path), file_bytes_(file_size(path)) {
    file_ = gzopen(path.c_str(), "rb");
    require(file_ != nullptr, path, ": cannot be opened (", std::strerror(errno), ")");
    gzbuffer(file_, 1u << 18);
}

ByteStream::~ByteStream() { gzclose(file_); }

void ByteStream::read(std::span<std::uint8_t> target) {
    while (!target.empty()) {
        const unsigned wanted = static_cast<unsigned>(std::min<std::size_t>(target.size(), 1u << 30));
        const int got = gzread(file_, target.data(), wanted);
        if (got < static_cast<int>(wanted)) {
            int code = Z_OK;
            const char* reason = gzerror(file_, &code);
            if (code == Z_DATA_ERROR) fail(path_, ": damaged gzip data (", reason, ")");
            if (code == Z_ERRNO) fail(path_, ": ", std::strerror(errno));
            fail(path_, ": truncated: ends after ", position_ + std::max(got, 0), " bytes");
        }
        position_ += wanted;
        target = target.subspan(wanted);
    }
}

std::uint32_t ByteStream::read_u32() {
    std::uint8_t b[4];
    read(b);
    return std::uint32_t{b[0]} << 24 | std::uint32_t{b[1]} << 16 | std::uint32_t{b[2]} << 8 | b[3];
}

void ByteStream::expect_end() {
    std::uint8_t byte = 0;
    const int got = gzread(file_, &byte, 1);  // at the end of a gzip file this also checks its checksum
    require(got != 1, path_, ": longer than its header says");
    int code = Z_OK;
    const char* reason = gzerror(file_, &code);
    require(got == 0 && (code == Z_OK || code == Z_STREAM_END), path_, ": ",
            code == Z_BUF_ERROR ? "truncated at its end" : reason);
}

void ByteStream::expect_room(std::uint64_t bytes) const {
    constexpr std::uint64_t deflate_limit = 1032;  // zlib's documented greatest compression ratio
    const bool plain = gzdirect(file_) == 1;
    const std::uint64_t capacity = plain ? file_bytes_ - std::min(file_bytes_, position_) : file_bytes_ * deflate_limit;
    require(bytes <= capacity, path_, ": its header promises ", bytes, " bytes, more than the file of ", file_bytes_,
            " bytes holds");
}

}  // namespace bitloom
