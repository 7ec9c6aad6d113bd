#pragma once
// Tensor: a value-semantic handle on contiguous memory of one device.

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "engine/device.h"
#include "engine/dtype.h"
#include "engine/shape.h"

namespace bitloom {

struct Storage;  // reference-counted block of memory (tensor.cpp)

/// Copying a Tensor copies the handle; `clone` copies the data. Always contiguous, row-major; the only view is a run of
/// the leading axis. Every access for writing raises the storage's version, under which derived data may be cached.
/// Storage headers are pooled and blocks cached, so creating a tensor in a steady-state step asks the system for nothing.
class Tensor {
   public:
    Tensor() = default;
    Tensor(const Tensor& other);
    Tensor(Tensor&& other) noexcept;
    Tensor& operator=(Tensor other) noexcept;
    ~Tensor();

    /// Uninitialised memory. Throws Error when there is none.
    static Tensor empty(const Shape& shape, DType dtype = DType::f32, Device device = cpu_device);
    static Tensor full(const Shape& shape, double value, DType dtype = DType::f32, Device device = cpu_device);
    static Tensor zeros(const Shape& shape, DType dtype = DType::f32, Device device = cpu_device);
    /// Uninitialised, with shape, dtype and device of `like`.
    static Tensor empty_like(const Tensor& like) { return empty(like.shape(), like.dtype(), like.device()); }
    static Tensor zeros_like(const Tensor& like) { return zeros(like.shape(), like.dtype(), like.device()); }
    /// Copies host values. Throws Error where their number is not the shape's.
    template <class T>
    static Tensor from(const Shape& shape, std::span<const T> values, Device device = cpu_device);
    template <class T>
    static Tensor from(const Shape& shape, const std::vector<T>& values, Device device = cpu_device) {
        return from<T>(shape, std::span<const T>(values), device);
    }
    /// Memory that someone else owns and keeps alive (a test's guarded buffer, a mapped file); host devices only.
    static Tensor wrap(const Shape& shape, DType dtype, void* memory, Device device = cpu_device);

    bool defined() const { return storage_ != nullptr; }
    explicit operator bool() const { return defined(); }
    const Shape& shape() const { return shape_; }
    std::int64_t dim(int axis) const { return shape_[axis]; }
    int rank() const { return shape_.rank(); }
    std::int64_t numel() const { return shape_.numel(); }
    std::size_t bytes() const { return static_cast<std::size_t>(numel()) * size_of(dtype_); }
    DType dtype() const { return dtype_; }
    Device device() const;

    /// Typed memory for reading. Throws Error where T is not the dtype. (A device pointer on CUDA.)
    template <class T>
    const T* read() const {
        check_type(dtype_of<T>());
        return static_cast<const T*>(raw());
    }
    /// Typed memory for writing; raises the version.
    template <class T>
    T* write() {
        check_type(dtype_of<T>());
        return static_cast<T*>(raw_write());
    }
    const void* raw() const;
    void* raw_write();

    /// Identity of the storage: unique over the program's life, so (id, version) names its content.
    std::uint64_t id() const;
    std::uint64_t version() const;
    /// True where no other Tensor shares the storage, so that it may be overwritten.
    bool unique() const;
    bool shares_storage(const Tensor& other) const { return storage_ && storage_ == other.storage_; }

    /// Same storage, other shape of equally many elements.
    Tensor reshape(const Shape& shape) const;
    /// Rows [first, first + count) of the leading axis, same storage.
    Tensor rows(std::int64_t first, std::int64_t count) const;
    Tensor clone() const;
    /// A copy on another device or of another dtype; the same handle where neither differs.
    Tensor to(Device device) const;
    Tensor to(DType dtype) const;
    void copy_from(const Tensor& source);  ///< same shape; device and dtype may differ
    void fill(double value);

    /// Host copy of the values as T, whatever the dtype and device.
    template <class T>
    std::vector<T> values() const;
    /// The one value of a tensor with one element. Throws Error otherwise.
    double item() const;

   private:
    void check_type(DType wanted) const;
    Storage* storage_ = nullptr;
    std::size_t offset_ = 0;  // bytes
    Shape shape_;
    DType dtype_ = DType::f32;
};

}  // namespace bitloom
