#include "apps/common/files.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "engine/error.h"

namespace bitloom {

void make_folder(const std::string& path) {
    std::error_code error;
    std::filesystem::create_directories(path, error);
    require(!error, "cannot create the folder ", path, ": ", error.message());
    require(std::filesystem::is_directory(path, error), path, " is a file, expected a folder");
    require(access(path.c_str(), W_OK | X_OK) == 0, "cannot write into the folder ", path, ": ", std::strerror(errno));
}

void write_file(const std::string& path, std::string_view text) {
    const std::string temporary = cat(path, ".tmp-", getpid());
    std::ofstream out(temporary, std::ios::binary);
    out.write(text.data(), static_cast<std::streamsize>(text.size()));
    out.close();
    std::error_code error;
    if (out) std::filesystem::rename(temporary, path, error);
    if (!out || error) {
        const std::string reason = error ? error.message() : std::strerror(errno);
        std::filesystem::remove(temporary, error);
        fail("cannot write ", path, ": ", reason);
    }
}

std::string read_file(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    require(in.good(), "cannot read ", path, ": ", std::strerror(errno));
    std::string text{std::istreambuf_iterator<char>(in), {}};
    require(!in.bad(), "cannot read ", path, ": ", std::strerror(errno));
    return text;
}

}  // namespace bitloom
