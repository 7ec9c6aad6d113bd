#pragma once
// Tensor shapes: up to eight extents, stored inline so that no step allocates for them.

#include <array>
#include <cstdint>
#include <initializer_list>
#include <ostream>
#include <span>
#include <string>

#include "engine/error.h"

namespace bitloom {

class Shape {
   public:
    static constexpr int max_rank = 8;

    Shape() = default;
    Shape(std::initializer_list<std::int64_t> extents) : Shape(std::span<const std::int64_t>(extents.begin(), extents.size())) {}
    explicit Shape(std::span<const std::int64_t> extents) {
        require(extents.size() <= max_rank, "shape: rank ", extents.size(), " exceeds ", max_rank);
        for (std::int64_t e : extents) append(e);
    }

    int rank() const { return rank_; }
    /// Number of elements; 1 for a scalar.
    std::int64_t numel() const {
        std::int64_t n = 1;
        for (int i = 0; i < rank_; ++i) n *= extents_[i];
        return n;
    }
    /// Extent of an axis; negative axes count from the end.
    std::int64_t operator[](int axis) const { return extents_[normalize(axis)]; }
    void set(int axis, std::int64_t extent) {
        require(extent >= 0, "shape: negative extent ", extent);
        extents_[normalize(axis)] = extent;
    }
    void append(std::int64_t extent) {
        require(rank_ < max_rank, "shape: rank exceeds ", max_rank);
        require(extent >= 0, "shape: negative extent ", extent);
        extents_[rank_++] = extent;
    }
    /// Axis index in [0, rank) of a possibly negative axis.
    int normalize(int axis) const {
        const int a = axis < 0 ? axis + rank_ : axis;
        require(a >= 0 && a < rank_, "shape: axis ", axis, " out of range for rank ", rank_);
        return a;
    }
    /// Product of the extents in [first, last).
    std::int64_t product(int first, int last) const {
        std::int64_t n = 1;
        for (int i = first; i < last; ++i) n *= extents_[i];
        return n;
    }
    const std::int64_t* begin() const { return extents_.data(); }
    const std::int64_t* end() const { return extents_.data() + rank_; }
    std::span<const std::int64_t> extents() const { return {begin(), end()}; }

    bool operator==(const Shape& other) const {
        if (rank_ != other.rank_) return false;
        for (int i = 0; i < rank_; ++i)
            if (extents_[i] != other.extents_[i]) return false;
        return true;
    }

   private:
    std::array<std::int64_t, max_rank> extents_{};
    int rank_ = 0;
};

inline std::ostream& operator<<(std::ostream& out, const Shape& shape) {
    out << '[';
    for (int i = 0; i < shape.rank(); ++i) out << (i ? ", " : "") << shape[i];
    return out << ']';
}

}  // namespace bitloom
