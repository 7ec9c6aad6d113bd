// The kernels of bit planes for the CPU: blocks of weights that stay in the first-level cache while the planes stream past,
// vectors of the widest registers, sums in fixed blocks, so that results depend neither on threads nor on lanes' luck.

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "ops/cpu/parallel.h"
#include "ops/cpu/simd.h"
#include "quant/bsq/kernels.h"

namespace bitloom::bsq {

namespace {

using ops::cpu::for_lanes;
using ops::cpu::input;
using ops::cpu::load;
using ops::cpu::output;
using ops::cpu::Pack;
using ops::cpu::parallel_ranges;
using ops::cpu::splat;
using ops::cpu::store;
using ops::cpu::threads_for;

/// Weights a block.
constexpr std::int64_t block_size = 1024;
std::int64_t blocks_of(std::int64_t count) { return (count + block_size - 1) / block_size; }

template <int N>
using Floats = typename Pack<N>::Float;

/// To nearest, ties to even, for |x| < 2^22: beyond 1.5 2^23 floats are integers, so the addition rounds and the
/// subtraction is exact. (A vector of any width, where nearbyint is a call an element.)
template <class V>
[[gnu::always_inline]] inline V rounded(V x) {
    const V magic = splat<V>(12582912.0f);
    return (x + magic) - magic;
}

/// NaN for a NaN in x.
template <class V>
[[gnu::always_inline]] inline V smaller(V x, V bound) {
    return bound < x ? bound : x;
}
template <class V>
[[gnu::always_inline]] inline V larger(V x, V bound) {
    return bound > x ? bound : x;
}

/// A sum of floats in vectors; `total` adds the lanes in double.
class LaneSum {
   public:
    template <int N>
    [[gnu::always_inline]] void add(Floats<N> v) {
        alignas(64) float wide[ops::cpu::simd_lanes] = {};
        if constexpr (N == ops::cpu::simd_lanes) {
            sum_ += v;
        } else {
            store(wide, v);
            sum_ += load<Floats<ops::cpu::simd_lanes>>(wide);
        }
    }
    double total() const {
        double total = 0;
        float lanes[ops::cpu::simd_lanes];
        store(lanes, sum_);
        for (const float lane : lanes) total += static_cast<double>(lane);
        return total;
    }

