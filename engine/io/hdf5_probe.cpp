// HDF5 1.10 crashes or loops for ever on some damaged files (a free space of no length in a global heap is one of
// many). So a child process goes through a file first, with all that reading it may ask of the library; only what the
// child survives is read here.

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <vector>

#include "engine/io/hdf5_handle.h"

namespace bitloom::hdf5 {

namespace {

// Everything below up to `probe` runs in the child of a process that may have many threads: it calls HDF5 and malloc,
// nothing that another thread might have locked. No result matters but that the calls return.

/// Elements of a dataset or an attribute; 0 where there are none or more than can be.
std::size_t elements(hid_t space, std::size_t element_bytes, hsize_t most_bytes) {
    hsize_t extents[H5S_MAX_RANK];
    const int rank = H5Sget_simple_extent_ndims(space);
    if (rank < 0 || H5Sget_simple_extent_dims(space, extents, nullptr) < 0 || element_bytes == 0) return 0;
    if (H5Sget_simple_extent_type(space) == H5S_NULL) return 0;
    hsize_t count = 1;
    for (int i = 0; i < rank; ++i)
        if (__builtin_mul_overflow(count, extents[i], &count)) return 0;
    return count <= most_bytes / element_bytes ? static_cast<std::size_t>(count) : 0;
}

constexpr int exit_no_memory = 3;

/// Called for every call to HDF5 that fails: ends the child where that was for want of memory.
herr_t end_without_memory(hid_t stack, void*) {
    const auto look = [](unsigned, const H5E_error2_t* error, void*) -> herr_t {
        if (error->maj_num == H5E_RESOURCE || error->min_num == H5E_NOSPACE || error->min_num == H5E_CANTALLOC)
            ::_exit(exit_no_memory);
        return 0;
    };
    return H5Ewalk2(stack, H5E_WALK_UPWARD, look, nullptr);
}

/// HDF5 believes what a file says of sizes, of strings and of headers for instance, and asks for that much memory
/// before it looks whether the file has it. The child may have 32 MB and twice the file, and more where values need it.
class MemoryLimit {
   public:
    explicit MemoryLimit(hsize_t file_bytes) {
        // Pages of writable private memory, the sixth field of statm, are what RLIMIT_DATA counts.
        rlim_t pages = 0;
        if (std::FILE* statm = std::fopen("/proc/self/statm", "r")) {
            if (std::fscanf(statm, "%*u %*u %*u %*u %*u %lu", &pages) != 1) pages = 0;
            std::fclose(statm);
        }
        if (pages == 0 || ::getrlimit(RLIMIT_DATA, &limit_) != 0) return;
        most_ = pages * static_cast<rlim_t>(::sysconf(_SC_PAGESIZE)) + (rlim_t{32} << 20) + 2 * file_bytes;
        H5Eset_auto2(H5E_DEFAULT, end_without_memory, nullptr);
        allow(0);
    }
    /// So many bytes of values take a buffer, a chunk of them and, while that is unpacked, up to twice as much.
    void allow(hsize_t bytes) {
        if (most_ == 0) return;
        limit_.rlim_cur = std::min<rlim_t>(limit_.rlim_max, most_ + 4 * bytes);
        ::setrlimit(RLIMIT_DATA, &limit_);
    }

