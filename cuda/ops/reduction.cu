// Sums and maxima over any set of axes. The reduced elements of an output are cut into runs, one a block; where there is
// more than one, a second kernel joins their results in order. The cut depends on the shape alone.

#include "cuda/ops/elements.cuh"
#include "cuda/ops/kernels.h"
#include "cuda/ops/strided.cuh"

namespace bitloom::cuda {

namespace {

struct Sum {
    struct Value {
        float sum;
    };
    __device__ static Value none() { return {0}; }
    __device__ static Value of(float v, std::int32_t) { return {v}; }
    __device__ static Value join(Value a, Value b) { return {a.sum + b.sum}; }
};

/// The first maximum: NaN wins at the first position and nowhere else, as in a loop that starts there and takes what is
/// greater.
struct Maximum {
    struct Value {
        float value;
        std::int32_t position;
    };
    static constexpr std::int32_t nowhere = 0x7fffffff;
    __device__ static Value none() { return {0, nowhere}; }
    __device__ static Value of(float v, std::int32_t position) {
        return v == v || position == 0 ? Value{v, position} : none();
    }
    __device__ static Value join(Value a, Value b) {
        if (a.position == nowhere) return b;
        if (b.position == nowhere) return a;
        if (a.value == b.value) return a.position < b.position ? a : b;
        if (a.value != a.value || b.value != b.value) return a.position == 0 ? a : b;
        return a.value > b.value ? a : b;
    }
};

/// Where the elements of a reduction lie: `kept` leads from an output to its first element, `reduced` from there to the
/// others, in the order of their positions.
template <class Index>
struct Layout {
    Odometer<Index> kept, reduced;
    std::int64_t run;  ///< reduced elements of one block
};

constexpr int columns_of(bool inner_reduced) { return inner_reduced ? 1 : 32; }
constexpr int slices_of(bool inner_reduced) { return threads_per_block / columns_of(inner_reduced); }

/// Grid: outputs / columns x runs. A block takes `columns` neighbouring outputs, with `slices` threads each that step
/// through the run: neighbouring threads so read neighbouring elements, be the innermost axis kept or reduced.
template <class R, bool inner_reduced, class Index, class T>
__global__ void reduce_kernel(Layout<Index> layout, const T* x, typename R::Value* partial) {
    using Value = typename R::Value;
    constexpr int columns = columns_of(inner_reduced), slices = slices_of(inner_reduced);
    __shared__ Value shared[slices][columns];
    const int column = static_cast<int>(threadIdx.x) % columns, slice = static_cast<int>(threadIdx.x) / columns;
    const std::int64_t outputs = layout.kept.count, groups = (outputs + columns - 1) / columns;
    const std::int64_t first = static_cast<std::int64_t>(blockIdx.y) * layout.run;
    const std::int64_t last = min(first + layout.run, layout.reduced.count);
    for (std::int64_t group = blockIdx.x; group < groups; group += gridDim.x) {
        const std::int64_t output = group * columns + column;
        Value value = R::none();
        if (output < outputs) {
            Index base, unused, offset;
            layout.kept.offsets(static_cast<Index>(output), base, unused);
            for (std::int64_t position = first + slice; position < last; position += slices) {
                layout.reduced.offsets(static_cast<Index>(position), offset, unused);
                value = R::join(value, R::of(widen(x[base + offset]), static_cast<std::int32_t>(position)));
            }
        }
        shared[slice][column] = value;
        __syncthreads();
        for (int half = slices / 2; half > 0; half /= 2) {
            if (slice < half) shared[slice][column] = R::join(shared[slice][column], shared[slice + half][column]);
            __syncthreads();
        }
        if (slice == 0 && output < outputs) partial[blockIdx.y * outputs + output] = shared[0][column];
        __syncthreads();
    }
}

template <class T>
__global__ void finish_sum_kernel(std::int64_t outputs, int runs, float factor, const Sum::Value* partial, T* y) {
    for (std::int64_t i = first_element(); i < outputs; i += element_stride()) {
        float sum = 0;
        for (int r = 0; r < runs; ++r) sum += partial[r * outputs + i].sum;
        y[i] = narrow<T>(sum * factor);
    }
}

template <class T>
__global__ void finish_maximum_kernel(std::int64_t outputs, int runs, const Maximum::Value* partial, T* y,
                                      std::int32_t* argmax) {
    for (std::int64_t i = first_element(); i < outputs; i += element_stride()) {
        Maximum::Value best = partial[i];
        for (int r = 1; r < runs; ++r) best = Maximum::join(best, partial[r * outputs + i]);
        y[i] = narrow<T>(best.value);
        if (argmax) argmax[i] = best.position;
    }
}

template <class Index, class T>
__global__ void maximum_backward_kernel(Odometer<Index> to_output, Odometer<Index> to_position, const T* dy,
                                        const std::int32_t* argmax, T* dx) {
    for (std::int64_t i = first_element(); i < to_output.count; i += element_stride()) {
        Index output, position, unused;
        to_output.offsets(static_cast<Index>(i), output, unused);
        to_position.offsets(static_cast<Index>(i), position, unused);
        dx[i] = static_cast<std::int32_t>(position) == argmax[output] ? dy[output] : narrow<T>(0.0f);
    }
}

/// The axes of x that stay and those that are reduced, each with its strides in x; and for each axis of x its stride in the
/// outputs and in the positions.
struct Split {
    Walk kept, reduced, to_output, to_position;
    bool inner_reduced = true;
};
Split split_axes(const Shape& shape, std::uint32_t axes) {
    const ops::Strides own = ops::row_major_strides(shape);
    ops::Strides output{}, position{};
    Split split;
    std::int64_t outputs = 1, positions = 1;
    for (int axis = shape.rank() - 1; axis >= 0; --axis) {
        const auto at = static_cast<std::size_t>(axis);
        const bool reduce = (axes >> axis & 1u) != 0;
        std::int64_t& stride = reduce ? positions : outputs;
        (reduce ? position : output)[at] = stride;
        stride *= shape[axis];
    }
    for (int axis = 0; axis < shape.rank(); ++axis) {
        const auto at = static_cast<std::size_t>(axis);
        const bool reduce = (axes >> axis & 1u) != 0;
        (reduce ? split.reduced : split.kept).append(shape[axis], own[at], 0);
        if (shape[axis] > 1) split.inner_reduced = reduce;
        split.to_output.append(shape[axis], output[at], 0);
        split.to_position.append(shape[axis], position[at], 0);
    }
    return split;
}

/// Blocks in all that a reduction is cut for, whatever the GPU, and reduced elements that are worth a thread.
constexpr std::int64_t wanted_blocks = 512, elements_per_thread = 8;

/// Reduces x into runs x outputs partial results. Calls finish(outputs, runs, partial).
template <class R, class T, class Finish>
void reduce(std::uint32_t axes, const Tensor& x, Finish&& finish) {
    using Value = typename R::Value;
    const Split split = split_axes(x.shape(), axes);
    const std::int64_t outputs = split.kept.count(), elements = split.reduced.count();
    const int columns = columns_of(split.inner_reduced), slices = slices_of(split.inner_reduced);
    const std::int64_t groups = (outputs + columns - 1) / columns;
    const std::int64_t per_block = static_cast<std::int64_t>(slices) * elements_per_thread;
    const std::int64_t runs = std::clamp<std::int64_t>((elements + per_block - 1) / per_block, 1,
                                                       std::max<std::int64_t>(1, wanted_blocks / std::max<std::int64_t>(1, groups)));
    const std::int64_t run = (elements + runs - 1) / runs;
    Tensor memory = scratch(x.device(), std::max<std::int64_t>(1, runs * outputs) * static_cast<std::int64_t>(sizeof(Value)));
    Value* partial = static_cast<Value*>(memory.raw_write());
    const dim3 grid(static_cast<unsigned>(std::min<std::int64_t>(groups, 1 << 20)), static_cast<unsigned>(runs));
    const auto run_with = [&]<class Index>(Index) {
        const Layout<Index> layout{Odometer<Index>(split.kept), Odometer<Index>(split.reduced), run};
        launch(x.device(), split.inner_reduced ? reduce_kernel<R, true, Index, T> : reduce_kernel<R, false, Index, T>, grid,
               threads_per_block, 0, layout, x.read<T>(), partial);
    };
    if (x.numel() <= std::numeric_limits<std::int32_t>::max())
        run_with(std::uint32_t{});
    else
        run_with(std::uint64_t{});
    finish(outputs, static_cast<int>(runs), static_cast<const Value*>(partial));
}

}  // namespace

void reduce_sum(std::uint32_t axes, double factor, const Tensor& x, Tensor& y) {
    dispatch_activation(x.dtype(), "reduce_sum", [&](auto zero) {
        using T = decltype(zero);
        reduce<Sum, T>(axes, x, [&](std::int64_t outputs, int runs, const Sum::Value* partial) {
            launch(x.device(), finish_sum_kernel<T>, blocks_for(x.device(), outputs, threads_per_block), threads_per_block,
                   0, outputs, runs, static_cast<float>(factor), partial, y.write<T>());
        });
    });
}

void reduce_max(std::uint32_t axes, const Tensor& x, Tensor& y, Tensor* argmax) {
    dispatch_activation(x.dtype(), "reduce_max", [&](auto zero) {
        using T = decltype(zero);
        reduce<Maximum, T>(axes, x, [&](std::int64_t outputs, int runs, const Maximum::Value* partial) {
            launch(x.device(), finish_maximum_kernel<T>, blocks_for(x.device(), outputs, threads_per_block),
                   threads_per_block, 0, outputs, runs, partial, y.write<T>(), write_if<std::int32_t>(argmax));
        });
    });
}

void reduce_max_backward(std::uint32_t axes, const Tensor& dy, const Tensor& argmax, Tensor& dx) {
    dispatch_activation(dy.dtype(), "reduce_max", [&](auto zero) {
        using T = decltype(zero);
        const Split split = split_axes(dx.shape(), axes);
        const auto run_with = [&]<class Index>(Index) {
            launch(dx.device(), maximum_backward_kernel<Index, T>, blocks_for(dx.device(), dx.numel(), threads_per_block),
                   threads_per_block, 0, Odometer<Index>(split.to_output), Odometer<Index>(split.to_position), dy.read<T>(),
                   argmax.read<std::int32_t>(), dx.write<T>());
        };
        if (dx.numel() <= std::numeric_limits<std::int32_t>::max())
            run_with(std::uint32_t{});
        else
            run_with(std::uint64_t{});
    });
}

}  // namespace bitloom::cuda
