#pragma once
// Gradient check: analytic gradients against central differences, in double precision on the reference device.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <span>
#include <vector>

#include "engine/random.h"
#include "engine/tape.h"

namespace bitloom::ops::test {

using Builder = std::function<Var(Tape&, std::span<const Var>)>;

namespace detail {

inline bool is_fixed(const std::vector<int>& fixed, int i) {
    return std::find(fixed.begin(), fixed.end(), i) != fixed.end();
}

/// Inputs with a gradient: all but the fixed ones, or `only` that one.
inline std::vector<Var> put_with_grad(Tape& tape, const std::vector<Tensor>& inputs, const std::vector<int>& fixed,
                                      int only = -1) {
    std::vector<Var> vars;
    for (int i = 0; i < static_cast<int>(inputs.size()); ++i)
        vars.push_back(tape.input(inputs[i], only < 0 ? !is_fixed(fixed, i) : only == i));
    return vars;
}

/// sum(f(inputs) * weights) on a tape that records nothing.
inline double weighted_output(const Builder& f, const std::vector<Tensor>& inputs, const std::vector<double>& weights) {
    Tape tape(Tape::Mode::inference);
    const std::vector<double> y = f(tape, put_with_grad(tape, inputs, {})).value().values<double>();
    double sum = 0;
    for (std::size_t i = 0; i < y.size(); ++i) sum += y[i] * weights[i];
    return sum;
}

/// The gradient as host values; where none flowed, zeros.
inline std::vector<double> gradient_of(const Tape& tape, const Var& input) {
    const Tensor& grad = tape.grad(input);
    if (!grad.defined()) return std::vector<double>(static_cast<std::size_t>(input.value().numel()), 0.0);
    EXPECT_EQ(grad.shape(), input.shape()) << "a gradient has its input's shape";
    return grad.values<double>();
}

}  // namespace detail

/// Expects, for loss = sum(f(inputs) * fixed random weights), that the gradient of every element of every input agrees
/// with (loss(x + h) - loss(x - h)) / 2h within atol + rtol |difference|; that each input's gradient has the same bits
/// when no other input asks for one; and that an inference tape computes the same output and records nothing. `inputs`
/// are f64 on the reference device; f must be deterministic, and smooth within h = 1e-5 of the inputs. Inputs listed in
/// `fixed` are constants to the tape and are not checked.
inline void gradcheck(const Builder& f, std::vector<Tensor> inputs, double atol = 1e-6, double rtol = 1e-4,
                      const std::vector<int>& fixed = {}) {
    constexpr double h = 1e-5;
    for (const Tensor& t : inputs) {
        ASSERT_EQ(t.dtype(), DType::f64) << "gradcheck runs in double precision";
        ASSERT_EQ(t.device(), reference_device) << "gradcheck runs on the reference device";
    }

    Tape tape;
    const std::vector<Var> vars = detail::put_with_grad(tape, inputs, fixed);
    const Var y = f(tape, vars);
    ASSERT_TRUE(y.requires_grad()) << "the output depends on no input";
    const std::vector<double> outputs = y.value().values<double>();
    for (double v : outputs) ASSERT_TRUE(std::isfinite(v)) << "non-finite output";

    Rng rng(7, "gradcheck");
    Tensor seed = Tensor::empty_like(y.value());
    fill_uniform(seed, -1, 1, rng);
    const std::vector<double> weights = seed.values<double>();
    tape.backward(y, seed);

    {
        Tape inference(Tape::Mode::inference);
        const Var again = f(inference, detail::put_with_grad(inference, inputs, fixed));
        EXPECT_EQ(again.value().values<double>(), outputs) << "inference computes something else than training";
        EXPECT_EQ(inference.node_count(), 0);
    }

    int reported = 0;
    for (int i = 0; i < static_cast<int>(inputs.size()); ++i) {
        if (detail::is_fixed(fixed, i)) continue;
        const std::vector<double> analytic = detail::gradient_of(tape, vars[i]);
        Tape alone;
        const std::vector<Var> alone_vars = detail::put_with_grad(alone, inputs, fixed, i);
        const Var alone_y = f(alone, alone_vars);
        if (alone_y.requires_grad()) {
            alone.backward(alone_y, seed);
            EXPECT_EQ(detail::gradient_of(alone, alone_vars[i]), analytic)
                << "input " << i << ": the gradient changes when only this input asks for one";
        }

        Tensor original = inputs[i];
        const std::vector<double> x = original.values<double>();
        for (std::size_t k = 0; k < x.size() && reported < 10; ++k) {
            inputs[i] = original.clone();
            double* cell = inputs[i].write<double>() + k;
            const double upper = x[k] + h, lower = x[k] - h;
            *cell = upper;
            const double above = detail::weighted_output(f, inputs, weights);
            *cell = lower;
            const double below = detail::weighted_output(f, inputs, weights);
            const double numeric = (above - below) / (upper - lower);
            if (!(std::abs(analytic[k] - numeric) <= atol + rtol * std::abs(numeric))) {
                ++reported;
                ADD_FAILURE() << "input " << i << ", element " << k << ": analytic gradient " << analytic[k]
                              << ", central difference " << numeric;
            }
        }
        inputs[i] = original;
    }
}

}  // namespace bitloom::ops::test
