#include "tests/ops/op_cases.h"

#include <algorithm>
#include <numeric>

#include "engine/random.h"

namespace bitloom::ops::test {

namespace {

constexpr int seed_index = 100;  // the seed draws from a stream of its own, behind those of the inputs

Rng rng_of(const OpCase& c, int index, std::string_view kind) {
    return Rng(17, cat(c.op, "/", c.name, "/", kind), static_cast<std::uint64_t>(index));
}

bool contains(const std::vector<int>& list, int index) {
    return std::find(list.begin(), list.end(), index) != list.end();
}

Tensor to_tensor(const Shape& shape, const std::vector<float>& values, DType dtype, Device device) {
    return Tensor::from(shape, values, device).to(dtype);
}

std::vector<float> uniform_values(Rng& rng, std::int64_t n, double low, double high) {
    std::vector<float> values(static_cast<std::size_t>(n));
    for (float& v : values) v = static_cast<float>(rng.uniform(low, high));
    return values;
}

/// The centres of n equal cells of [low, high], shuffled. They sit off the middle of their cells by a fraction that
/// differs between inputs, so that neither zero nor another round number nor a value of another input coincides with
/// one.
std::vector<float> grid_values(Rng& rng, std::int64_t n, double low, double high, int index) {
    std::vector<float> values(static_cast<std::size_t>(n));
    const double spacing = (high - low) / static_cast<double>(n);
    for (std::int64_t i = 0; i < n; ++i)
        values[static_cast<std::size_t>(i)] =
            static_cast<float>(low + (static_cast<double>(i) + 0.37 + 0.17 * index) * spacing);
    rng.shuffle(values);
    return values;
}

std::vector<float> integer_values(Rng& rng, std::int64_t n, bool positive) {
    std::vector<float> values(static_cast<std::size_t>(n));
    for (float& v : values) {
        if (positive) {
            v = static_cast<float>(1 + rng.below(3));
        } else {
            v = rng.coin(1.0 / 3.0) ? 0.0f : static_cast<float>(static_cast<int>(rng.below(7)) - 3);
        }
    }
    return values;
}

}  // namespace

DType input_dtype(const OpCase& c, int index, DType dtype) {
    return contains(c.parameters, index) ? parameter_dtype(dtype) : dtype;
}

std::vector<OpCase> all_cases() {
    std::vector<OpCase> cases = structured_cases();
    for (OpCase& c : pointwise_cases()) cases.push_back(std::move(c));
    return cases;
}

Tensor real_input(const OpCase& c, int index, DType dtype, Device device) {
    Rng rng = rng_of(c, index, "real");
    const Shape& shape = c.inputs[static_cast<std::size_t>(index)];
    const bool positive = contains(c.positive_inputs, index);
    const double low = positive ? 0.5 : c.low, high = positive ? 1.5 : c.high;
    return to_tensor(
        shape,
        c.kink_free ? grid_values(rng, shape.numel(), low, high, index) : uniform_values(rng, shape.numel(), low, high),
        dtype, device);
}

Tensor integer_input(const OpCase& c, int index, DType dtype, Device device) {
    Rng rng = rng_of(c, index, "integer");
    const Shape& shape = c.inputs[static_cast<std::size_t>(index)];
    return to_tensor(shape, integer_values(rng, shape.numel(), contains(c.positive_inputs, index)), dtype, device);
}

Tensor real_seed(const OpCase& c, const Shape& output, DType dtype, Device device) {
    Rng rng = rng_of(c, seed_index, "real");
    return to_tensor(output, uniform_values(rng, output.numel(), -1, 1), dtype, device);
}

Tensor integer_seed(const OpCase& c, const Shape& output, DType dtype, Device device) {
    Rng rng = rng_of(c, seed_index, "integer");
    return to_tensor(output, integer_values(rng, output.numel(), false), dtype, device);
}

std::vector<Var> put_on_tape(const OpCase& c, Tape& tape, std::span<const Tensor> inputs) {
    std::vector<Var> vars;
    for (std::size_t i = 0; i < inputs.size(); ++i)
        vars.push_back(tape.input(inputs[i], !contains(c.fixed_inputs, static_cast<int>(i))));
    return vars;
}

}  // namespace bitloom::ops::test
