// The optimizers' step: one launch for all parameters, one pass over each. Rules and their order of operations are those of
// engine/optim/cpu_kernels.cpp, and neither is compiled with contraction: both devices give the same bits, but for Adam's
// two powers a step, which the libraries of host and device may round differently in their last bit of double precision.

#include <cmath>

#include "cuda/common.h"
#include "cuda/ops/elements.cuh"
#include "cuda/tables.h"

namespace bitloom::cuda {

namespace {

/// Elements that a thread takes at once, and those of a block, before it moves on.
constexpr int pack = 4;
constexpr std::int64_t block_elements = threads_per_block * pack;
constexpr std::int64_t most_blocks_of_row = 256;

/// The numbers of a row that depend on its step, in double.
struct Constants {
    double rate, divisor;
};

struct Sgd {
    SgdSettings settings;
    int slots;
    __device__ Constants constants(const OptimRow& row) const { return {row.learning_rate, 1}; }
    template <class T>
    __device__ void update(T& p, T g, T (&s)[OptimRow::max_slots], const Constants& c) const {
        const T lr = static_cast<T>(c.rate), mu = static_cast<T>(settings.momentum);
        if (settings.momentum == 0) {
            p = p - lr * g;
        } else if (settings.convention == Convention::pytorch) {
            s[0] = mu * s[0] + g;
            p = p - lr * (settings.nesterov ? g + mu * s[0] : s[0]);
        } else {
            s[0] = mu * s[0] - lr * g;
            p = p + (settings.nesterov ? mu * s[0] - lr * g : s[0]);
        }
    }
};

/// p -= rate m / (sqrt(v) / divisor + epsilon); PyTorch divides the root by sqrt(1 - beta2^t), Keras puts that factor into
/// the rate.
struct Adam {
    AdamSettings settings;
    int slots;
    __device__ Constants constants(const OptimRow& row) const {
        const double t = static_cast<double>(row.step);
        const double correction1 = 1 - pow(settings.beta1, t), root2 = sqrt(1 - pow(settings.beta2, t));
        if (settings.convention == Convention::pytorch) return {row.learning_rate / correction1, root2};
        return {row.learning_rate * root2 / correction1, 1};
    }
    template <class T>
    __device__ void update(T& p, T g, T (&s)[OptimRow::max_slots], const Constants& c) const {
        const T beta1 = static_cast<T>(settings.beta1), rest1 = static_cast<T>(1 - settings.beta1);
        const T beta2 = static_cast<T>(settings.beta2), rest2 = static_cast<T>(1 - settings.beta2);
        s[0] = beta1 * s[0] + rest1 * g;
        s[1] = beta2 * s[1] + rest2 * g * g;
        T second = s[1];
        if (settings.amsgrad) {
            second = s[2] < second ? second : s[2];
            s[2] = second;
        }
        T root = sqrt(second);
        if (settings.convention == Convention::pytorch) root = root / static_cast<T>(c.divisor);
        p = p - static_cast<T>(c.rate) * s[0] / (root + static_cast<T>(settings.epsilon));
    }
};

struct Rmsprop {
    RmspropSettings settings;
    int slots;
    __device__ Constants constants(const OptimRow& row) const { return {row.learning_rate, 1}; }
    template <class T>
    __device__ void update(T& p, T g, T (&s)[OptimRow::max_slots], const Constants& c) const {
        const T lr = static_cast<T>(c.rate), mu = static_cast<T>(settings.momentum), rho = static_cast<T>(settings.rho);
        s[0] = rho * s[0] + static_cast<T>(1 - settings.rho) * g * g;
        const T denominator = sqrt(s[0]) + static_cast<T>(settings.epsilon);
        if (settings.momentum == 0) {
            p = p - lr * g / denominator;
        } else if (settings.convention == Convention::pytorch) {
            s[1] = mu * s[1] + g / denominator;
            p = p - lr * s[1];
        } else {
            s[1] = mu * s[1] + lr * g / denominator;
            p = p - s[1];
        }
    }
};

template <class T, class Rule>
__device__ void update_row(const OptimRow& row, const Rule& rule, const Constants& constants) {
    T* value = static_cast<T*>(row.value);
    const T* gradient = static_cast<const T*>(row.gradient);
    T* state[OptimRow::max_slots];
    std::uintptr_t addresses = reinterpret_cast<std::uintptr_t>(value) | reinterpret_cast<std::uintptr_t>(gradient);
#pragma unroll
    for (int k = 0; k < OptimRow::max_slots; ++k) {
        state[k] = static_cast<T*>(row.state[k]);
        if (k < rule.slots) addresses |= reinterpret_cast<std::uintptr_t>(state[k]);
    }
    const bool vectorised = addresses % sizeof(Pack<T, pack>) == 0;
    const T decay = static_cast<T>(row.weight_decay);
    const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * block_elements;
    for (std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * threads_per_block + threadIdx.x) * pack; i < row.count;
         i += stride) {
        const bool whole = vectorised && i + pack <= row.count;
        Pack<T, pack> p{}, g{}, s[OptimRow::max_slots]{};
        const auto load = [&](const T* from, Pack<T, pack>& to) {
            if (whole) {
                to = load_pack<pack>(from + i);
            } else {
#pragma unroll
                for (int j = 0; j < pack; ++j)
                    if (i + j < row.count) to.at[j] = from[i + j];
            }
        };
        const auto store = [&](T* to, const Pack<T, pack>& from) {
            if (whole) {
                store_pack<pack>(to + i, from);
            } else {
#pragma unroll
                for (int j = 0; j < pack; ++j)
                    if (i + j < row.count) to[i + j] = from.at[j];
            }
        };
        load(value, p);
        load(gradient, g);
#pragma unroll
        for (int k = 0; k < OptimRow::max_slots; ++k)
            if (k < rule.slots) load(state[k], s[k]);
#pragma unroll
        for (int j = 0; j < pack; ++j) {
            T slots[OptimRow::max_slots] = {s[0].at[j], s[1].at[j], s[2].at[j]};
            rule.update(p.at[j], g.at[j] + decay * p.at[j], slots, constants);
#pragma unroll
            for (int k = 0; k < OptimRow::max_slots; ++k) s[k].at[j] = slots[k];
        }
        store(value, p);
#pragma unroll
        for (int k = 0; k < OptimRow::max_slots; ++k)
            if (k < rule.slots) store(state[k], s[k]);
    }
}

/// Grid: blocks of the longest row x rows. Rows are read from device memory: a captured step is replayed with new ones.
template <class Rule>
__global__ void optimizer_kernel(const OptimRow* rows, const std::int32_t* halted, Rule rule) {
    __shared__ Constants constants;
    const OptimRow& row = rows[blockIdx.y];
    if (static_cast<std::int64_t>(blockIdx.x) * block_elements >= row.count || (halted && *halted != 0)) return;  // whole blocks
    if (threadIdx.x == 0) constants = rule.constants(row);
    __syncthreads();
    if (row.dtype == DType::f32)
        update_row<float>(row, rule, constants);
    else
        update_row<double>(row, rule, constants);
}

constexpr std::size_t most_rows = 65535;

template <class Rule>
void run(const OptimRows& rows, const Rule& rule) {
    require(rows.device, "optimizer: CUDA takes its rows from device memory");
    require(rows.host.size() <= most_rows, "optimizer: ", rows.host.size(), " parameters are more than the ", most_rows,
            " of one CUDA launch");
    std::int64_t longest = 0;
    for (const OptimRow& row : rows) {
        require(row.dtype == DType::f32 || row.dtype == DType::f64, "optimizer: needs f32 or f64, got ", name_of(row.dtype));
        longest = std::max(longest, row.count);
    }
    const dim3 grid(static_cast<unsigned>(std::min((longest + block_elements - 1) / block_elements, most_blocks_of_row)),
                    static_cast<unsigned>(rows.host.size()));
    launch(rows.where, optimizer_kernel<Rule>, grid, threads_per_block, 0, rows.device, rows.halted, rule);
}

void sgd(const OptimRows& rows, const SgdSettings& settings) { run(rows, Sgd{settings, settings.momentum == 0 ? 0 : 1}); }
void adam(const OptimRows& rows, const AdamSettings& settings) { run(rows, Adam{settings, settings.amsgrad ? 3 : 2}); }
void rmsprop(const OptimRows& rows, const RmspropSettings& settings) {
    run(rows, Rmsprop{settings, settings.momentum == 0 ? 1 : 2});
}

}  // namespace

const OptimKernels& optim_kernel_table() {
    static constexpr OptimKernels table{sgd, adam, rmsprop};
    return table;
}

}  // namespace bitloom::cuda
