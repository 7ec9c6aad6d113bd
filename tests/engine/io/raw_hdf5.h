#pragma once
// Files that hdf5::File itself never writes.

#include <gtest/gtest.h>
#include <hdf5.h>

#include <string>
#include <vector>

namespace bitloom {

/// A file written through the plain C API.
class RawFile {
   public:
    explicit RawFile(const std::string& path) : id_(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT)) {}
    ~RawFile() { H5Fclose(id_); }
    operator hid_t() const { return id_; }

    void dataset(const char* name, hid_t type, hid_t memory_type, std::vector<hsize_t> extents, const void* values,
                 hid_t creation = H5P_DEFAULT) {
        const hid_t space = extents.empty()
                                ? H5Screate(H5S_SCALAR)
                                : H5Screate_simple(static_cast<int>(extents.size()), extents.data(), nullptr);
        const hid_t id = H5Dcreate2(id_, name, type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
        ASSERT_GE(id, 0) << name;
        if (values) {
            ASSERT_GE(H5Dwrite(id, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values), 0);
        }
        H5Dclose(id);
        H5Sclose(space);
    }
    void attribute(const char* name, hid_t type, std::vector<hsize_t> extents, const void* values) {
        const hid_t space = extents.empty()
                                ? H5Screate(H5S_SCALAR)
                                : H5Screate_simple(static_cast<int>(extents.size()), extents.data(), nullptr);
        const hid_t id = H5Acreate2(id_, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
        ASSERT_GE(H5Awrite(id, type, values), 0);
        H5Aclose(id);
        H5Sclose(space);
    }

   private:
    hid_t id_;
};

}  // namespace bitloom
