// Batches made on the device: images of a data set that lies in its memory are read, augmented and normalised. Block i
// makes image i of the batch, in shared memory, by the steps of engine/data/augment.cpp and with the same draws in the
// same order, so that the host's batches and these are equal bit for bit. Compiled without contraction into fused
// multiply-adds, as the host's file is.

#include <algorithm>

#include "cuda/common.h"
#include "cuda/element.cuh"
#include "cuda/intrinsics.cuh"
#include "cuda/ops/philox.cuh"
#include "cuda/training/kernels.h"

namespace bitloom::cuda {

namespace {

constexpr int threads = 256;

/// engine/random.h's Rng.
class DeviceRng {
   public:
    __device__ DeviceRng(std::uint64_t key, std::uint64_t counter) : stream_{key, counter, nullptr} {}

    __device__ double uniform() {
        const std::uint64_t high = next();
        return static_cast<double>(((high << 32) | next()) >> 11) * 0x1.0p-53;
    }
    __device__ double uniform(double low, double high) { return low + (high - low) * uniform(); }
    __device__ std::int64_t below(std::uint64_t bound) {
        using Wide = unsigned __int128;
        const std::uint64_t threshold = (0 - bound) % bound;
        for (;;) {
            const std::uint64_t high = next();
            const Wide product = static_cast<Wide>((high << 32) | next()) * bound;
            if (static_cast<std::uint64_t>(product) >= threshold) return static_cast<std::int64_t>(product >> 64);
        }
    }

   private:
    __device__ std::uint32_t next() {
        if (index_ % 4 == 0) block_ = draw(stream_, index_ / 4);
        return block_.word[index_++ % 4];
    }
    PhiloxStream stream_;
    std::uint64_t index_ = 0;
    PhiloxBlock block_{};
};

/// A kernel's copy of ImageGather.
struct GatherArguments {
    std::int64_t height, width, channels;
    const std::uint8_t* const* images;
    const std::int32_t* labels;
    const std::int64_t* order;
    std::uint64_t key, counter;
    float divisor;
    const float* mean;
    const float* deviation;
    int step_count;
    AugmentStep steps[max_augment_steps];
};

__device__ inline float normalised(const GatherArguments& plan, float pixel, std::int64_t at) {
    float y = pixel / plan.divisor;
    if (plan.mean) y -= plan.mean[at];
    if (plan.deviation) y /= plan.deviation[at];
    return y;
}

/// An image in shared memory, and room for another.
struct Work {
    float* image;
    float* spare;
    std::int64_t height, width, channels;

