#pragma once
// Private to hdf5.cpp and hdf5_write.cpp: the lock, owned identifiers, error text.

#include <hdf5.h>

#include <cstdlib>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "engine/dtype.h"
#include "engine/error.h"
#include "engine/io/hdf5.h"

namespace bitloom::hdf5 {

/// Held wherever HDF5 is called: releasing an identifier is a call too. The library's own lock does not do, even where
/// it was built thread-safe: `probe` forks, and the child would wait for ever for a lock that another thread held just
/// then. HDF5's own printing is switched off each time: the switch is a thread's own.
class Lock {
   public:
    Lock() : guard_(mutex()) {
        H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
        H5Eclear2(H5E_DEFAULT);
    }

   private:
    static std::mutex& mutex() {
        static std::mutex instance;
        return instance;
    }
    std::lock_guard<std::mutex> guard_;
};

/// What HDF5 says about the last failure: its innermost message, or the system's where a system call failed.
std::string reason();

/// An identifier, closed by its type's own function.
class Id {
   public:
    Id() = default;
    /// `who` and `what` make the error message where `id` is invalid: "FILE: dataset 'x': reason".
    Id(hid_t id, herr_t (*close)(hid_t), const std::string& who) : id_(id), close_(close) {
        if (id_ < 0) fail(who, ": ", reason());
    }
    Id(Id&& other) noexcept : id_(std::exchange(other.id_, -1)), close_(other.close_) {}
    Id& operator=(Id&& other) noexcept {
        std::swap(id_, other.id_);
        std::swap(close_, other.close_);
        return *this;
    }
    ~Id() {
        if (id_ >= 0) close_(id_);
    }
    operator hid_t() const { return id_; }
    bool valid() const { return id_ >= 0; }
    /// Gives up the identifier and reports whether closing it worked.
    bool close() { return close_(std::exchange(id_, -1)) >= 0; }

   private:
    hid_t id_ = -1;
    herr_t (*close_)(hid_t) = nullptr;
};

/// Throws "WHO: reason" where an HDF5 call returned a negative status.
inline void check(herr_t status, const std::string& who) {
    if (status < 0) fail(who, ": ", reason());
}

/// Names an object in messages: "FILE: 'a/b'", or "FILE" for the root.
std::string label(const std::string& path, std::string_view object);

/// The HDF5 type of a tensor's elements in memory and in files. bf16 is an 8-bit-exponent, 7-bit-mantissa float type
/// that HDF5 converts by itself.
Id type_of(DType dtype);

/// Throws Error where the library would crash on a file, never come back from it, or want much more memory than its
/// contents can need. `access` as for H5Fopen; the caller holds the Lock. `patience_seconds` end a check that stands
/// still, as it may where another part of the program calls HDF5 without the Lock; the file is then taken as it is.
void probe(const std::string& path, hid_t access, unsigned patience_seconds = 60);

/// True where every link of the path is there and leads to an object.
bool exists(hid_t file, std::string_view object);

/// The bytes of a file that is being built.
struct Image {
    void* memory = nullptr;
    Image() = default;
    Image(const Image&) = delete;
    Image& operator=(const Image&) = delete;
    ~Image() { std::free(memory); }
};

struct File::Handle {
    std::string path;
    Image image;  ///< before `file`: it must outlive it
    Id file;
    bool writing = false;
    int exceptions = 0;  ///< in flight when the file was created: more of them at the end mean it is abandoned
    Id dataset_creation, group_creation;
    std::set<std::string> groups_made;

    Id open_object(std::string_view object) const;
    Id open_dataset(std::string_view dataset) const;
};

}  // namespace bitloom::hdf5
