#include "engine/tensor.h"

#include <atomic>
#include <cstring>
#include <mutex>

#include "engine/allocator.h"
#include "engine/kernels.h"

namespace bitloom {

struct Storage {
    std::atomic<std::int64_t> references{1};
    std::uint64_t id = 0;
    std::uint64_t version = 0;
    void* memory = nullptr;
    std::size_t bytes = 0;
    Device device;
    CachingAllocator* allocator = nullptr;  // to which the memory goes back; null where someone else owns it
};

namespace {

/// Headers are recycled: a steady-state step calls operator new for none.
class StoragePool {
   public:
    Storage* take() {
        std::lock_guard lock(mutex_);
        if (free_.empty()) {
            if (free_.capacity() <= made_) free_.reserve(2 * made_ + 1);
            ++made_;
            return new Storage;
        }
        Storage* s = free_.back();
        free_.pop_back();
        return s;
    }
    void give(Storage* s) {
        std::lock_guard lock(mutex_);
        free_.push_back(s);
    }

   private:
    std::mutex mutex_;
    std::vector<Storage*> free_;  // has room for all that were made, so that giving one back allocates nothing
    std::size_t made_ = 0;
};

StoragePool& storage_pool() {
    static auto* pool = new StoragePool;
    return *pool;
}

Storage* new_storage(Device device, void* memory, std::size_t bytes, CachingAllocator* allocator) {
    static std::atomic<std::uint64_t> next_id{1};
    Storage* s = storage_pool().take();
    s->references.store(1, std::memory_order_relaxed);
    s->id = next_id.fetch_add(1, std::memory_order_relaxed);
    s->version = 0;
    s->memory = memory;
    s->bytes = bytes;
    s->device = device;
    s->allocator = allocator;
    return s;
}

void release(Storage* s) {
    if (!s || s->references.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    if (s->allocator) s->allocator->release(s->memory, s->bytes);
    storage_pool().give(s);
}

}  // namespace

Tensor::Tensor(const Tensor& other)
    : storage_(other.storage_), offset_(other.offset_), shape_(other.shape_), dtype_(other.dtype_) {
    if (storage_) storage_->references.fetch_add(1, std::memory_order_relaxed);
}
Tensor::Tensor(Tensor&& other) noexcept
    : storage_(std::exchange(other.storage_, nullptr)), offset_(other.offset_), shape_(other.shape_), dtype_(other.dtype_) {}
Tensor& Tensor::operator=(Tensor other) noexcept {
    std::swap(storage_, other.storage_);
    offset_ = other.offset_;
    shape_ = other.shape_;
    dtype_ = other.dtype_;
    return *this;
}
Tensor::~Tensor() { release(storage_); }

namespace {

/// Extents whose product overflows would get a few bytes, and whoever fills them writes past these.
void check_size(const Shape& shape, DType dtype) {
    constexpr std::int64_t most = std::int64_t{1} << 60;
    std::int64_t bytes = static_cast<std::int64_t>(size_of(dtype));
    bool fits = true;
    for (const std::int64_t extent : shape.extents()) fits = !__builtin_mul_overflow(bytes, extent, &bytes) && bytes <= most && fits;
    require(fits, "tensor: shape ", shape, " is larger than any memory");
}

}  // namespace

Tensor Tensor::empty(const Shape& shape, DType dtype, Device device) {
    check_size(shape, dtype);
    Tensor t;
    t.shape_ = shape;
    t.dtype_ = dtype;
    const std::size_t bytes = t.bytes();
    CachingAllocator& allocator = allocator_of(device);
    t.storage_ = new_storage(device, allocator.allocate(bytes), bytes, &allocator);
    return t;
}

Tensor Tensor::full(const Shape& shape, double value, DType dtype, Device device) {
    Tensor t = empty(shape, dtype, device);
    t.fill(value);
    return t;
}

Tensor Tensor::zeros(const Shape& shape, DType dtype, Device device) { return full(shape, 0.0, dtype, device); }

Tensor Tensor::wrap(const Shape& shape, DType dtype, void* memory, Device device) {
    require(device.is_host(), "tensor: only host memory can be wrapped, not ", device);
    Tensor t;
    t.shape_ = shape;
    t.dtype_ = dtype;
    t.storage_ = new_storage(device, memory, t.bytes(), nullptr);
    return t;
}

template <class T>
Tensor Tensor::from(const Shape& shape, std::span<const T> values, Device device) {
    require(static_cast<std::int64_t>(values.size()) == shape.numel(), "tensor: shape ", shape, " needs ", shape.numel(),
            " values, got ", values.size());
    const Device host = device.is_host() ? device : cpu_device;
    Tensor t = empty(shape, dtype_of<T>(), host);
    if (!values.empty()) std::memcpy(t.raw_write(), values.data(), t.bytes());
    return t.to(device);
}

Device Tensor::device() const {
    require(defined(), "tensor: used before it was given a value");
    return storage_->device;
}
const void* Tensor::raw() const {
    require(defined(), "tensor: read before it was given a value");
    return static_cast<const char*>(storage_->memory) + offset_;
}
void* Tensor::raw_write() {
    require(defined(), "tensor: written before it was given memory");
    ++storage_->version;
    return static_cast<char*>(storage_->memory) + offset_;
}
std::uint64_t Tensor::id() const { return storage_ ? storage_->id : 0; }
std::uint64_t Tensor::version() const { return storage_ ? storage_->version : 0; }
bool Tensor::unique() const { return storage_ && storage_->references.load(std::memory_order_acquire) == 1; }

void Tensor::check_type(DType wanted) const {
    require(wanted == dtype_, "tensor: read as ", name_of(wanted), " but it holds ", name_of(dtype_));
}

Tensor Tensor::reshape(const Shape& shape) const {
    require(shape.numel() == numel(), "reshape: ", shape_, " has ", numel(), " elements, ", shape, " has ", shape.numel());
    Tensor t = *this;
    t.shape_ = shape;
    return t;
}

Tensor Tensor::rows(std::int64_t first, std::int64_t count) const {
    require(rank() >= 1 && first >= 0 && count >= 0 && first + count <= dim(0), "rows: [", first, ", ", first + count,
            ") of a tensor of shape ", shape_);
    Tensor t = *this;
    t.offset_ += static_cast<std::size_t>(first * shape_.product(1, rank())) * size_of(dtype_);
    t.shape_.set(0, count);
    return t;
}

Tensor Tensor::clone() const {
    Tensor t = empty_like(*this);
    t.copy_from(*this);
    return t;
}

Tensor Tensor::to(Device device) const {
    if (this->device() == device) return *this;
    Tensor t = empty(shape_, dtype_, device);
    t.copy_from(*this);
    return t;
}

Tensor Tensor::to(DType dtype) const {
    if (dtype_ == dtype) return *this;
    Tensor t = empty(shape_, dtype, device());
    t.copy_from(*this);
    return t;
}

void Tensor::copy_from(const Tensor& source) {
    require(source.shape() == shape_, "copy: source has shape ", source.shape(), ", target ", shape_);
    if (numel() == 0) return;
    if (source.dtype_ != dtype_) {
        const Device where = source.device();
        if (device() == where) {
            engine_kernels(where).cast(source, *this);
        } else {
            copy_from(source.to(dtype_));
        }
        return;
    }
    if (device().is_host() && source.device().is_host()) {
        std::memcpy(raw_write(), source.raw(), bytes());
    } else {
        const Device gpu = device().is_host() ? source.device() : device();
        engine_kernels(gpu).copy_bytes(source, *this);
    }
}

void Tensor::fill(double value) {
    if (numel() != 0) engine_kernels(device()).fill(*this, value);
}

template <class T>
std::vector<T> Tensor::values() const {
    const Tensor host = (device().is_host() ? *this : to(cpu_device)).to(dtype_of<T>());
    const T* first = host.read<T>();
    return std::vector<T>(first, first + numel());
}

double Tensor::item() const {
    require(numel() == 1, "item: the tensor has shape ", shape_, ", not one element");
    return values<double>()[0];
}

#define BITLOOM_INSTANTIATE(T)                                                      \
    template Tensor Tensor::from<T>(const Shape&, std::span<const T>, Device); \
    template std::vector<T> Tensor::values<T>() const;
BITLOOM_INSTANTIATE(float)
BITLOOM_INSTANTIATE(double)
BITLOOM_INSTANTIATE(bf16)
BITLOOM_INSTANTIATE(std::int32_t)
BITLOOM_INSTANTIATE(std::int8_t)
BITLOOM_INSTANTIATE(std::uint8_t)
#undef BITLOOM_INSTANTIATE

}  // namespace bitloom