    __device__ std::int64_t pixels() const { return height * width * channels; }
    __device__ void swap() {
        __syncthreads();
        float* const finished = spare;
        spare = image;
        image = finished;
    }
    /// Writes f(y, x, c) to every place of `spare`.
    template <class F>
    __device__ void fill_spare(F&& f) const {
        for (std::int64_t i = threadIdx.x; i < pixels(); i += blockDim.x) {
            const std::int64_t position = i / channels, y = position / width;
            spare[i] = f(y, position - y * width, i - position * channels);
        }
    }
    __device__ float at(std::int64_t y, std::int64_t x, std::int64_t c) const {
        return image[(y * width + x) * channels + c];
    }
};

// Every thread draws all numbers of its image for itself: they are few, and none need wait for another.

__device__ inline void crop(Work& work, std::int64_t padding, DeviceRng& rng) {
    const auto choices = static_cast<std::uint64_t>(2 * padding + 1);
    const std::int64_t dy = rng.below(choices) - padding;
    const std::int64_t dx = rng.below(choices) - padding;
    if (dy == 0 && dx == 0) return;
    work.fill_spare([&](std::int64_t y, std::int64_t x, std::int64_t c) {
        const std::int64_t row = y + dy, column = x + dx;
        const bool inside = row >= 0 && row < work.height && column >= 0 && column < work.width;
        return inside ? work.at(row, column, c) : 0.0f;
    });
    work.swap();
}

__device__ inline void flip(Work& work, DeviceRng& rng) {
    if (!(rng.uniform() < 0.5)) return;
    work.fill_spare([&](std::int64_t y, std::int64_t x, std::int64_t c) { return work.at(y, work.width - 1 - x, c); });
    work.swap();
}

/// The two source positions about a position, kept within [0, extent), and the weight of the second.
struct Sample {
    std::int64_t low, high;
    float weight;
};
__device__ inline Sample sample_at(double position, std::int64_t extent) {
    const double last = static_cast<double>(extent - 1);
    const double p = position < 0.0 ? 0.0 : position > last ? last : position;
    const auto low = static_cast<std::int64_t>(p);
    return {low, low + 1 < extent ? low + 1 : extent - 1, static_cast<float>(p - static_cast<double>(low))};
}

__device__ inline void shift(Work& work, double fraction, DeviceRng& rng) {
    const double ty = rng.uniform(-fraction, fraction) * static_cast<double>(work.height);
    const double tx = rng.uniform(-fraction, fraction) * static_cast<double>(work.width);
    work.fill_spare([&](std::int64_t y, std::int64_t x, std::int64_t c) {
        const Sample s = sample_at(static_cast<double>(y) + ty, work.height);
        return (1 - s.weight) * work.at(s.low, x, c) + s.weight * work.at(s.high, x, c);
    });
    work.swap();
    work.fill_spare([&](std::int64_t y, std::int64_t x, std::int64_t c) {
        const Sample s = sample_at(static_cast<double>(x) + tx, work.width);
        return (1 - s.weight) * work.at(y, s.low, c) + s.weight * work.at(y, s.high, c);
    });
    work.swap();
}

__device__ inline void cutout(Work& work, std::int64_t length, DeviceRng& rng) {
    const std::int64_t half = length / 2;
    const std::int64_t row = rng.below(static_cast<std::uint64_t>(work.height));
    const std::int64_t column = rng.below(static_cast<std::uint64_t>(work.width));
    work.fill_spare([&](std::int64_t y, std::int64_t x, std::int64_t c) {
        const bool hole = y >= row - half && y < row + half && x >= column - half && x < column + half;
        return hole ? 0.0f : work.at(y, x, c);
    });
    work.swap();
}

template <class T>
__global__ void gather_plain(GatherArguments plan, T* images, std::int32_t* labels) {
    const std::int64_t index = plan.order[blockIdx.x];
    const std::int64_t pixels = plan.height * plan.width * plan.channels;
    const std::uint8_t* source = plan.images[index];
    T* target = images + static_cast<std::int64_t>(blockIdx.x) * pixels;
    for (std::int64_t i = threadIdx.x; i < pixels; i += blockDim.x)
        target[i] = convert<T>(normalised(plan, static_cast<float>(source[i]), i));
    if (threadIdx.x == 0) labels[blockIdx.x] = plan.labels[index];
}

template <class T>
__global__ void gather_augmented(GatherArguments plan, T* images, std::int32_t* labels) {
    const std::int64_t index = plan.order[blockIdx.x];
    const std::int64_t pixels = plan.height * plan.width * plan.channels;
    float* shared = static_cast<float*>(dynamic_shared());
    Work work{shared, shared + pixels, plan.height, plan.width, plan.channels};
    DeviceRng rng(plan.key, plan.counter + static_cast<std::uint64_t>(index));

    const std::uint8_t* source = plan.images[index];
    for (std::int64_t i = threadIdx.x; i < pixels; i += blockDim.x) work.image[i] = static_cast<float>(source[i]);
    __syncthreads();
    for (int s = 0; s < plan.step_count; ++s) {
        const AugmentStep& step = plan.steps[s];
        if (step.kind == AugmentStep::Kind::crop) crop(work, static_cast<std::int64_t>(step.amount), rng);
        if (step.kind == AugmentStep::Kind::flip) flip(work, rng);
        if (step.kind == AugmentStep::Kind::shift) shift(work, step.amount, rng);
    }
    work.fill_spare([&](std::int64_t y, std::int64_t x, std::int64_t c) {
        return normalised(plan, work.at(y, x, c), (y * plan.width + x) * plan.channels + c);
    });
    work.swap();
    for (int s = 0; s < plan.step_count; ++s)
        if (plan.steps[s].kind == AugmentStep::Kind::cutout)
            cutout(work, static_cast<std::int64_t>(plan.steps[s].amount), rng);

    T* target = images + static_cast<std::int64_t>(blockIdx.x) * pixels;
    for (std::int64_t i = threadIdx.x; i < pixels; i += blockDim.x) target[i] = convert<T>(work.image[i]);
    if (threadIdx.x == 0) labels[blockIdx.x] = plan.labels[index];
}

}  // namespace

std::int64_t largest_image(Device device) {
    return static_cast<std::int64_t>(properties(device).shared_per_block / (2 * sizeof(float)));
}

void gather_images(const ImageGather& plan, Tensor& images, Tensor& labels) {
    const Device device = images.device();
    const std::int64_t pixels = plan.height * plan.width * plan.channels;
    require(images.numel() == images.dim(0) * pixels && labels.numel() == images.dim(0),
            "gather_images: a batch of shape ", images.shape(), " for images of ", pixels, " values");
    require(plan.steps.size() <= max_augment_steps, "gather_images: ", plan.steps.size(), " augmentations");
    GatherArguments arguments{plan.height,
                              plan.width,
                              plan.channels,
                              plan.images,
                              plan.labels,
                              plan.order,
                              plan.augment_key,
                              plan.augment_counter,
                              plan.divisor,
                              plan.mean,
                              plan.deviation,
                              static_cast<int>(plan.steps.size()),
                              {}};
    std::copy(plan.steps.begin(), plan.steps.end(), arguments.steps);
    const auto blocks = static_cast<unsigned>(images.dim(0));
    dispatch_floating_element(images.dtype(), "gather_images", [&](auto zero) {
        using T = decltype(zero);
        T* target = static_cast<T*>(images.raw_write());
        std::int32_t* label = labels.write<std::int32_t>();
        if (plan.steps.empty())
            launch(device, gather_plain<T>, blocks, threads, 0, arguments, target, label);
        else
            launch(device, gather_augmented<T>, blocks, threads, 2 * static_cast<std::size_t>(pixels) * sizeof(float),
                   arguments, target, label);
    });
}

}  // namespace bitloom::cuda
