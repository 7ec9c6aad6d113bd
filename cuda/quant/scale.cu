// Quantizers whose scale comes from the values, a block for every group of cells (mostly one cell a group): peaks, codes,
// least squares and output in one launch, without a word to the host. Sums are double, their order depends on the length
// of a cell alone; the CPU adds in another one, so a scale may differ by a rounding of its last place to f32, and a scale
// of power-of-two quantizers not at all but where that place decides between two powers.

#include "cuda/ops/elements.cuh"
#include "cuda/quant/block.cuh"
#include "cuda/quant/kernels.h"
#include "cuda/quant/operands.h"

namespace bitloom::cuda {

namespace {

/// Largest value, largest negated value, largest magnitude.
struct Extremes {
    float of[3] = {-INFINITY, -INFINITY, 0};
    __device__ __forceinline__ void add(float x) {
        of[0] = fmaxf(of[0], x);
        of[1] = fmaxf(of[1], -x);
        of[2] = fmaxf(of[2], fabsf(x));
    }
    __device__ __forceinline__ float peak(const ScaleRule& rule) const {
        return scaled::peak_of(rule, -of[1], of[0], of[2]);
    }
};

/// The extremes of all values, by one block.
template <int threads>
__global__ void extremes_kernel(std::int64_t n, const float* x, float* out) {
    Extremes all;
    for (std::int64_t i = threadIdx.x; i < n; i += threads) all.add(x[i]);
    block_max<threads>(all.of);
    if (threadIdx.x < 3) out[threadIdx.x] = all.of[threadIdx.x];
}

/// What the threads of a block do for the cells of one group.
template <int threads>
class GroupWork {
   public:
    __device__ GroupWork(const ScaleRule& rule, const ScaleCall<float>& call, const float* extremes, std::int64_t group)
        : r_(rule), c_(call), extremes_(extremes), group_(group) {}

    __device__ void run() const {
        if (scaled::codes_come_first(r_)) each_cell([&](std::int64_t cell) { assign(cell); });
        if (r_.source == ScaleSource::given)
            set_scales([&](std::int64_t cell) { return c_.given ? c_.given[cell] : static_cast<float>(r_.fixed); });
        else
            find_scale();
        finish();
    }

   private:
    template <class F>
    __device__ void each_cell(const F& f) const {
        if (!c_.groups) return f(group_);
        for (std::int64_t cell = 0; cell < c_.cells; ++cell)
            if (c_.groups[cell] == group_) f(cell);
    }
    /// f(place among all elements)
    template <class F>
    __device__ void each_element(std::int64_t cell, const F& f) const {
        for (std::int64_t i = threadIdx.x; i < c_.inner; i += threads) f(cell * c_.inner + i);
    }
    __device__ float draw(std::int64_t at) const { return c_.draws ? c_.draws[at] : 0.0f; }
    __device__ float second(std::int64_t at) const { return c_.second ? c_.second[at] : 0.0f; }

    /// Scales by one thread, for all to see.
    template <class F>
    __device__ void set_scales(const F& scale) const {
        __syncthreads();
        if (threadIdx.x == 0) each_cell([&](std::int64_t cell) { c_.scale[cell] = scale(cell); });
        __syncthreads();
    }

    __device__ Extremes extremes_of(std::int64_t cell) const {
        Extremes found;
        each_element(cell, [&](std::int64_t at) { found.add(c_.x[at]); });
        block_max<threads>(found.of);
        return found;
    }
    __device__ float chance_factor(std::int64_t cell) const {
        return r_.stochastic ? scaled::chance_factor(extremes_of(cell).of[2]) : 1.0f;
    }

    /// The codes that the present scale gives.
    __device__ void assign(std::int64_t cell) const {
        const bool first = scaled::codes_come_first(r_);
        const float factor = first ? chance_factor(cell) : 1.0f, s = first ? 1.0f : c_.scale[cell];
        each_element(cell, [&](std::int64_t at) {
            const float x = c_.x[at];
            switch (r_.codes) {
                case ScaledCodes::bits: c_.y[at] = scaled::bits_code(r_, x, s); break;
                case ScaledCodes::linear: c_.y[at] = scaled::linear_code(r_, x, s); break;
                case ScaledCodes::ternary:
                case ScaledCodes::stochastic_ternary: c_.y[at] = scaled::ternary_code(r_, x, s, draw(at)); break;
                case ScaledCodes::sign:
                case ScaledCodes::stochastic_sign:
                    c_.y[at] = r_.stochastic ? scaled::sign_code_by_chance(r_, x, factor, draw(at), second(at))
                                             : scaled::sign_code(r_, x);
                    break;
            }
        });
    }

    __device__ void least_squares() const {
        const bool by_chance = r_.codes == ScaledCodes::sign && r_.stochastic;
        double product = 0, square = 0, size = 0;
        each_cell([&](std::int64_t cell) {
            const float factor = by_chance ? chance_factor(cell) : 1.0f;
            double sums[2] = {};
            each_element(cell, [&](std::int64_t at) {
                const float x = c_.x[at], q = c_.y[at];
                const float fitted = by_chance ? scaled::rounded_by_chance(x, factor, draw(at)) : x / static_cast<float>(r_.unit);
                sums[0] += static_cast<double>(fitted) * q;
                sums[1] += static_cast<double>(q) * q;
            });
            block_sum<threads>(sums);
            product += sums[0];
            square += sums[1];
            size += static_cast<double>(c_.inner);
        });
        const float s = scaled::fitted_scale<float>(r_, product, square, size, scaled::fits_powers_of_two(r_));
        set_scales([&](std::int64_t) { return s; });
    }

