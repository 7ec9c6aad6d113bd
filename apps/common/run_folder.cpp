#include "apps/common/run_folder.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "engine/error.h"

namespace bitloom {

void make_folder(const std::string& path) {
    std::error_code error;
    std::filesystem::create_directories(path, error);
    require(!error, "cannot create the folder ", path, ": ", error.message());
    if (access(path.c_str(), W_OK | X_OK) == 0) return;
    const int reason = errno;  // before the making of the message changes it
    fail("cannot write into the folder ", path, ": ", std::strerror(reason));
}

}  // namespace bitloom
