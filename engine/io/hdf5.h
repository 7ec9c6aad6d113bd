#pragma once
// A small typed view of HDF5 files (the format of checkpoints, imports and golden vectors).

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/tensor.h"

namespace bitloom::hdf5 {

/// An open file. HDF5's own messages are silenced; every failure is an Error that names the file and the object
/// ("weights.h5: 'conv1.weight': no such object"). Thread-safe through one lock, whether or not the library is.
class File {
public:
    /// For reading. Errors: "FILE: No such file or directory", "FILE: not an HDF5 file".
    static File open(const std::string& path);
    /// For writing. The content is gathered in memory; `close` (or the destructor, unless an exception is on its way)
    /// writes it to `path` by write_file_atomically. Equal contents make equal bytes.
    static File create(const std::string& path);
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
    /// The dtype that holds the stored values: f16 is f32; i16 and u16 are i32; u32, i64 and u64 are f64.
    DType dtype(std::string_view dataset) const;

    /// Any numeric dataset (f16, f32, f64, i8..i64, u8..) converted to `dtype`. Throws Error where the size in the file
    /// disagrees with the data or exceeds memory, and where an integer `dtype` cannot hold a value (nothing is
    /// clipped).
    Tensor read(std::string_view dataset, DType dtype = DType::f32) const;
    std::vector<std::int64_t> read_i64(std::string_view dataset) const;
    std::vector<double> read_f64(std::string_view dataset) const;
    /// Fixed- and variable-length strings alike.
    std::vector<std::string> read_strings(std::string_view dataset) const;

    /// Attributes of an object ("" is the root): numbers as doubles, a scalar as one value; strings. A missing one is
    /// an Error.
    bool has_attribute(std::string_view object, std::string_view name) const;
    /// Names in order of the alphabet.
    std::vector<std::string> attributes(std::string_view object) const;
    /// True where it holds strings, false for numbers and whatever else.
    bool attribute_is_text(std::string_view object, std::string_view name) const;
    std::vector<double> attribute_f64(std::string_view object, std::string_view name) const;
    std::string attribute_string(std::string_view object, std::string_view name) const;
    std::vector<std::string> attribute_strings(std::string_view object, std::string_view name) const;

    /// Writing; parent groups are made as needed. Slashes in a name separate groups. An attribute is replaced, a
    /// dataset that exists is an Error.
    void write(std::string_view dataset, const Tensor& value);
    void write_i64(std::string_view dataset, const std::vector<std::int64_t>& values);
    void write_f64(std::string_view dataset, const std::vector<double>& values);
    void write_strings(std::string_view dataset, const std::vector<std::string>& values);
    void write_attribute(std::string_view object, std::string_view name, double value);
    void write_attribute(std::string_view object, std::string_view name, const std::string& value);
    void write_attribute(std::string_view object, std::string_view name, const std::vector<double>& values);
    void write_attribute(std::string_view object, std::string_view name, const std::vector<std::string>& values);
    void write_attribute_i64(std::string_view object, std::string_view name, std::int64_t value);
    /// Writes the file out and closes it; errors (full disk) throw, where the destructor would swallow them.
    void close();

    struct Handle;  ///< private to the implementation

private:
    explicit File(std::unique_ptr<Handle> handle);
    std::unique_ptr<Handle> handle_;
};

}  // namespace bitloom::hdf5
