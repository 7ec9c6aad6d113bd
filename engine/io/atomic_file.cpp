#include "engine/io/atomic_file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <set>
#include <utility>

#include "engine/error.h"

namespace bitloom {

namespace {

namespace fs = std::filesystem;

class Descriptor {
public:
    explicit Descriptor(int fd) : fd_(fd) {}
    ~Descriptor() {
        if (fd_ >= 0) ::close(fd_);
    }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    int get() const { return fd_; }
    bool ok() const { return fd_ >= 0; }
    /// Network file systems report a failed write only here.
    int close() { return ::close(std::exchange(fd_, -1)); }

private:
    int fd_;
};

[[noreturn]] void cannot(const std::string& path, const char* what, int error) {
    fail(path, ": cannot ", what, ": ", std::strerror(error));
}

void write_all(const Descriptor& file, std::string_view contents, const std::string& path) {
    while (!contents.empty()) {
        const ssize_t written = ::write(file.get(), contents.data(), contents.size());
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) cannot(path, "write", errno);
        contents.remove_prefix(static_cast<std::size_t>(written));
    }
}

/// The temporary files this process is writing now.
struct InFlight {
    std::mutex mutex;
    std::set<std::string> names;
};
InFlight& in_flight() {
    static InFlight instance;
    return instance;
}

/// Claims a temporary name for `target`; on destruction the file is removed if it still exists.
class Temporary {
public:
    explicit Temporary(const std::string& target) : name_(target + ".tmp-" + std::to_string(::getpid())) {
        const std::string base = name_;
        std::lock_guard lock(in_flight().mutex);
        for (int i = 1; !in_flight().names.insert(name_).second; ++i) name_ = base + "." + std::to_string(i);
    }
    ~Temporary() {
        if (!renamed_) ::unlink(name_.c_str());
        std::lock_guard lock(in_flight().mutex);
        in_flight().names.erase(name_);
    }
    Temporary(const Temporary&) = delete;
    Temporary& operator=(const Temporary&) = delete;
    const std::string& name() const { return name_; }
    void rename_to(const std::string& target) {
        if (::rename(name_.c_str(), target.c_str()) != 0) cannot(target, "write", errno);
        renamed_ = true;
    }

private:
    std::string name_;
    bool renamed_ = false;
};

/// Removes `<target>.tmp-<pid>` of processes that no longer live. Failing to is no reason not to save.
void remove_stale(const fs::path& folder, const std::string& target) {
    const std::string stem = fs::path(target).filename().string() + ".tmp-";
    std::error_code error;
    for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
        const std::string name = it->path().filename().string();
        if (!name.starts_with(stem)) continue;
        long pid = 0;
        const char* const last = name.data() + name.size();
        const auto [rest, problem] = std::from_chars(name.data() + stem.size(), last, pid);
        if (problem != std::errc() || pid <= 0 || (rest != last && *rest != '.')) continue;
        bool alive = ::kill(static_cast<pid_t>(pid), 0) == 0 || errno != ESRCH;
        if (pid == ::getpid()) {  // a number given anew: the file is ours only if we are writing it now
            std::lock_guard lock(in_flight().mutex);
            alive = in_flight().names.contains((fs::path(target).replace_filename(name)).string());
        }
        if (!alive) {
            std::error_code ignored;
            fs::remove(it->path(), ignored);
        }
    }
}

void sync_folder(const fs::path& folder, const std::string& path) {
    const Descriptor directory(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    // Some file systems cannot sync folders and say EINVAL; the rename has been done.
    if (directory.ok() && ::fsync(directory.get()) != 0 && errno != EINVAL && errno != ENOTSUP)
        cannot(path, "write", errno);
}

}  // namespace

void write_file_atomically(const std::string& path, std::string_view contents) {
    std::error_code error;
    std::string target = path;
    if (fs::is_symlink(path, error)) {
        const fs::path real = fs::weakly_canonical(path, error);
        if (!error) target = real.string();
    }
    struct stat status {};
    const bool exists = ::stat(target.c_str(), &status) == 0;
    if (exists && S_ISDIR(status.st_mode)) cannot(path, "write", EISDIR);
    if (exists && !S_ISREG(status.st_mode)) {
        Descriptor file(::open(target.c_str(), O_WRONLY | O_CLOEXEC));
        if (!file.ok()) cannot(path, "write", errno);
        write_all(file, contents, path);
        return;
    }
    // Renaming asks only for rights on the folder; a file that was made read-only is to stay.
    if (exists && ::access(target.c_str(), W_OK) != 0) cannot(path, "write", errno);

    const fs::path parent = fs::path(target).parent_path();
    const fs::path folder = parent.empty() ? fs::path(".") : parent;
    remove_stale(folder, target);
    Temporary temporary(target);
    Descriptor file(::open(temporary.name().c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
    if (!file.ok()) cannot(path, "write", errno);
    if (exists && ::fchmod(file.get(), status.st_mode & 07777) != 0) cannot(path, "write", errno);
    write_all(file, contents, path);
    if (::fsync(file.get()) != 0) cannot(path, "write", errno);
    if (file.close() != 0) cannot(path, "write", errno);
    temporary.rename_to(target);
    sync_folder(folder, path);
}

std::string read_file(const std::string& path, std::size_t most) {
    const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file.ok()) fail(path, ": ", std::strerror(errno));
    std::string contents;
    struct stat status {};
    if (::fstat(file.get(), &status) == 0 && status.st_size > 0)
        contents.reserve(static_cast<std::size_t>(status.st_size) + 1);
    std::size_t used = 0;
    for (;;) {  // not by st_size alone: pipes and /proc say 0
        contents.resize(std::max(contents.capacity(), used + 4096));
        const ssize_t got = ::read(file.get(), contents.data() + used, contents.size() - used);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) fail(path, ": ", std::strerror(errno));
        if (got == 0) break;
        used += static_cast<std::size_t>(got);
        require(used <= most, path, ": longer than ", most, " bytes");
    }
    contents.resize(used);
    return contents;
}

}  // namespace bitloom
