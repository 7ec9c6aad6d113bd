#include "apps/common/run_folder.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string>

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

void claim_folder(const std::string& path, const std::string& part) {
    std::string name = part;
    std::replace(name.begin(), name.end(), ' ', '_');
    const int file = ::open(cat(path, "/.", name, name.empty() ? "" : ".", "lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (file < 0) return;
    // Unlike that of flock, this lock is not handed on to children, which may outlive a run that is killed.
    struct flock lock {};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    if (::fcntl(file, F_SETLK, &lock) == 0) return;  // the file stays open: closing it would end the lock
    const bool taken = errno == EACCES || errno == EAGAIN;
    std::string holder;
    if (::fcntl(file, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK && lock.l_pid > 0) holder = cat(" (process ", lock.l_pid, ")");
    ::close(file);
    require(!taken, part.empty() ? "the folder " : cat(part, " in the folder "), path, " is in use by another run", holder);
}

std::string report_line(const std::string& path) {
    return cat("report: ", std::filesystem::absolute(path).lexically_normal().string(), "\n");
}

}  // namespace bitloom