   private:
    rlimit limit_{};
    rlim_t most_ = 0;
};

/// A fifth of a second of processor time and a second for each 4 MB, some twenty times what small objects need, times
/// `stretch`; then SIGPROF ends the child.
void limit_time(hsize_t bytes, unsigned stretch) {
    const hsize_t milliseconds = stretch * (200 + bytes / (hsize_t{4} << 20) * 1000);
    itimerval limit{};
    limit.it_value.tv_sec = static_cast<time_t>(milliseconds / 1000);
    limit.it_value.tv_usec = static_cast<suseconds_t>(milliseconds % 1000 * 1000);
    setitimer(ITIMER_PROF, &limit, nullptr);
}

/// Takes some values through the conversions that readers ask for.
void convert_some(hid_t type, const unsigned char* values, std::size_t count) {
    const std::size_t width = H5Tget_size(type), some = std::min<std::size_t>(count, 256);
    std::vector<unsigned char> buffer(some * std::max<std::size_t>(width, 8)), background(buffer.size());
    for (const hid_t wanted :
         {H5T_NATIVE_FLOAT, H5T_NATIVE_DOUBLE, H5T_NATIVE_INT64, H5T_NATIVE_INT32, H5T_NATIVE_INT8, H5T_NATIVE_UINT8}) {
        std::copy_n(values, some * width, buffer.begin());
        H5Tconvert(type, wanted, some, buffer.data(), background.data(), H5P_DEFAULT);
    }
}

struct Walk;
void probe_object(hid_t object, Walk& walk);

struct Walk {
    hsize_t file_bytes = 0;
    unsigned stretch = 1;
    MemoryLimit memory;
    std::set<haddr_t> seen;
};

/// Reads all values, `read(type, buffer)`.
template <class Read>
void read_values(hid_t type, hid_t space, hsize_t most_bytes, Walk& walk, Read&& read) {
    const H5T_class_t kind = H5Tget_class(type);
    const std::size_t width = H5Tget_size(type), count = elements(space, width, most_bytes);
    if (count == 0 || (kind != H5T_INTEGER && kind != H5T_FLOAT && kind != H5T_ENUM && kind != H5T_STRING)) return;
    limit_time(walk.file_bytes + count * width, walk.stretch);
    walk.memory.allow(most_bytes);
    if (auto* values = static_cast<unsigned char*>(std::calloc(count, width))) {
        const bool done = read(type, values) >= 0;
        if (kind == H5T_STRING && H5Tis_variable_str(type) > 0)
            H5Dvlen_reclaim(type, space, H5P_DEFAULT, values);
        else if (done && kind != H5T_STRING)
            convert_some(type, values, count);
        std::free(values);
    }
    walk.memory.allow(0);
    limit_time(walk.file_bytes, walk.stretch);
}

herr_t probe_attribute(hid_t object, const char* name, const H5A_info_t*, void* data) {
    auto& walk = *static_cast<Walk*>(data);
    const hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
    if (attribute < 0) return 0;
    const hid_t type = H5Aget_type(attribute), space = H5Aget_space(attribute);
    if (type >= 0 && space >= 0)
        read_values(type, space, walk.file_bytes, walk,
                    [&](hid_t memory_type, void* values) { return H5Aread(attribute, memory_type, values); });
    H5Sclose(space);
    H5Tclose(type);
    H5Aclose(attribute);
    return 0;
}

void probe_dataset(hid_t dataset, Walk& walk) {
    const hid_t type = H5Dget_type(dataset), space = H5Dget_space(dataset), creation = H5Dget_create_plist(dataset);
    if (type >= 0 && space >= 0 && creation >= 0) {
        const bool external = H5Pget_external_count(creation) > 0 || H5Pget_layout(creation) == H5D_VIRTUAL;
        const hsize_t stored = H5Dget_storage_size(dataset);
        constexpr hsize_t most_expansion = 1100;
        const hsize_t most = H5Pget_nfilters(creation) > 0 ? stored * most_expansion : stored;
        // Readers ask no more of a file whose data cannot be all there.
        if (!external && stored <= walk.file_bytes)
            read_values(type, space, most, walk, [&](hid_t memory_type, void* values) {
                return H5Dread(dataset, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
            });
    }
    H5Pclose(creation);
    H5Sclose(space);
    H5Tclose(type);
}

herr_t probe_link(hid_t group, const char* name, const H5L_info_t* link, void* data) {
    auto& walk = *static_cast<Walk*>(data);
    H5O_info_t info;
    if (link->type != H5L_TYPE_HARD || H5Oget_info_by_name2(group, name, &info, H5O_INFO_BASIC, H5P_DEFAULT) < 0)
        return 0;
    if (!walk.seen.insert(info.addr).second) return 0;
    const hid_t object = H5Oopen(group, name, H5P_DEFAULT);
    if (object >= 0) {
        probe_object(object, walk);
        H5Oclose(object);
    }
    return 0;
}

void probe_object(hid_t object, Walk& walk) {
    H5Aiterate2(object, H5_INDEX_NAME, H5_ITER_INC, nullptr, probe_attribute, &walk);
    const H5I_type_t kind = H5Iget_type(object);
    if (kind == H5I_DATASET) probe_dataset(object, walk);
    if (kind == H5I_GROUP) H5Literate(object, H5_INDEX_NAME, H5_ITER_INC, nullptr, probe_link, &walk);
}

/// `access` with a cache of headers and heaps that stays small: every object is visited once, and of a file with thousands
/// of them the library would keep more than the child may have.
hid_t with_small_cache(hid_t access) {
    const hid_t list = H5Pcopy(access);
    H5AC_cache_config_t cache{};
    cache.version = H5AC__CURR_CACHE_CONFIG_VERSION;
    if (H5Pget_mdc_config(list, &cache) < 0) return list;
    cache.set_initial_size = true;
    cache.initial_size = cache.min_size = cache.max_size = std::size_t{1} << 20;
    cache.incr_mode = H5C_incr__off;
    cache.flash_incr_mode = H5C_flash_incr__off;
    cache.decr_mode = H5C_decr__off;
    H5Pset_mdc_config(list, &cache);
    return list;
}

void probe_file(const std::string& path, hid_t access, hsize_t file_bytes, unsigned stretch) {
    Walk walk{file_bytes, stretch, MemoryLimit(file_bytes), {}};
    if (H5Fis_hdf5(path.c_str()) <= 0) return;
    const hid_t list = with_small_cache(access), file = H5Fopen(path.c_str(), H5F_ACC_RDONLY, list);
    if (file >= 0) {
        const hid_t root = H5Oopen(file, "/", H5P_DEFAULT);
        if (root >= 0) probe_object(root, walk);
        H5Oclose(root);
        H5Fclose(file);
    }
    H5Pclose(list);
}

/// Lets a child go through the file; how it ended, as waitpid says it. `stretch` stretches the limit on its processor time.
int end_of_child(const std::string& path, hid_t access, hsize_t bytes, unsigned patience_seconds, unsigned stretch) {
    constexpr int fine = 0;
    const pid_t child = ::fork();
    if (child < 0) return fine;  // a check that cannot be made stops nobody
    if (child == 0) {
        for (const int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGPROF, SIGALRM}) ::signal(number, SIG_DFL);
        const rlimit no_dump{0, 0};
        ::setrlimit(RLIMIT_CORE, &no_dump);
        limit_time(bytes, stretch);
        // Where it only waits, no processor time runs out.
        ::alarm(patience_seconds + static_cast<unsigned>(bytes >> 20));
        probe_file(path, access, bytes, stretch);
        ::_exit(0);
    }
    int result = 0;
    pid_t ended = 0;
    while ((ended = ::waitpid(child, &result, 0)) < 0 && errno == EINTR) {
    }
    return ended == child ? result : fine;
}

bool ended_by(int result, int signal) { return WIFSIGNALED(result) && WTERMSIG(result) == signal; }

}  // namespace

void probe(const std::string& path, hid_t access, unsigned patience_seconds) {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) return;
    const auto bytes = static_cast<hsize_t>(status.st_size);
    int result = end_of_child(path, access, bytes, patience_seconds, 1);
    // A machine that is halted or emulated charges its programs time that they did not compute: whole files get a second try.
    if (ended_by(result, SIGPROF)) result = end_of_child(path, access, bytes, patience_seconds, 10);
    if (ended_by(result, SIGALRM)) return;
    if (ended_by(result, SIGPROF)) fail(path, ": damaged HDF5 file: the HDF5 library does not come to an end with it");
    if (WIFEXITED(result) && WEXITSTATUS(result) == exit_no_memory)
        fail(path, ": the HDF5 library needs more memory for it than its contents can (damaged HDF5 file?)");
    require(WIFEXITED(result) && WEXITSTATUS(result) == 0, path, ": damaged HDF5 file: the HDF5 library crashes on it");
}

}  // namespace bitloom::hdf5
