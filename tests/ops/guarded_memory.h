#pragma once
// Tensors in memory with guard zones, to catch kernels that write or read beyond their operands.

#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <list>
#include <memory>
#include <string>

#include "engine/random.h"
#include "engine/tensor.h"

namespace bitloom::ops::test {

/// Makes the operands of one kernel call. Guard zones and unwritten outputs hold bytes 0xff: NaN in all floating-point
/// types, so that a stray read that matters shows up in a result; -1 and 255 in the integer types, which no kernel
/// writes.
class GuardedMemory {
public:
    /// With `misaligned`, tensors start one element behind a 64-byte boundary, as a view by Tensor::rows may.
    GuardedMemory(DType dtype, Device device, bool misaligned)
        : dtype_(dtype), device_(device), misaligned_(misaligned) {}

    /// An input of the given values in [low, high].
    Tensor& input(const Shape& shape, double low = -2, double high = 2) { return input(shape, dtype_, low, high); }
    /// An input that stays f32 beside bf16 activations.
    Tensor& parameter(const Shape& shape, double low = -2, double high = 2) {
        return input(shape, parameter_dtype(dtype_), low, high);
    }
    /// An input of indices i * 5 % bound.
    template <class T>
    Tensor& indices(const Shape& shape, std::int64_t bound) {
        Block& block = add(shape, dtype_of<T>());
        T* out = block.tensor.template write<T>();
        for (std::int64_t i = 0; i < shape.numel(); ++i) out[i] = static_cast<T>(i * 5 % bound);
        return seal(block);
    }
    Tensor& output(const Shape& shape) { return add(shape, dtype_).tensor; }
    Tensor& output(const Shape& shape, DType dtype) { return add(shape, dtype).tensor; }
    Tensor& parameter_gradient(const Shape& shape) { return output(shape, parameter_dtype(dtype_)); }

    /// Expects untouched guards and inputs, and outputs written from the first element to the last.
    void verify() const {
        for (const Block& block : blocks_) {
            SCOPED_TRACE(
                cat(block.is_input ? "input" : "output", " ", block.number, " of shape ", block.tensor.shape()));
            const std::byte* payload = static_cast<const std::byte*>(block.tensor.raw());
            const std::byte* begin = block.memory.get();
            const std::byte* end = payload + block.tensor.bytes();
            EXPECT_TRUE(untouched(begin, payload)) << "written before the first element";
            EXPECT_TRUE(untouched(end, begin + block.size)) << "written behind the last element";
            if (block.is_input) {
                EXPECT_EQ(std::memcmp(payload, block.original.data(), block.original.size()), 0)
                    << "an input was changed";
                continue;
            }
            const std::size_t size = size_of(block.tensor.dtype());
            int reported = 0;
            for (std::int64_t i = 0; i < block.tensor.numel() && reported < 5; ++i) {
                const std::byte* element = payload + static_cast<std::size_t>(i) * size;
                if (!untouched(element, element + size) && !is_nan(block.tensor, i)) continue;
                ++reported;
                ADD_FAILURE() << "element " << i << " was not written, or computed from memory beyond an input";
            }
        }
    }

private:
    Tensor& input(const Shape& shape, DType dtype, double low, double high) {
        Block& block = add(shape, dtype);
        Tensor values = Tensor::empty(shape, parameter_dtype(dtype), device_);
        fill_uniform(values, low, high, rng_);
        block.tensor.copy_from(values);
        return seal(block);
    }
    static constexpr std::size_t guard_bytes = 512;
    struct Free {
        void operator()(std::byte* p) const { std::free(p); }
    };
    struct Block {
        std::unique_ptr<std::byte, Free> memory;
        std::size_t size = 0;
        Tensor tensor;
        int number = 0;
        bool is_input = false;
        std::string original;
    };

    static bool untouched(const std::byte* first, const std::byte* last) {
        for (; first != last; ++first)
            if (*first != std::byte{0xff}) return false;
        return true;
    }
    static bool is_nan(const Tensor& t, std::int64_t i) {
        if (t.dtype() == DType::f32) return std::isnan(t.read<float>()[i]);
        if (t.dtype() == DType::bf16) return std::isnan(static_cast<float>(t.read<bf16>()[i]));
        return t.dtype() == DType::f64 && std::isnan(t.read<double>()[i]);
    }

    Block& add(const Shape& shape, DType dtype) {
        Block& block = blocks_.emplace_back();
        const std::size_t bytes = static_cast<std::size_t>(shape.numel()) * size_of(dtype);
        block.size = (2 * guard_bytes + bytes + 64 + 63) / 64 * 64;
        block.memory.reset(static_cast<std::byte*>(std::aligned_alloc(64, block.size)));
        std::memset(block.memory.get(), 0xff, block.size);
        block.tensor =
            Tensor::wrap(shape, dtype, block.memory.get() + guard_bytes + (misaligned_ ? size_of(dtype) : 0), device_);
        block.number = static_cast<int>(blocks_.size()) - 1;
        return block;
    }
    static Tensor& seal(Block& block) {
        block.is_input = true;
        block.original.assign(static_cast<const char*>(block.tensor.raw()), block.tensor.bytes());
        return block.tensor;
    }

    DType dtype_;
    Device device_;
    bool misaligned_;
    std::list<Block> blocks_;  // references stay valid
    Rng rng_{23, "guarded memory"};
};

}  // namespace bitloom::ops::test