    __device__ void find_scale() const {
        if (scaled::codes_come_first(r_)) return least_squares();
        each_cell([&](std::int64_t cell) {
            Extremes found;
            if (extremes_) {
                for (int k = 0; k < 3; ++k) found.of[k] = extremes_[k];
            } else {
                found = extremes_of(cell);
            }
            if (threadIdx.x == 0) c_.scale[cell] = scaled::first_scale(r_, found.peak(r_));
        });
        __syncthreads();
        // The host stops where the scales stay as they are; going on changes nothing.
        for (int n = 0; n < scaled::fits(r_); ++n) {
            each_cell([&](std::int64_t cell) { assign(cell); });
            least_squares();
        }
    }

    /// Population standard deviation of a cell, plus epsilon.
    __device__ float deviation(std::int64_t cell) const {
        const double count = static_cast<double>(c_.inner);
        double sum[1] = {}, square[1] = {};
        each_element(cell, [&](std::int64_t at) { sum[0] += c_.x[at]; });
        block_sum<threads>(sum);
        const double mean = sum[0] / count;
        each_element(cell, [&](std::int64_t at) { square[0] += (c_.x[at] - mean) * (c_.x[at] - mean); });
        block_sum<threads>(square);
        return static_cast<float>(sqrt(square[0] / count)) + static_cast<float>(keras_epsilon);
    }

    __device__ void draw_codes(std::int64_t cell) const {
        const bool ternary = r_.codes == ScaledCodes::stochastic_ternary;
        const float spread = !ternary && r_.source == ScaleSource::given ? 1.0f : deviation(cell), s = c_.scale[cell];
        each_element(cell, [&](std::int64_t at) {
            c_.y[at] = ternary ? scaled::drawn_ternary(r_, c_.x[at], s, spread, draw(at), second(at))
                               : scaled::drawn_sign(r_, c_.x[at], spread, draw(at));
        });
    }

    /// Last codes, and the output.
    __device__ void finish() const {
        const bool drawn = scaled::codes_are_drawn(r_), stand = scaled::last_codes_stand(r_);
        each_cell([&](std::int64_t cell) {
            if (drawn)
                draw_codes(cell);
            else if (!stand)
                assign(cell);
            const float s = c_.scale[cell];
            each_element(cell, [&](std::int64_t at) {
                if (c_.gradient) c_.gradient[at] = scaled::linear_gradient(r_, c_.x[at], s);
                c_.y[at] = scaled::output(r_, c_.y[at], s);
            });
        });
    }

    const ScaleRule& r_;
    const ScaleCall<float>& c_;
    const float* extremes_;
    std::int64_t group_;
};

template <int threads>
__global__ void quantize_scaled_kernel(ScaleRule rule, ScaleCall<float> call, const float* extremes) {
    GroupWork<threads>(rule, call, extremes, static_cast<std::int64_t>(blockIdx.x)).run();
}

}  // namespace

void quantize_scaled(const ScaleRule& rule, const Tensor& x, const Tensor* groups, const Tensor* given, const Tensor* draws,
                     const Tensor* second, Tensor& y, Tensor& scale, Tensor* gradient) {
    constexpr std::string_view who = "quantize_scaled";
    const Device device = x.device();
    ScaleCall<float> call{x.dim(0), x.dim(1), f32_input(x, who), groups ? groups->read<std::int32_t>() : nullptr};
    call.draws = f32_input(draws, who), call.second = f32_input(second, who), call.given = f32_input(given, who);
    call.y = f32_output(y, who), call.scale = f32_output(scale, who), call.gradient = f32_output(gradient, who);
    Tensor memory;
    const float* extremes = nullptr;
    if (rule.peak_over_all && rule.source != ScaleSource::given && !scaled::codes_come_first(rule)) {
        memory = Tensor::empty({3}, DType::f32, device);
        launch(device, extremes_kernel<threads_per_block>, 1, threads_per_block, 0, x.numel(), call.x, memory.write<float>());
        extremes = memory.read<float>();
    }
    // A block a group; groups are numbered from 0, and there are at most as many as cells.
    const auto blocks = static_cast<unsigned>(call.cells);
    const auto run = [&](auto threads) {
        launch(device, quantize_scaled_kernel<threads.value>, blocks, threads.value, 0, rule, call, extremes);
    };
    // A filter of a small network has some hundred weights, a channel of activations many thousands.
    if (call.inner <= 2 * warp_size)
        run(std::integral_constant<int, warp_size>{});
    else if (call.inner <= 1024)
        run(std::integral_constant<int, threads_per_block / 2>{});
    else
        run(std::integral_constant<int, threads_per_block>{});
}

}  // namespace bitloom::cuda
