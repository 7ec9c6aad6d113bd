// Rows of the pointwise, loss, dropout, shaping and reduction ops.

#include <array>

#include "ops/dropout.h"
#include "ops/loss.h"
#include "ops/pointwise.h"
#include "ops/reduction.h"
#include "ops/shaping.h"
#include "tests/ops/op_cases.h"
#include "tests/ops/variants.h"

namespace bitloom::ops::test {

namespace {

using Build = std::function<Var(Tape&, std::span<const Var>)>;
using Rows = std::vector<OpCase>;

/// Beyond the sizes below which kernels stay on one thread; compared between devices, too large for central
/// differences.
OpCase large(OpCase c) {
    c.name += "_large";
    c.differentiable_check = false;
    return c;
}

std::string label_of(const Shape& shape) {
    std::string text = shape.rank() == 0 ? "scalar" : "";
    for (int axis = 0; axis < shape.rank(); ++axis) text += (axis ? "x" : "") + std::to_string(shape[axis]);
    return text;
}

const std::vector<Shape>& odd_shapes() {
    static const std::vector<Shape> shapes = {{1}, {7}, {33}, {1, 5, 3}, {2, 3, 1, 5}, {1, 1, 67}};
    return shapes;
}

void add_unary(Rows& rows) {
    for (int i = 0; i < static_cast<int>(UnaryOp::count); ++i) {
        const UnaryOp op = static_cast<UnaryOp>(i);
        const std::string name(unary_names[static_cast<std::size_t>(i)]);
        double a = 0, b = 0;
        if (op == UnaryOp::leaky_relu) a = 0.25;
        if (op == UnaryOp::hard_sigmoid) a = 0.5, b = 0.5;
        if (op == UnaryOp::clamp) a = -1, b = 2;
        const bool approximated = op == UnaryOp::sigmoid || op == UnaryOp::tanh || op == UnaryOp::swish ||
                                  op == UnaryOp::exp || op == UnaryOp::log || op == UnaryOp::sqrt;
        const bool needs_positive = op == UnaryOp::log || op == UnaryOp::sqrt;
        const auto row = [&](const Shape& shape) {
            return OpCase{.op = "unary",
                          .name = name + "_" + label_of(shape),
                          .inputs = {shape},
                          .build = [op, a, b](Tape&, std::span<const Var> in) { return unary(op, in[0], a, b); },
                          .variant = name,
                          .exact_on_integers = !approximated,
                          .low = approximated ? -3.0 : -8.0,
                          .high = approximated ? 3.0 : 8.0,
                          .kink_free = true,
                          .positive_inputs = needs_positive ? std::vector<int>{0} : std::vector<int>{}};
        };
        for (const Shape& shape : odd_shapes()) rows.push_back(row(shape));
        rows.push_back(large(row({3, 40961})));
    }
    rows.push_back({.op = "unary",
                    .name = "smooth_sigmoid_29",
                    .inputs = {{29}},
                    .build = [](Tape&, std::span<const Var> in) { return smooth_sigmoid(in[0]); },
                    .variant = "hard_sigmoid",
                    .low = -5,
                    .high = 5,
                    .kink_free = true});
}

void add_binary(Rows& rows) {
    struct Pair {
        Shape a, b;
        std::int64_t summed;  // gradients that fall on one element of the broadcast operand
    };
    const std::vector<Pair> pairs = {{{2, 3, 4}, {2, 3, 4}, 1},
                                     {{2, 3, 4}, {4}, 6},
                                     {{2, 1, 4}, {3, 1}, 8},
                                     {{5}, {1}, 5},
                                     {{1}, {3, 3}, 9},
                                     {{1, 5, 3}, {1, 5, 1}, 3},
                                     {{2, 3, 3, 5}, {2, 1, 1, 5}, 9},
                                     {{3, 1, 2}, {2, 1, 3, 1}, 6},
                                     {Shape{}, {7}, 7}};
    for (int i = 0; i < static_cast<int>(BinaryOp::count); ++i) {
        const BinaryOp op = static_cast<BinaryOp>(i);
        const std::string name(binary_names[static_cast<std::size_t>(i)]);
        const auto row = [&](const Pair& p) {
            return OpCase{.op = "binary",
                          .name = name + "_" + label_of(p.a) + "_" + label_of(p.b),
                          .inputs = {p.a, p.b},
                          .build = [op](Tape&, std::span<const Var> in) { return binary(op, in[0], in[1]); },
                          .variant = name,
                          .accumulation = p.summed,
                          .exact_on_integers = op != BinaryOp::divide,
                          .low = -2,
                          .high = 2,
                          .kink_free = true,
                          .positive_inputs = op == BinaryOp::divide ? std::vector<int>{1} : std::vector<int>{}};
        };
        for (const Pair& p : pairs) rows.push_back(row(p));
        rows.push_back(large(row({{5, 33, 31, 17}, {5, 33, 31, 17}, 1})));
        rows.push_back(large(row({{5, 33, 31, 17}, {17}, 5 * 33 * 31})));
        rows.push_back(large(row({{5, 33, 31, 17}, {5, 1, 1, 17}, 33 * 31})));
    }
}

void add_scale(Rows& rows) {
    const auto row = [](const std::string& name, const Shape& shape, double slope, double offset, bool exact) {
        return OpCase{.op = "scale",
                      .name = name,
                      .inputs = {shape},
                      .build = [slope, offset](Tape&, std::span<const Var> in) { return scale(in[0], slope, offset); },
                      .exact_on_integers = exact};
    };
    rows.push_back(row("halve_plus_three", {7}, 0.5, 3, true));
    rows.push_back(row("negate", {1, 5, 3}, -1, 0, true));
    rows.push_back(row("shift", {33}, 1, -2, true));
    rows.push_back(row("tenth", {2, 3, 1, 5}, 0.1, 0.3, false));
    rows.push_back(row("to_constant", {1}, 0, 4, true));
    rows.push_back(large(row("double", {99991}, 2, 1, true)));
}

void add_surrogates(Rows& rows) {
    const auto row = [](std::string name, std::string variant, const Shape& shape, StepFunction function,
                        SurrogateRule rule) {
        const bool approximated = rule.rule == Surrogate::tanh || rule.rule == Surrogate::swish_sign;
        return OpCase{.op = "surrogate",
                      .name = std::move(name),
                      .inputs = {shape},
                      .build = [function, rule](Tape&, std::span<const Var> in) { return step(function, in[0], rule); },
                      .variant = std::move(variant),
                      .exact_on_integers = !approximated,
                      .differentiable_check = false,  // against the written formulas, in pointwise_test.cpp
                      .low = -3,
                      .high = 3};
    };
    for (const StepFunction function : step_functions)
        for (const Shape& shape : {Shape{7}, Shape{1, 5, 3}, Shape{33}, Shape{2, 3, 1, 5}, Shape{70001}})
            rows.push_back(row(cat("step_", name_of(function), "_", label_of(shape)), std::string(name_of(function)),
                               shape, function, {}));
    for (const Surrogate rule : surrogates)
        for (const Shape& shape : {Shape{7}, Shape{1, 5, 3}, Shape{33}, Shape{2, 3, 1, 5}, Shape{70001}})
            rows.push_back(row(cat("rule_", name_of(rule), "_", label_of(shape)), std::string(name_of(rule)), shape,
                               StepFunction::sign_binary, {rule, -1, 2, 0.5}));
    rows.push_back({.op = "surrogate",
                    .name = "straight_through_33",
                    .inputs = {{33}},
                    .build =
                        [](Tape&, std::span<const Var> in) {
                            return straight_through(in[0], in[0].value().clone(), {Surrogate::clipped, -1, 1});
                        },
                    .variant = "clipped",
                    .differentiable_check = false,
                    .low = -3,
                    .high = 3});
}

Tensor labels_like(const Var& logits) {
    std::vector<std::int32_t> labels(static_cast<std::size_t>(logits.dim(0)));
    for (std::size_t b = 0; b < labels.size(); ++b)
        labels[b] = static_cast<std::int32_t>((b * 7 + 3) % static_cast<std::size_t>(logits.dim(1)));
    return Tensor::from(Shape{logits.dim(0)}, labels, logits.device());
}

void add_losses(Rows& rows) {
    const auto softmax_row = [](bool log, const Shape& shape) {
        return OpCase{
            .op = log ? "log_softmax" : "softmax",
            .name = label_of(shape),
            .inputs = {shape},
            .build = [log](Tape&, std::span<const Var> in) { return log ? log_softmax(in[0]) : softmax(in[0]); },
            .accumulation = shape[-1],
            .exact_on_integers = false,
            .low = -4,
            .high = 4};
    };
    for (const bool log : {false, true}) {
        for (const Shape& shape :
             {Shape{7}, Shape{1, 10}, Shape{3, 1}, Shape{5, 33}, Shape{2, 3, 5}, Shape{1, 2, 1, 17}})
            rows.push_back(softmax_row(log, shape));
        rows.push_back(large(softmax_row(log, {7001, 10})));
        rows.push_back(large(softmax_row(log, {67, 1001})));
    }
    const auto entropy_row = [](const Shape& shape) {
        return OpCase{.op = "cross_entropy",
                      .name = label_of(shape),
                      .inputs = {shape},
                      .build = [](Tape&, std::span<const Var> in) { return cross_entropy(in[0], labels_like(in[0])); },
                      .accumulation = shape[0] + shape[1],
                      .exact_on_integers = false,
                      .low = -4,
                      .high = 4,
                      .in_bf16 = false};
    };
    for (const Shape& shape : {Shape{1, 10}, Shape{5, 10}, Shape{3, 7}, Shape{4, 1}, Shape{2, 33}, Shape{1, 2}})
        rows.push_back(entropy_row(shape));
    rows.push_back(large(entropy_row({7001, 10})));
    rows.push_back(large(entropy_row({67, 1001})));
}

void add_dropouts(Rows& rows) {
    const auto dropout_row = [](const std::string& name, const Shape& shape, double rate, bool exact) {
        return OpCase{
            .op = "dropout",
            .name = name,
            .inputs = {shape},
            .build = [rate](Tape&, std::span<const Var> in) { return dropout(in[0], rate, stream(3, "rows", 11)); },
            .exact_on_integers = exact};
    };
    rows.push_back(dropout_row("half_7", {7}, 0.5, true));
    rows.push_back(dropout_row("half_1x5x3", {1, 5, 3}, 0.5, true));
    rows.push_back(dropout_row("three_quarters_33", {33}, 0.75, true));
    rows.push_back(dropout_row("fifth_2x3x1x5", {2, 3, 1, 5}, 0.2, false));
    rows.push_back(dropout_row("nine_tenths_67", {67}, 0.9, false));
    rows.push_back(large(dropout_row("half", {3, 40961}, 0.5, true)));
    rows.push_back(large(dropout_row("fifth", {99991}, 0.2, false)));

    const auto path_row = [](const std::string& name, const Shape& shape, double rate, bool exact) {
        return OpCase{
            .op = "drop_path",
            .name = name,
            .inputs = {shape},
            .build = [rate](Tape&, std::span<const Var> in) { return drop_path(in[0], rate, stream(3, "rows", 5)); },
            .exact_on_integers = exact};
    };
    rows.push_back(path_row("half_7", {7}, 0.5, true));
    rows.push_back(path_row("half_9x3x3x2", {9, 3, 3, 2}, 0.5, true));
    rows.push_back(path_row("three_quarters_8x5", {8, 5}, 0.75, true));
    rows.push_back(path_row("fifth_5x1x3", {5, 1, 3}, 0.2, false));
    rows.push_back(large(path_row("half", {33, 3001}, 0.5, true)));
    rows.push_back(
        {.op = "drop_path", .name = "given_uniforms", .inputs = {{4, 3}}, .build = [](Tape&, std::span<const Var> in) {
             return drop_path(in[0], 0.5, std::vector<float>{0.1f, 0.9f, 0.5f, 0.49f});
         }});
}

void add_shaping(Rows& rows) {
    const auto concat_row = [](const std::string& name, std::vector<Shape> inputs, int axis) {
        return OpCase{
            .op = "concat", .name = name, .inputs = std::move(inputs), .build = [axis](Tape&, std::span<const Var> in) {
                return concat(in, axis);
            }};
    };
    rows.push_back(concat_row("channels", {{2, 3, 3, 4}, {2, 3, 3, 5}}, -1));
    rows.push_back(concat_row("batch", {{1, 5}, {3, 5}}, 0));
    rows.push_back(concat_row("three", {{2, 1, 3}, {2, 4, 3}, {2, 2, 3}}, 1));
    rows.push_back(concat_row("one", {{7}}, 0));
    rows.push_back(concat_row("vectors", {{7}, {1}, {3}}, 0));
    rows.push_back(large(concat_row("channels", {{5, 33, 31, 17}, {5, 33, 31, 3}}, 3)));

    using Extents = std::vector<std::int64_t>;
    const auto slice_row = [](const std::string& name, const Shape& shape, Extents start, Extents stop, Extents step) {
        return OpCase{
            .op = "slice",
            .name = name,
            .inputs = {shape},
            .build = [start, stop, step](Tape&, std::span<const Var> in) { return slice(in[0], start, stop, step); }};
    };
    rows.push_back(slice_row("whole", {3, 5}, {0, 0}, {3, 5}, {1, 1}));
    rows.push_back(slice_row("every_other_pixel", {2, 5, 7, 3}, {0, 0, 0, 0}, {2, 5, 7, 3}, {1, 2, 2, 1}));
    rows.push_back(slice_row("inner_block", {4, 5, 3}, {1, 2, 0}, {3, 5, 2}, {1, 1, 1}));
    rows.push_back(slice_row("step_three", {11}, {1}, {11}, {3}));
    rows.push_back(slice_row("one_element", {2, 1, 3}, {1, 0, 2}, {2, 1, 3}, {1, 1, 1}));
    rows.push_back(large(slice_row("every_other_pixel", {5, 65, 63, 17}, {0, 0, 1, 0}, {5, 65, 63, 17}, {1, 2, 2, 1})));

    using Amounts = std::vector<std::pair<std::int64_t, std::int64_t>>;
    const auto pad_row = [](const std::string& name, const Shape& shape, Amounts amounts, double value) {
        return OpCase{
            .op = "pad", .name = name, .inputs = {shape}, .build = [amounts, value](Tape&, std::span<const Var> in) {
                return pad(in[0], amounts, value);
            }};
    };
    rows.push_back(pad_row("nothing", {3, 5}, {{0, 0}, {0, 0}}, 0));
    rows.push_back(pad_row("channels", {2, 3, 3, 4}, {{0, 0}, {0, 0}, {0, 0}, {2, 2}}, 0));
    rows.push_back(pad_row("image", {1, 3, 5, 2}, {{0, 0}, {1, 2}, {0, 3}, {0, 0}}, 0));
    rows.push_back(pad_row("with_ones", {7}, {{3, 1}}, 1));
    rows.push_back(pad_row("after", {1, 1, 3}, {{0, 1}, {0, 2}, {0, 1}}, -2));
    rows.push_back(large(pad_row("channels", {5, 33, 31, 17}, {{0, 0}, {0, 0}, {0, 0}, {8, 7}}, 0)));

    const auto reshape_row = [](const std::string& name, const Shape& shape, Extents extents) {
        return OpCase{
            .op = "reshape", .name = name, .inputs = {shape}, .build = [extents](Tape&, std::span<const Var> in) {
                return reshape(in[0], extents);
            }};
    };
    rows.push_back(reshape_row("open_extent", {2, 3, 5}, {3, -1}));
    rows.push_back(reshape_row("add_ones", {7}, {1, 7, 1}));
    rows.push_back(reshape_row("to_vector", {1, 5, 3}, {-1}));
    rows.push_back(reshape_row("same", {3, 3}, {3, 3}));
    rows.push_back(
        {.op = "reshape", .name = "flatten", .inputs = {{3, 2, 2, 5}}, .build = [](Tape&, std::span<const Var> in) {
             return flatten(in[0]);
         }});

    const auto transpose_row = [](const std::string& name, const Shape& shape, std::vector<int> axes) {
        return OpCase{
            .op = "transpose", .name = name, .inputs = {shape}, .build = [axes](Tape&, std::span<const Var> in) {
                return transpose(in[0], axes);
            }};
    };
    rows.push_back(transpose_row("matrix", {3, 5}, {1, 0}));
    rows.push_back(transpose_row("channels_first", {2, 3, 5, 4}, {0, 3, 1, 2}));
    rows.push_back(transpose_row("identity", {2, 7}, {0, 1}));
    rows.push_back(transpose_row("rotate", {2, 3, 5}, {2, 0, 1}));
    rows.push_back(transpose_row("six_axes", {1, 2, 3, 1, 2, 3}, {5, 3, 1, 0, 2, 4}));
    rows.push_back(transpose_row("vector", {7}, {0}));
    rows.push_back(large(transpose_row("channels_first", {5, 33, 31, 17}, {0, 3, 1, 2})));
    rows.push_back(large(transpose_row("matrix", {301, 333}, {1, 0})));
}

void add_casts(Rows& rows) {
    const auto cast_row = [](const std::string& name, const Shape& shape, DType to, DType otherwise) {
        return OpCase{
            .op = "cast",
            .name = name,
            .inputs = {shape},
            .build = [=](Tape&, std::span<const Var> in) { return cast(in[0], in[0].dtype() == to ? otherwise : to); },
            .differentiable_check = false};
    };
    for (const Shape& shape : {Shape{7}, Shape{3, 5}, Shape{2, 3, 5, 4}})
        rows.push_back(cast_row("bf16_" + label_of(shape), shape, DType::bf16, DType::f32));
    rows.push_back(cast_row("f64", {5, 33}, DType::f64, DType::f32));
    rows.push_back(large(cast_row("bf16", {301, 333}, DType::bf16, DType::f64)));
}

void add_reductions(Rows& rows) {
    struct Reduced {
        std::string name;
        Shape shape;
        std::vector<int> axes;
        bool keep;
        std::int64_t count;
    };
    const std::vector<Reduced> small = {{"all", {2, 3, 5}, {}, false, 30},
                                        {"all_kept", {1, 5, 3}, {}, true, 15},
                                        {"last", {4, 7}, {-1}, false, 7},
                                        {"first", {5, 3}, {0}, false, 5},
                                        {"middle", {2, 4, 3}, {1}, true, 4},
                                        {"pixels", {2, 3, 4, 5}, {1, 2}, false, 12},
                                        {"outer", {3, 2, 5}, {0, 2}, false, 15},
                                        {"ones", {1, 7, 1}, {0, 2}, false, 1},
                                        {"single", {1}, {}, false, 1}};
    const std::vector<Reduced> big = {{"all", {99991}, {}, false, 99991},
                                      {"first", {9001, 13}, {0}, false, 9001},
                                      {"last", {101, 1003}, {1}, false, 1003},
                                      {"pixels", {5, 33, 31, 17}, {1, 2}, false, 33 * 31},
                                      {"outer", {5, 33, 31, 17}, {0, 1, 2}, true, 5 * 33 * 31}};
    const auto sum_row = [](const Reduced& r) {
        return OpCase{.op = "reduce_sum",
                      .name = "sum_" + r.name,
                      .inputs = {r.shape},
                      .build = [axes = r.axes, keep = r.keep](
                                   Tape&, std::span<const Var> in) { return reduce_sum(in[0], axes, keep); },
                      .accumulation = r.count};
    };
    const auto mean_row = [](const Reduced& r) {
        return OpCase{.op = "reduce_sum",
                      .name = "mean_" + r.name,
                      .inputs = {r.shape},
                      .build = [axes = r.axes, keep = r.keep](
                                   Tape&, std::span<const Var> in) { return reduce_mean(in[0], axes, keep); },
                      .accumulation = r.count,
                      .exact_on_integers = (r.count & (r.count - 1)) == 0};  // a product with 1 / count is then exact
    };
    const auto max_row = [](const Reduced& r) {
        return OpCase{.op = "reduce_max",
                      .name = r.name,
                      .inputs = {r.shape},
                      .build = [axes = r.axes, keep = r.keep](
                                   Tape&, std::span<const Var> in) { return reduce_max(in[0], axes, keep); },
                      .kink_free = true};
    };
    for (const Reduced& r : small) rows.push_back(sum_row(r)), rows.push_back(mean_row(r)), rows.push_back(max_row(r));
    for (const Reduced& r : big)
        rows.push_back(large(sum_row(r))), rows.push_back(large(mean_row(r))), rows.push_back(large(max_row(r)));
}

}  // namespace

std::vector<OpCase> pointwise_cases() {
    Rows rows;
    add_unary(rows);
    add_binary(rows);
    add_scale(rows);
    add_surrogates(rows);
    add_losses(rows);
    add_dropouts(rows);
    add_shaping(rows);
    add_reductions(rows);
    add_casts(rows);
    return rows;
}

}  // namespace bitloom::ops::test
