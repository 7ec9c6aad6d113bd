#pragma once
// A small typed view of HDF5 files (the format of checkpoints, imports and golden vectors).

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/tensor.h"

namespace bitloom::hdf5 {

/// An open file. HDF5's own messages are silenced; every failure is an Error that names the file and the object.
/// Thread-safe through one lock, as Debian's library is not.
class File {
   public:
    static File open(const std::string& path);    ///< for reading
    static File create(const std::string& path);  ///< truncates
    ~File();
    File(File&&) noexcept;
    File& operator=(File&&) noexcept;

    const std::string& path() const;
    /// Names of the datasets below `group`, full paths without leading slash, depth-first in name order.
    std::vector<std::string> datasets(std::string_view group = "") const;
    /// Names of the groups directly below `group`.
    std::vector<std::string> groups(std::string_view group = "") const;
    bool has(std::string_view object) const;
    Shape shape(std::string_view dataset) const;  ///< [] for a scalar

    /// Any numeric dataset (f16, f32, f64, i8..i64, u8..) converted to `dtype`. Throws Error where the size in the file
    /// disagrees with the data or exceeds memory.
    Tensor read(std::string_view dataset, DType dtype = DType::f32) const;
    std::vector<std::int64_t> read_i64(std::string_view dataset) const;
    std::vector<double> read_f64(std::string_view dataset) const;
    /// Fixed- and variable-length strings alike.
    std::vector<std::string> read_strings(std::string_view dataset) const;

    /// Attributes of an object ("" is the root): numbers as doubles, a scalar as one value; strings.
    bool has_attribute(std::string_view object, std::string_view name) const;
    std::vector<double> attribute_f64(std::string_view object, std::string_view name) const;
    std::string attribute_string(std::string_view object, std::string_view name) const;
    std::vector<std::string> attribute_strings(std::string_view object, std::string_view name) const;

    /// Writing; parent groups are made as needed. Slashes in a name separate groups.
    void write(std::string_view dataset, const Tensor& value);
    void write_i64(std::string_view dataset, const std::vector<std::int64_t>& values);
    void write_f64(std::string_view dataset, const std::vector<double>& values);
    void write_strings(std::string_view dataset, const std::vector<std::string>& values);
    void write_attribute(std::string_view object, std::string_view name, double value);
    void write_attribute(std::string_view object, std::string_view name, const std::string& value);
    void write_attribute(std::string_view object, std::string_view name, const std::vector<double>& values);
    /// Flushes and closes; errors (full disk) throw, where the destructor would swallow them.
    void close();

   private:
    struct Handle;
    explicit File(std::unique_ptr<Handle> handle);
    std::unique_ptr<Handle> handle_;
};

}  // namespace bitloom::hdf5
