#include "apps/common/kernel_tap.h"

#include "engine/random.h"

namespace bitloom {

namespace {

/// Doubles of a step in f32 are sums that every kernel keeps in double.
DType replayed_dtype(const Tensor& original, const Replay& replay) {
    if (original.dtype() == DType::f64) return DType::f64;
    return is_floating(original.dtype()) && replay.dtype != DType::u8 ? replay.dtype : original.dtype();
}

/// -3 ... 3, the same for the same shape and place.
Tensor small_integers(const Shape& shape) {
    std::vector<float> values(static_cast<std::size_t>(shape.numel()));
    Rng rng(static_cast<std::uint64_t>(shape.numel()), "small integers");
    for (float& value : values) value = static_cast<float>(rng.below(7)) - 3;
    return Tensor::from(shape, values);
}

}  // namespace

Tensor replayed_input(const Tensor& original, const Replay& replay) {
    const Tensor values =
        replay.integers && is_floating(original.dtype()) ? small_integers(original.shape()) : original.clone();
    return values.to(cpu_device).to(replayed_dtype(original, replay)).to(replay.device);
}

Tensor replayed_output(const Tensor& original, const Replay& replay) {
    return Tensor::full(original.shape(), 77, replayed_dtype(original, replay)).to(replay.device);
}

}  // namespace bitloom
