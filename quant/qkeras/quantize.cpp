#include "quant/qkeras/quantize.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "engine/step_capture.h"
#include "ops/kernels.h"
#include "ops/pointwise.h"
#include "ops/shaping.h"
#include "quant/kernels.h"

namespace bitloom::quant::qkeras {

AxisMap convolution_axes() { return {{1, 2, 3, 0}}; }
AxisMap dense_axes() { return {{1, 0}}; }
AxisMap transposed_convolution_axes() { return {{1, 2, 3, 0}}; }
AxisMap depthwise_axes() { return {{2, 3, 0, 1}}; }

namespace {

/// x seen as [cells, inner]: scale axes in front, in ascending order, the others behind them.
struct Cells {
    int rank = 0, scale_axes = 0;
    std::array<int, Shape::max_rank> order{};  ///< axes of x, scale axes first
    std::array<std::int64_t, Shape::max_rank> group{};  ///< of each scale axis: entries that share a scale
    std::int64_t cells = 1, inner = 1;
    bool in_place = true;  ///< scale axes lead already
    bool grouped = false;
    bool whole_peak = false;  ///< the first scale is one for all cells
};

Cells cells_of(const Quantizer& q, const Settings& settings, const AxisMap& axes, const Shape& shape) {
    Cells c;
    c.rank = shape.rank();
    const auto here = [&](std::int64_t axis) {
        require(axis < c.rank, q.name(), ": scale_axis ", axis, " does not exist in values of shape ", shape);
        if (axes.of.empty()) return static_cast<int>(axis);
        require(static_cast<int>(axes.of.size()) == c.rank, q.name(), ": values of shape ", shape, " do not fit the layer's layout");
        return axes.of[static_cast<std::size_t>(axis)];
    };
    std::array<std::int64_t, Shape::max_rank> group_of{};  // by axis of x; 0: shares one scale
    if (!q.scale_axis.empty()) {
        for (std::size_t i = 0; i < q.scale_axis.size(); ++i) {
            std::int64_t g = 1;
            if (!q.elements_per_scale.empty())
                g = q.elements_per_scale[q.elements_per_scale.size() == 1 ? 0 : i];
            const int axis = here(q.scale_axis[i]);
            require(shape[axis] % g == 0, q.name(), ": elements_per_scale ", g, " does not divide axis ", q.scale_axis[i],
                    " of ", shape[axis], " entries");
            group_of[static_cast<std::size_t>(axis)] = g;
            c.grouped = c.grouped || g > 1;
        }
    } else if (c.rank > 1) {
        group_of[static_cast<std::size_t>(here(c.rank - 1))] = 1;
    } else if (c.rank == 1 && settings.release == Release::current) {
        group_of[0] = 1;  // every element its own scale
        c.whole_peak = q.kind != QuantizerKind::quantized_linear;
    }
    for (int axis = 0; axis < c.rank; ++axis)
        if (group_of[static_cast<std::size_t>(axis)] > 0) {
            c.in_place = c.in_place && axis == c.scale_axes;
            c.group[static_cast<std::size_t>(c.scale_axes)] = group_of[static_cast<std::size_t>(axis)];
            c.order[static_cast<std::size_t>(c.scale_axes++)] = axis;
            c.cells *= shape[axis];
        }
    int next = c.scale_axes;
    for (int axis = 0; axis < c.rank; ++axis)
        if (group_of[static_cast<std::size_t>(axis)] == 0) {
            c.order[static_cast<std::size_t>(next++)] = axis;
            c.inner *= shape[axis];
        }
    return c;
}

/// The scale's shape: x's rank, 1 on axes that share scales.
Shape scale_shape(const Cells& c, const Shape& shape) {
    Shape scale = shape;
    for (int i = c.scale_axes; i < c.rank; ++i) scale.set(c.order[static_cast<std::size_t>(i)], 1);
    return scale;
}

/// Moves between x's order and cells; with `back`, from cells to x's order.
Tensor rearranged(const Cells& c, const Shape& shape, const Tensor& source, bool back) {
    if (c.in_place) return source.reshape(back ? shape : Shape{c.cells, c.inner});
    require(c.rank <= 6, "quantizer: scales along inner axes need at most 6 axes, got ", c.rank);
    ops::StridedCopy copy;
    copy.rank = c.rank;
    std::array<std::int64_t, Shape::max_rank> strides{};
    std::int64_t stride = 1;
    for (int axis = c.rank; axis-- > 0;) {
        strides[static_cast<std::size_t>(axis)] = stride;
        stride *= shape[axis];
    }
    stride = 1;
    for (int i = c.rank; i-- > 0;) {
        const int axis = c.order[static_cast<std::size_t>(i)];
        const auto at = static_cast<std::size_t>(i);
        copy.sizes[at] = shape[axis];
        (back ? copy.target_strides : copy.source_strides)[at] = strides[static_cast<std::size_t>(axis)];
        (back ? copy.source_strides : copy.target_strides)[at] = stride;
        stride *= shape[axis];
    }
    Tensor target = Tensor::empty(back ? shape : Shape{c.cells, c.inner}, source.dtype(), source.device());
    ops::kernel(source.device(), "strided_copy", &ops::OpKernels::strided_copy)(copy, source, target);
    return target;
}

/// Group number of every cell.
Tensor groups_of(const Cells& c, const Shape& shape, Device device) {
    std::vector<std::int32_t> groups(static_cast<std::size_t>(c.cells));
    for (std::int64_t cell = 0; cell < c.cells; ++cell) {
        std::int64_t rest = cell, group = 0, radix = 1;
        for (int i = c.scale_axes; i-- > 0;) {
            const std::int64_t extent = shape[c.order[static_cast<std::size_t>(i)]], g = c.group[static_cast<std::size_t>(i)];
            group += rest % extent / g * radix;
            radix *= extent / g;
            rest /= extent;
        }
        groups[static_cast<std::size_t>(cell)] = static_cast<std::int32_t>(group);
    }
    return Tensor::from({c.cells}, groups, device);
}

/// bf16 values are quantized in f32, and so are the random numbers beside them.
DType computed(DType values) { return values == DType::bf16 ? DType::f32 : values; }

Tensor draw(const Var& x, const PhiloxStream& stream, std::uint64_t which) {
    Tensor draws = Tensor::empty(x.shape(), computed(x.dtype()), x.device());
    kernel(x.device(), "uniform", &QuantKernels::uniform)(
        {stream.key + which * 0x9e3779b97f4a7c15ull, stream.counter, stream.device_counter}, draws);
    return draws;
}

void require_shape(const Quantizer& q, std::string_view what, const Tensor& given, const Var& x) {
    require(!given.defined() || (given.shape() == x.shape() && given.dtype() == computed(x.dtype())), q.name(), ": ", what, " of shape ",
            given.shape(), " do not fit values of shape ", x.shape());
}

const Tensor* pointer(const Tensor& t) { return t.defined() ? &t : nullptr; }

/// Memory for values like x: the pass's own where it is free.
Tensor values_like(const Tensor& x, const Pass& pass) {
    if (!pass.storage || step_is_being_captured()) return Tensor::empty_like(x);
    Tensor& kept = *pass.storage;
    const bool fits = kept.defined() && kept.numel() == x.numel() && kept.dtype() == x.dtype() && kept.device() == x.device() && kept.unique();
    if (!fits) kept = Tensor::empty_like(x);
    return kept.reshape(x.shape());
}

Tensor one(double value, const Var& x) { return Tensor::full(Shape(), value, x.dtype(), x.device()); }

/// Step of the codes of a rule; 0 where they have none.
double step_of(const ElementRule& r) {
    if (r.noise != 1) return 0;
    switch (r.kind) {
        case ElementKind::levels: return r.shift == 0 ? r.gain : r.gain * 0.5;
        case ElementKind::sign:
        case ElementKind::ternary: return r.gain;
        case ElementKind::relu:
        case ElementKind::relu_sigmoid: return r.cap_output || r.slope > 0 ? 0 : r.range / r.count;
        case ElementKind::tanh:
        case ElementKind::sigmoid: return r.rounding == ElementRounding::none ? 0 : 1 / r.count;
        case ElementKind::sigmoid_tanh: return r.range / r.count;
        default: return 0;
    }
}

}  // namespace

TensorQuantizer::TensorQuantizer(const Quantizer& quantizer, const Settings& settings, const AxisMap& axes)
    : quantizer_(quantizer), settings_(settings), axes_(axes) {
    check(quantizer_);
    set_noise(quantizer_.qnoise_factor);
}

void TensorQuantizer::set_noise(double factor) {
    quantizer_.qnoise_factor = factor;
    for (const bool training : {false, true}) {
        uses_scale_[training] = uses_scale(quantizer_, training);
        if (uses_scale_[training])
            scale_[training] = scale_rule(quantizer_, settings_, training);
        else
            element_[training] = element_rule(quantizer_, settings_, training);
    }
}

Var TensorQuantizer::operator()(const Var& x, const Pass& pass) const { return run(x, pass, false).values; }
Quantized TensorQuantizer::quantize(const Var& x, const Pass& pass) const { return run(x, pass, true); }

Quantized TensorQuantizer::run(const Var& x, const Pass& pass, bool report) const {
    require_shape(quantizer_, "draws", pass.draws, x);
    require_shape(quantizer_, "second draws", pass.second_draws, x);
    require_shape(quantizer_, "a mask", pass.mask, x);
    // Kernels of one element read and write bf16 themselves, but those of the reference device.
    const bool direct = !uses_scale_[pass.training] && quantizer_.kind != QuantizerKind::quantized_hswish &&
                        x.device().kind != DeviceKind::reference;
    if (x.dtype() == DType::bf16 && !direct) {
        Quantized wide = run(ops::cast(x, DType::f32), pass, report);
        wide.values = ops::cast(wide.values, DType::bf16);
        return wide;
    }
    Var input = x;
    if (quantizer_.kind == QuantizerKind::quantized_hswish) {
        // x relu6(x + 3) / 6, the shift and the bound configurable; the gate's gradient is 1 on (0, bound]
        const double bound = *quantizer_.relu_upper_bound;
        const Var gate = ops::clamp(ops::relu(ops::scale(x, 1, quantizer_.relu_shift)), 0, bound);
        input = ops::divide(ops::multiply(x, gate), x.tape().constant(one(bound, x)));
    }
    return uses_scale_[pass.training] ? scaled(input, pass, report) : fixed(input, pass, report);
}

Quantized TensorQuantizer::fixed(const Var& x, const Pass& pass, bool report) const {
    const ElementRule& rule = element_[pass.training];
    const bool by_chance = rule.rounding == ElementRounding::stochastic;
    Tensor draws = pass.draws;
    if (by_chance && !draws.defined()) draws = draw(x, pass.stream, 0);
    if (!by_chance) draws = Tensor();
    Tensor y = values_like(x.value(), pass);
    kernel(x.device(), "quantize", &QuantKernels::quantize)(rule, x.value(), pointer(pass.mask), pointer(draws), y);
    const Tensor mask = pass.mask_gradient ? pass.mask : Tensor();
    // One backward rule, read when it runs: with the identity nothing is computed.
    const bool identity = rule.gradient == ElementGradient::identity && rule.through && !mask.defined();
    Quantized result;
    if (identity)
        result.values = x.tape().record("quantize", {x}, std::move(y), [](BackwardContext& c) { c.give(0, c.grad()); });
    else
        result.values = x.tape().record(
            "quantize", {x}, std::move(y), [rule, x = x.value(), mask, draws](BackwardContext& c) {
                Tensor dx = Tensor::empty_like(x);
                kernel(x.device(), "quantize_backward", &QuantKernels::quantize_backward)(rule, x, pointer(mask),
                                                                                          pointer(draws), c.grad(), dx);
                c.give(0, std::move(dx));
            });
    if (report) {
        const auto constant = [&](double value) { return Tensor::full(Shape(), value, computed(x.dtype()), x.device()); };
        result.scale = constant(quantizer_.alpha.value);
        const double step = step_of(rule);
        if (step > 0) result.step = constant(step);
    }
    return result;
}

Quantized TensorQuantizer::scaled(const Var& x, const Pass& pass, bool report) const {
    ScaleRule rule = scale_[pass.training];
    const Shape& shape = x.shape();
    const Cells cells = cells_of(quantizer_, settings_, axes_, shape);
    rule.peak_over_all = cells.whole_peak;

    Tensor draws = pass.draws, second = pass.second_draws, groups, given;
    if (uses_draws(quantizer_, pass.training) && !draws.defined()) draws = draw(x, pass.stream, 0);
    if (uses_second_draws(quantizer_, pass.training) && !second.defined()) second = draw(x, pass.stream, 1);
    if (draws.defined()) draws = rearranged(cells, shape, draws, false);
    if (second.defined()) second = rearranged(cells, shape, second, false);
    if (cells.grouped) groups = groups_of(cells, shape, x.device());
    if (!quantizer_.post_training_scale.empty()) {
        const auto& fixed = quantizer_.post_training_scale;
        require(fixed.size() == 1 || static_cast<std::int64_t>(fixed.size()) == cells.cells, quantizer_.name(), ": ",
                fixed.size(), " post-training scales for ", cells.cells, " channels");
        std::vector<double> scales(static_cast<std::size_t>(cells.cells));
        for (std::size_t i = 0; i < scales.size(); ++i)
            scales[i] = fixed[fixed.size() == 1 ? 0 : i] / reported_scale_factor(quantizer_);
        given = Tensor::from({cells.cells}, scales).to(x.dtype()).to(x.device());
    }

    const Tensor in = rearranged(cells, shape, x.value(), false);
    Tensor y = values_like(in, pass), scale = Tensor::empty({cells.cells}, x.dtype(), x.device()), gradient;
    const bool clipped = rule.codes == ScaledCodes::linear;
    if (clipped) gradient = Tensor::empty_like(in);
    kernel(x.device(), "quantize_scaled", &QuantKernels::quantize_scaled)(rule, in, pointer(groups), pointer(given),
                                                                          pointer(draws), pointer(second), y, scale,
                                                                          clipped ? &gradient : nullptr);
    y = rearranged(cells, shape, y, true);
    if (clipped) gradient = rearranged(cells, shape, gradient, true);
    const double f = quantizer_.qnoise_factor;
    const auto& ops_table = ops::op_kernels(x.device());
    if (f != 1) {
        // x + f (q - x)
        Tensor difference = Tensor::empty_like(y);
        ops_table.binary_forward(ops::BinaryOp::subtract, y, x.value(), difference);
        ops_table.scale_forward(f, 0, difference, difference);
        ops_table.binary_forward(ops::BinaryOp::add, x.value(), difference, y);
    }
    // In place: the scale has to be known before the first value is, so these quantizers go over a channel several times as
    // it is, and what the mask multiplies still lies in the cache.
    if (pass.mask.defined()) kernel(x.device(), "apply_mask", &QuantKernels::apply_mask)(y, pass.mask, y);
    const Tensor mask = pass.mask_gradient ? pass.mask : Tensor();
    // Slope of the result: 1, or with a clip (1 - f) + f mask; 1 - f where nothing passes through the quantizer.
    const bool tanh_surrogate = quantizer_.alpha.kind == Alpha::Kind::none && quantizer_.kind == QuantizerKind::binary;
    const double inside = quantizer_.use_ste ? 1 : 1 - f;
    Quantized result;
    if (!clipped && inside == 1 && !mask.defined() && !tanh_surrogate) {
        result.values = x.tape().record("quantize", {x}, y, [](BackwardContext& c) { c.give(0, c.grad()); });
    } else {
        result.values = x.tape().record(
            "quantize", {x}, y,
            [x = x.value(), gradient, mask, f, inside, tanh_surrogate](BackwardContext& c) {
                const auto& table = ops::op_kernels(x.device());
                Tensor dx = c.grad().clone();
                const auto times = [&](const Tensor& factor) {
                    kernel(x.device(), "apply_mask", &QuantKernels::apply_mask)(dx, factor, dx);
                };
                if (gradient.defined()) {
                    Tensor slope = Tensor::empty_like(gradient);
                    table.scale_forward(f, 1 - f, gradient, slope);
                    times(slope);
                } else if (inside != 1) {
                    table.scale_forward(inside, 0, dx, dx);
                }
                if (tanh_surrogate) {
                    Tensor through = Tensor::empty_like(dx);
                    table.surrogate_backward({ops::Surrogate::tanh}, x, dx, through);
                    dx = std::move(through);
                }
                if (mask.defined()) times(mask);
                c.give(0, std::move(dx));
            });
    }
    if (report) {
        const Shape reported = scale_shape(cells, shape);
        const bool alpha_given = rule.source == ScaleSource::given && quantizer_.post_training_scale.empty();
        const double factor = reported_scale_factor(quantizer_);
        result.scale = Tensor::empty({cells.cells}, x.dtype(), x.device());
        ops_table.scale_forward(factor, 0, scale, result.scale);
        if (rule.codes == ScaledCodes::bits) {
            // A channel of zeros has scale 1, not one found from 0 / 0. Least squares of signs have no such quotient.
            std::vector<double> values = result.scale.values<double>();
            for (double& v : values)
                if (v == 0) v = 1;
            result.scale = Tensor::from({cells.cells}, values).to(x.dtype()).to(x.device());
        }
        // Without least squares a vector has one scale, that of its largest magnitude.
        const bool one_for_all = cells.whole_peak && rule.codes == ScaledCodes::bits && rule.source == ScaleSource::automatic && cells.cells > 0;
        result.scale = one_for_all ? result.scale.rows(0, 1) : result.scale.reshape(reported);
        if (alpha_given) result.scale = one(quantizer_.alpha.value, x);
        if (f == 1) {
            result.step = Tensor::empty({cells.cells}, x.dtype(), x.device());
            ops_table.scale_forward(rule.unit * (rule.shift == 0 ? 1 : 0.5), 0, scale, result.step);
            result.step = result.step.reshape(reported);
        }
    }
    return result;
}

Tensor codes(const Tensor& values, const Tensor& step) {
    require(step.defined(), "codes: the values are no multiples of a step");
    Tensor ratio = Tensor::empty_like(values);
    ops::op_kernels(values.device()).binary_forward(ops::BinaryOp::divide, values, step, ratio);
    std::vector<std::int32_t> whole;
    for (const double v : ratio.values<double>())
        whole.push_back(std::isfinite(v) ? static_cast<std::int32_t>(std::nearbyint(v)) : 0);  // 0 / 0: a channel of zeros
    return Tensor::from(values.shape(), whole, values.device());
}

}  // namespace bitloom::quant::qkeras