   private:
    Floats<ops::cpu::simd_lanes> sum_{};
};

/// sums[k] = over blocks in order of partial [blocks, width].
void add_blocks(const Tensor& partial, double* sums) {
    const std::int64_t blocks = partial.dim(0), width = partial.dim(1);
    const double* p = partial.read<double>();
    std::fill(sums, sums + width, 0.0);
    for (std::int64_t k = 0; k < blocks; ++k)
        for (std::int64_t i = 0; i < width; ++i) sums[i] += p[k * width + i];
}

/// t[i] = sum_b factor_b (p_b - n_b) of the weights [begin, begin + count); with `norms`, S_b of the block into norms[b].
void sum_planes(const float* planes, std::int64_t stride, int bits, std::int64_t begin, std::int64_t count, float* t,
                double* norms) {
    for (int b = 0; b < bits; ++b) {
        const float* p = planes + 2 * b * stride + begin;
        const float* n = p + stride;
        const float factor = plane_factor(b, bits);
        LaneSum squares;
        for_lanes(count, [&]<int N>(std::int64_t i) {
            using V = Floats<N>;
            const V pv = load<V>(p + i), nv = load<V>(n + i);
            const V term = splat<V>(factor) * (pv - nv);
            store(t + i, b == 0 ? term : load<V>(t + i) + term);
            if (norms) squares.add<N>(pv * pv + nv * nv);
        });
        if (norms) norms[b] = squares.total();
    }
}

/// Q in place.
void quantize(const QuantizationRule& rule, const float* t, std::int64_t count, float* q) {
    if (rule.zero || rule.bits == 0) {
        std::fill(q, q + count, 0.0f);
        return;
    }
    const float top = top_code(rule.bits), limit = rule.clamp ? 1.0f : 4194303.0f / top;  // what `rounded` takes
    for_lanes(count, [=]<int N>(std::int64_t i) {
        using V = Floats<N>;
        const V u = larger(smaller(load<V>(t + i), splat<V>(limit)), splat<V>(-limit));
        store(q + i, rounded(u * splat<V>(top)) / splat<V>(top));
    });
}

void planes_to_weights(const QuantizationRule& rule, const Tensor& planes, const Tensor& scale, Tensor& weights,
                       Tensor* sums) {
    constexpr std::string_view who = "planes_to_weights";
    const std::int64_t count = weights.numel(), blocks = blocks_of(count);
    const float* p = input(planes, who);
    const float s = *input(scale, who);
    float* w = output(weights, who);
    Tensor partial;
    if (sums) partial = Tensor::empty({blocks, rule.bits}, DType::f64);
    double* norms = sums ? partial.write<double>() : nullptr;
    parallel_ranges(blocks, threads_for(planes.numel()), [&](std::int64_t first, std::int64_t last, int) {
        for (std::int64_t k = first; k < last; ++k) {
            const std::int64_t begin = k * block_size, size = std::min(block_size, count - begin);
            alignas(64) float t[block_size];
            sum_planes(p, count, rule.bits, begin, size, t, norms ? norms + k * rule.bits : nullptr);
            quantize(rule, t, size, t);
            for_lanes(size, [&]<int N>(std::int64_t i) {
                store(w + begin + i, splat<Floats<N>>(s) * load<Floats<N>>(t + i));
            });
        }
    });
    if (sums) add_blocks(partial, sums->write<double>());
}

void planes_backward(const QuantizationRule& rule, const Tensor& planes, const Tensor& scale, const Tensor& dweights,
                     const GroupNorms* norms, const Tensor* dnorm, Tensor& dplanes, Tensor& dscale) {
    constexpr std::string_view who = "planes_backward";
    const std::int64_t count = dweights.numel(), blocks = blocks_of(count);
    const float *p = input(planes, who), *dw = input(dweights, who);
    const float s = *input(scale, who);
    float* dp = output(dplanes, who);
    std::array<float, max_bits> norm{};
    if (norms) {
        const double upstream = static_cast<double>(*input(*dnorm, who)) * norms->coefficient;
        const double* group = input<double>(*norms->sums, who);
        for (int b = 0; b < rule.bits; ++b)
            norm[static_cast<std::size_t>(b)] = static_cast<float>(upstream / std::sqrt(1e-8 + group[b]));
    }
    Tensor partial = Tensor::empty({blocks, 1}, DType::f64);
    double* products = partial.write<double>();
    parallel_ranges(blocks, threads_for(planes.numel()), [&](std::int64_t first, std::int64_t last, int) {
        for (std::int64_t k = first; k < last; ++k) {
            const std::int64_t begin = k * block_size, size = std::min(block_size, count - begin);
            alignas(64) float q[block_size], scaled[block_size];
            sum_planes(p, count, rule.bits, begin, size, q, nullptr);
            quantize(rule, q, size, q);
            LaneSum sum;
            for_lanes(size, [&]<int N>(std::int64_t i) {
                using V = Floats<N>;
                const V g = load<V>(dw + begin + i);
                sum.add<N>(g * load<V>(q + i));
                store(scaled + i, splat<V>(s) * g);
            });
            products[k] = sum.total();
            for (int b = 0; b < rule.bits; ++b) {
                const float factor = plane_factor(b, rule.bits), c = norm[static_cast<std::size_t>(b)];
                const std::int64_t at = 2 * b * count + begin;
                for_lanes(size, [&]<int N>(std::int64_t i) {
                    using V = Floats<N>;
                    const V g = splat<V>(factor) * load<V>(scaled + i);
                    store(dp + at + i, g + splat<V>(c) * load<V>(p + at + i));
                    store(dp + at + count + i, splat<V>(c) * load<V>(p + at + count + i) - g);
                });
            }
        }
    });
    double total = 0;
    add_blocks(partial, &total);
    *output(dscale, who) = static_cast<float>(total);
}

void plane_norms(const Tensor& planes, Tensor& sums) {
    const std::int64_t bits = planes.dim(0), group = planes.numel() / bits, blocks = blocks_of(group);
    const float* p = input(planes, "plane_norms");
    Tensor partial = Tensor::empty({blocks, bits}, DType::f64);
    double* out = partial.write<double>();
    parallel_ranges(blocks, threads_for(planes.numel()), [&](std::int64_t first, std::int64_t last, int) {
        for (std::int64_t k = first; k < last; ++k) {
            const std::int64_t begin = k * block_size, size = std::min(block_size, group - begin);
            for (std::int64_t b = 0; b < bits; ++b) {
                LaneSum squares;
                for_lanes(size, [&]<int N>(std::int64_t i) {
                    const auto v = load<Floats<N>>(p + b * group + begin + i);
                    squares.add<N>(v * v);
                });
                out[k * bits + b] = squares.total();
            }
        }
    });
    add_blocks(partial, sums.write<double>());
}

void group_lasso(std::span<const GroupNorms> rows, double factor, Tensor& value) {
    double sum = 0;
    for (const GroupNorms& row : rows) {
        const double* s = input<double>(*row.sums, "group_lasso");
        double norms = 0;
        for (std::int64_t b = 0; b < row.sums->numel(); ++b) norms += std::sqrt(1e-8 + s[b]);
        sum += row.coefficient * norms;
    }
    *output(value, "group_lasso") = static_cast<float>(factor * sum);
}

void fixed_to_weights(const QuantizationRule& rule, const Tensor& x, const Tensor& scale, Tensor& weights) {
    constexpr std::string_view who = "fixed_to_weights";
    const std::int64_t count = x.numel();
    const float* px = input(x, who);
    const float s = *input(scale, who);
    float* w = output(weights, who);
    parallel_ranges(blocks_of(count), threads_for(count), [&](std::int64_t first, std::int64_t last, int) {
        for (std::int64_t k = first; k < last; ++k) {
            const std::int64_t begin = k * block_size, size = std::min(block_size, count - begin);
            alignas(64) float q[block_size];
            quantize(rule, px + begin, size, q);
            for_lanes(size, [&]<int N>(std::int64_t i) {
                store(w + begin + i, splat<Floats<N>>(s) * load<Floats<N>>(q + i));
            });
        }
    });
}

void fixed_backward(const QuantizationRule& rule, const Tensor& x, const Tensor& scale, const Tensor& dweights,
                    Tensor& dx, Tensor& dscale) {
    constexpr std::string_view who = "fixed_backward";
    const std::int64_t count = x.numel(), blocks = blocks_of(count);
    const float *px = input(x, who), *dw = input(dweights, who);
    const float s = *input(scale, who);
    float* out = output(dx, who);
    Tensor partial = Tensor::empty({blocks, 1}, DType::f64);
    double* products = partial.write<double>();
    parallel_ranges(blocks, threads_for(count), [&](std::int64_t first, std::int64_t last, int) {
        for (std::int64_t k = first; k < last; ++k) {
            const std::int64_t begin = k * block_size, size = std::min(block_size, count - begin);
            alignas(64) float q[block_size];
            quantize(rule, px + begin, size, q);
            LaneSum sum;
            for_lanes(size, [&]<int N>(std::int64_t i) {
                using V = Floats<N>;
                const V g = load<V>(dw + begin + i);
                sum.add<N>(g * load<V>(q + i));
                store(out + begin + i, splat<V>(s) * g);
            });
            products[k] = sum.total();
        }
    });
    double total = 0;
    add_blocks(partial, &total);
    *output(dscale, who) = static_cast<float>(total);
}

/// What the activation makes of a vector.
struct Activation {
    float low, high;
    explicit Activation(const ActivationRule& rule, const Tensor* alpha) {
        constexpr float infinity = std::numeric_limits<float>::infinity();
        low = rule.kind == ActivationKind::identity ? -infinity : 0.0f;
        high = rule.kind == ActivationKind::relu6  ? 6.0f
               : rule.kind == ActivationKind::pact ? *input(*alpha, "activation_forward")
                                                   : infinity;
    }
    template <class V>
    [[gnu::always_inline]] V operator()(V x) const {
        return smaller(larger(x, splat<V>(low)), splat<V>(high));
    }
};

/// max |f(x)| over the tensor.
float largest_magnitude(const Activation& f, const float* x, std::int64_t count) {
    const int parts = threads_for(count);
    Tensor partial = Tensor::empty({parts});
    float* out = partial.write<float>();
    parallel_ranges(count, parts, [&](std::int64_t first, std::int64_t last, int part) {
        Floats<ops::cpu::simd_lanes> wide{};
        float narrow = 0;
        for_lanes(last - first, [&]<int N>(std::int64_t i) {
            using V = Floats<N>;
            const V y = f(load<V>(x + first + i)), magnitude = larger(y, -y);
            if constexpr (N == ops::cpu::simd_lanes) {
                wide = larger(wide, magnitude);
            } else {
                float lanes[N];
                store(lanes, magnitude);
                narrow = std::max(narrow, *std::max_element(lanes, lanes + N));
            }
        });
        float lanes[ops::cpu::simd_lanes];
        store(lanes, wide);
        out[part] = std::max(narrow, *std::max_element(lanes, lanes + ops::cpu::simd_lanes));
    });
    return *std::max_element(out, out + parts);
}

void activation_forward(const ActivationRule& rule, const Tensor& x, const Tensor* alpha, Tensor& y) {
    constexpr std::string_view who = "activation_forward";
    const std::int64_t count = x.numel();
    const float* px = input(x, who);
    float* py = output(y, who);
    const Activation f(rule, alpha);
    // The range first, in a pass that only reads: the activation is computed twice rather than written twice.
    const float largest = rule.bits > 0 ? largest_magnitude(f, px, count) : 0.0f;
    const float top = top_code(rule.bits);
    parallel_ranges(count, threads_for(count), [&](std::int64_t first, std::int64_t last, int) {
        for_lanes(last - first, [&]<int N>(std::int64_t i) {
            using V = Floats<N>;
            V v = f(load<V>(px + first + i));
            if (rule.bits > 0)
                v = largest == 0 ? V{} : rounded(v * splat<V>(top) / splat<V>(largest)) / splat<V>(top) * splat<V>(largest);
            store(py + first + i, v);
        });
    });
}

void activation_backward(const ActivationRule& rule, const Tensor& x, const Tensor* alpha, const Tensor& dy, Tensor& dx,
                         Tensor* dalpha) {
    constexpr std::string_view who = "activation_backward";
    const std::int64_t count = x.numel(), blocks = blocks_of(count);
    const float *px = input(x, who), *pdy = input(dy, who);
    float* out = output(dx, who);
    const float high = Activation(rule, alpha).high;
    const auto pass = [&](auto&& factor) {
        parallel_ranges(count, threads_for(count), [&](std::int64_t first, std::int64_t last, int) {
            for_lanes(last - first, [&]<int N>(std::int64_t i) {
                using V = Floats<N>;
                store(out + first + i, factor(load<V>(px + first + i), load<V>(pdy + first + i)));
            });
        });
    };
    switch (rule.kind) {
        case ActivationKind::identity: return pass([]<class V>(V, V d) { return d; });
        case ActivationKind::relu: return pass([]<class V>(V v, V d) { return v > V{} ? d : V{}; });
        case ActivationKind::relu6:
            return pass([]<class V>(V v, V d) { return v < splat<V>(6.0f) ? (v > V{} ? d : V{}) : V{}; });
        case ActivationKind::pact: break;
    }
    Tensor partial = Tensor::empty({blocks, 1}, DType::f64);
    double* sums = partial.write<double>();
    parallel_ranges(blocks, threads_for(count), [&](std::int64_t first, std::int64_t last, int) {
        for (std::int64_t k = first; k < last; ++k) {
            const std::int64_t begin = k * block_size, size = std::min(block_size, count - begin);
            LaneSum sum;
            for_lanes(size, [&]<int N>(std::int64_t i) {
                using V = Floats<N>;
                const V v = load<V>(px + begin + i), d = load<V>(pdy + begin + i), a = splat<V>(high);
                // 1 - [x < 0] - [x > alpha]: -1 where alpha itself is negative and x lies between
                const V below = v < V{} ? splat<V>(1.0f) : V{}, above = v > a ? splat<V>(1.0f) : V{};
                store(out + begin + i, (splat<V>(1.0f) - below - above) * d);
                sum.add<N>(v >= a ? d : V{});
            });
            sums[k] = sum.total();
        }
    });
    double total = 0;
    add_blocks(partial, &total);
    if (dalpha) *output(*dalpha, who) = static_cast<float>(total);
}

}  // namespace

const BsqKernels& cpu_bsq_kernels() {
    static const BsqKernels table{.planes_to_weights = planes_to_weights,
                                  .planes_backward = planes_backward,
                                  .plane_norms = plane_norms,
                                  .group_lasso = group_lasso,
                                  .fixed_to_weights = fixed_to_weights,
                                  .fixed_backward = fixed_backward,
                                  .activation_forward = activation_forward,
                                  .activation_backward = activation_backward};
    return table;
}

}  // namespace bitloom::bsq
