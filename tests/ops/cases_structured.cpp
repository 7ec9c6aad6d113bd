// Rows of convolution, dense layers, normalisation and pooling.

#include <algorithm>

#include "ops/convolution.h"
#include "ops/dense.h"
#include "ops/normalization.h"
#include "ops/pooling.h"
#include "tests/ops/op_cases.h"

namespace bitloom::ops::test {

namespace {

/// Sums of the three passes: over a filter, over the filters that read a cell, over the output map of the batch.
std::int64_t conv_accumulation(const Shape& weight, std::int64_t outputs) {
    return std::max({weight.product(1, 4), weight.product(0, 3), outputs});
}

OpCase conv_case(std::string name, Shape x, Shape weight, Conv2dOptions options, bool with_bias) {
    const Conv2dGeometry g = conv2d_geometry(x, weight, options);
    OpCase c{.op = "conv2d", .name = std::move(name), .inputs = {x, weight}, .build = {}};
    if (with_bias) c.inputs.push_back({weight[0]});
    c.build = [options, with_bias](Tape&, std::span<const Var> in) {
        return conv2d(in[0], in[1], with_bias ? in[2] : Var(), options);
    };
    c.accumulation = conv_accumulation(weight, g.batch * g.out_h * g.out_w);
    c.parameters = {1, 2};
    return c;
}

Conv2dOptions same(const Shape& x, const Shape& weight, std::int64_t stride_h, std::int64_t stride_w) {
    return {.stride_h = stride_h,
            .stride_w = stride_w,
            .padding = same_padding(x[1], x[2], weight[1], weight[2], stride_h, stride_w)};
}

void add_conv_cases(std::vector<OpCase>& cases) {
    const auto add = [&](std::string name, Shape x, Shape w, Conv2dOptions o, bool with_bias) {
        cases.push_back(conv_case(std::move(name), x, w, o, with_bias));
    };
    const auto add_same = [&](std::string name, Shape x, Shape w, std::int64_t stride_h, std::int64_t stride_w,
                              bool with_bias) {
        add(std::move(name), x, w, same(x, w, stride_h, stride_w), with_bias);
    };
    add("odd_sizes", {2, 5, 7, 3}, {4, 3, 3, 3}, {.padding = Padding::symmetric(1)}, false);
    add("valid_bias", {2, 6, 5, 3}, {5, 3, 3, 3}, {}, true);
    add("stride2", {2, 7, 7, 3}, {4, 3, 3, 3}, {.stride_h = 2, .stride_w = 2, .padding = Padding::symmetric(1)}, true);
    add("stride2_leaves_a_row_unread", {2, 6, 8, 2}, {3, 3, 3, 2}, {.stride_h = 2, .stride_w = 2}, false);
    add("stride_1x2", {2, 5, 6, 2}, {3, 3, 3, 2}, {.stride_w = 2, .padding = Padding::symmetric(1)}, true);
    add("stride3_skips_cells", {1, 8, 8, 2}, {3, 2, 2, 2}, {.stride_h = 3, .stride_w = 3}, true);
    add_same("same_stride2_even", {2, 6, 8, 3}, {4, 3, 3, 3}, 2, 2, false);
    add_same("same_kernel_4x2", {1, 5, 6, 2}, {3, 4, 2, 2}, 1, 1, true);
    add("unequal_padding", {1, 4, 5, 2}, {3, 3, 3, 2}, {.padding = {.top = 2, .bottom = 0, .left = 0, .right = 1}},
        false);
    add("padding_beyond_the_kernel", {1, 3, 3, 2}, {2, 2, 2, 2}, {.padding = Padding::symmetric(3)}, true);
    add("dilation2", {2, 7, 6, 2}, {3, 3, 3, 2}, {.padding = Padding::symmetric(2), .dilation_h = 2, .dilation_w = 2},
        true);
    add("dilation_2x1_stride2", {1, 9, 7, 2}, {3, 3, 3, 2},
        {.stride_h = 2, .stride_w = 2, .padding = {.top = 1, .bottom = 2, .left = 1, .right = 0}, .dilation_h = 2},
        false);
    add("groups2", {2, 5, 5, 4}, {6, 3, 3, 2}, {.padding = Padding::symmetric(1), .groups = 2}, true);
    add("groups3_stride2", {1, 6, 6, 9}, {6, 3, 3, 3}, {.stride_h = 2, .stride_w = 2, .groups = 3}, false);
    add("depthwise", {2, 5, 5, 5}, {5, 3, 3, 1}, {.padding = Padding::symmetric(1), .groups = 5}, true);
    add("depthwise_stride2", {1, 6, 5, 8}, {8, 3, 3, 1},
        {.stride_h = 2, .stride_w = 2, .padding = Padding::symmetric(1), .groups = 8}, false);
    add("depthwise_multiplier2", {1, 4, 5, 3}, {6, 3, 3, 1}, {.padding = Padding::symmetric(1), .groups = 3}, false);
    add("batch1", {1, 6, 6, 3}, {4, 3, 3, 3}, {.padding = Padding::symmetric(1)}, true);
    add("pointwise", {2, 4, 3, 5}, {7, 1, 1, 5}, {}, true);
    add("pointwise_stride2", {2, 6, 6, 4}, {8, 1, 1, 4}, {.stride_h = 2, .stride_w = 2}, false);
    add("kernel5", {1, 7, 6, 2}, {3, 5, 5, 2}, {.padding = Padding::symmetric(2)}, true);
    add("kernel_1x3", {2, 4, 6, 3}, {4, 1, 3, 3}, {.padding = {.top = 0, .bottom = 0, .left = 1, .right = 1}}, false);
    add("kernel_5x1", {2, 7, 3, 2}, {3, 5, 1, 2}, {.padding = {.top = 2, .bottom = 2, .left = 0, .right = 0}}, true);
    add("kernel_covers_the_map", {3, 4, 4, 3}, {6, 4, 4, 3}, {}, true);
    add("one_cell", {1, 1, 1, 1}, {1, 1, 1, 1}, {}, true);
    add("sixteen_channels", {1, 4, 4, 16}, {16, 3, 3, 16}, {.padding = Padding::symmetric(1)}, true);
    add("channels_off_the_vector_width", {1, 4, 3, 17}, {19, 3, 3, 17}, {.padding = Padding::symmetric(1)}, false);
    cases.push_back(conv_case("first_layer", {2, 6, 6, 3}, {16, 3, 3, 3}, {.padding = Padding::symmetric(1)}, true));
    cases.back().fixed_inputs = {0};
    cases.push_back(conv_case("frozen_weight", {2, 4, 4, 3}, {4, 3, 3, 3}, {.padding = Padding::symmetric(1)}, true));
    cases.back().fixed_inputs = {1};
}

struct OutputPadding {
    std::int64_t h = 0, w = 0;
};

void add_conv_transpose_cases(std::vector<OpCase>& cases) {
    const auto add = [&](std::string name, Shape x, Shape w, Conv2dOptions o, OutputPadding extra, bool with_bias) {
        OpCase c{.op = "conv2d_transpose", .name = std::move(name), .inputs = {x, w}, .build = {}};
        if (with_bias) c.inputs.push_back({w[3] * o.groups});
        c.build = [o, extra, with_bias](Tape&, std::span<const Var> in) {
            return conv2d_transpose(in[0], in[1], with_bias ? in[2] : Var(), o, extra.h, extra.w);
        };
        const std::int64_t reach_h = x[1] * o.stride_h + w[1] * o.dilation_h,
                           reach_w = x[2] * o.stride_w + w[2] * o.dilation_w;
        c.accumulation = conv_accumulation(w, x[0] * reach_h * reach_w);  // dbias sums the whole output
        c.parameters = {1, 2};
        cases.push_back(std::move(c));
    };
    add("kernel2_stride2", {2, 3, 4, 3}, {3, 2, 2, 4}, {.stride_h = 2, .stride_w = 2}, {}, true);
    add("kernel3_stride1", {2, 4, 5, 2}, {2, 3, 3, 3}, {}, {}, false);
    add("kernel3_stride2_output_padding", {2, 3, 4, 3}, {3, 3, 3, 2},
        {.stride_h = 2, .stride_w = 2, .padding = Padding::symmetric(1)}, {1, 1}, true);
    add("same_stride2", {1, 3, 3, 2}, {2, 3, 3, 3}, {.stride_h = 2, .stride_w = 2, .padding = {0, 1, 0, 1}}, {}, false);
    add("stride_1x2", {1, 4, 3, 2}, {2, 3, 3, 3}, {.stride_w = 2, .padding = Padding::symmetric(1)}, {0, 1}, true);
    add("stride_beyond_the_kernel", {1, 3, 2, 2}, {2, 2, 2, 3}, {.stride_h = 3, .stride_w = 3}, {}, true);
    add("dilation2", {1, 4, 4, 2}, {2, 3, 3, 3}, {.padding = Padding::symmetric(1), .dilation_h = 2, .dilation_w = 2},
        {}, true);
    add("groups2", {1, 3, 4, 4}, {4, 3, 3, 3}, {.padding = Padding::symmetric(1), .groups = 2}, {}, true);
    add("depthwise", {2, 3, 3, 5}, {5, 3, 3, 1}, {.stride_h = 2, .stride_w = 2, .groups = 5}, {}, false);
    add("pointwise", {2, 3, 3, 4}, {4, 1, 1, 6}, {}, {}, true);
}

void add_dense_cases(std::vector<OpCase>& cases) {
    const auto add = [&](std::string name, std::int64_t batch, std::int64_t in, std::int64_t out, bool with_bias,
                         std::vector<int> fixed = {}) {
        OpCase c{.op = "dense", .name = std::move(name), .inputs = {{batch, in}, {out, in}}, .build = {}};
        if (with_bias) c.inputs.push_back({out});
        c.build = [with_bias](Tape&, std::span<const Var> v) { return dense(v[0], v[1], with_bias ? v[2] : Var()); };
        c.accumulation = std::max({batch, in, out});
        c.parameters = {1, 2};
        c.fixed_inputs = std::move(fixed);
        cases.push_back(std::move(c));
    };
    add("small", 3, 4, 5, true);
    add("without_bias", 4, 7, 3, false);
    add("batch1", 1, 9, 10, true);
    add("one_output", 6, 5, 1, true);
    add("one_input", 5, 1, 4, true);
    add("off_the_vector_width", 9, 33, 17, true);
    add("first_layer", 4, 6, 8, true, {0});
    add("frozen_weight", 4, 6, 3, true, {1});
}

void add_bias_cases(std::vector<OpCase>& cases) {
    const auto add = [&](std::string name, Shape x) {
        cases.push_back({.op = "bias_add",
                         .name = std::move(name),
                         .inputs = {x, {x[-1]}},
                         .build = [](Tape&, std::span<const Var> v) { return bias_add(v[0], v[1]); },
                         .accumulation = x.product(0, x.rank() - 1),
                         .parameters = {1}});
    };
    add("matrix", {4, 5});
    add("map", {2, 3, 4, 6});
    add("one_axis", {7});
    add("three_axes", {3, 2, 5});
    add("one_channel", {2, 3, 3, 1});
    add("off_the_vector_width", {5, 3, 3, 19});
}

void add_batch_norm_cases(std::vector<OpCase>& cases) {
    struct Row {
        std::string name;
        Shape x;
        NormEpilogue epilogue = NormEpilogue::none;
        bool with_residual = false;
        double epsilon = 1e-3;
    };
    const NormEpilogue relu = NormEpilogue::relu;
    const Row rows[] = {{"map", {3, 4, 3, 5}},
                        {"matrix", {6, 4}},
                        {"odd_channels", {2, 3, 3, 3}, relu},
                        {"batch1", {1, 3, 4, 5}},
                        {"relu", {2, 3, 4, 6}, relu},
                        {"matrix_relu", {7, 3}, relu},
                        {"residual", {2, 3, 3, 4}, NormEpilogue::none, true},
                        {"residual_relu", {2, 4, 3, 5}, relu, true},
                        {"batch1_residual_relu", {1, 4, 4, 3}, relu, true},
                        {"one_channel", {3, 4, 4, 1}, relu},
                        {"large_epsilon_off_the_vector_width", {2, 3, 3, 17}, relu, true, 1e-2},
                        {"torch_epsilon", {4, 3, 3, 8}, relu, false, 1e-5}};
    for (const Row& row : rows) {
        const Shape channels{row.x[-1]};
        OpCase c{.op = "batch_norm_training", .name = row.name, .inputs = {row.x, channels, channels}, .build = {}};
        if (row.with_residual) c.inputs.push_back(row.x);
        c.accumulation = row.x.product(0, row.x.rank() - 1);
        c.exact_on_integers = false;  // square roots
        c.parameters = {1, 2};
        c.build = [row](Tape&, std::span<const Var> v) {
            Tensor mean, variance;
            return batch_norm_training(v[0], v[1], v[2], row.with_residual ? v[3] : Var(), row.epsilon, row.epilogue,
                                       mean, variance);
        };
        cases.push_back(c);

        c.op = "batch_norm_inference";
        const int mean = static_cast<int>(c.inputs.size()), variance = mean + 1;
        c.inputs.push_back(channels);
        c.inputs.push_back(channels);
        c.fixed_inputs = {mean, variance};
        c.parameters = {1, 2, mean, variance};
        c.positive_inputs = {variance};
        c.build = [row, mean, variance](Tape&, std::span<const Var> v) {
            return batch_norm_inference(v[0], v[1], v[2], row.with_residual ? v[3] : Var(), v[mean].value(),
                                        v[variance].value(), row.epsilon, row.epilogue);
        };
        cases.push_back(std::move(c));
    }
}

/// TensorFlow's SAME padding of a pooling window.
Pool2dOptions same_pool(const Shape& x, std::int64_t window, std::int64_t stride) {
    return {window, window, stride, stride, same_padding(x[1], x[2], window, window, stride, stride)};
}

void add_pool_cases(std::vector<OpCase>& cases) {
    struct Row {
        std::string name;
        Shape x;
        Pool2dOptions options;
    };
    const Row rows[] = {
        {"window2", {2, 4, 6, 3}, {2, 2, 2, 2, {}}},
        {"remainder_dropped", {1, 13, 13, 2}, {2, 2, 2, 2, {}}},
        {"overlapping", {2, 7, 5, 3}, {3, 3, 2, 2, {}}},
        {"padded_both_sides", {2, 6, 6, 3}, {3, 3, 2, 2, Padding::symmetric(1)}},
        {"stride1", {1, 5, 4, 3}, {3, 3, 1, 1, Padding::symmetric(1)}},
        {"same_even", {2, 6, 4, 3}, same_pool({2, 6, 4, 3}, 3, 2)},
        {"same_window2_odd", {2, 5, 7, 3}, same_pool({2, 5, 7, 3}, 2, 2)},
        {"unequal_window_and_stride", {2, 5, 8, 2}, {2, 3, 1, 2, {.top = 1, .bottom = 0, .left = 0, .right = 2}}},
        {"stride_beyond_window", {1, 8, 7, 3}, {2, 2, 3, 3, {}}},
        {"off_the_vector_width", {1, 4, 4, 19}, {2, 2, 2, 2, {}}},
        {"window_covers_the_map", {3, 4, 4, 5}, {4, 4, 4, 4, {}}}};
    for (const Row& row : rows) {
        const Pool2dOptions options = row.options;
        const std::int64_t cells = options.window_h * options.window_w;
        cases.push_back({.op = "max_pool2d",
                         .name = row.name,
                         .inputs = {row.x},
                         .build = [options](Tape&, std::span<const Var> v) { return max_pool2d(v[0], options); },
                         .accumulation = cells,
                         .kink_free = true});
        for (const bool include_pad : {false, true}) {
            cases.push_back(
                {.op = "avg_pool2d",
                 .name = row.name + (include_pad ? "_with_padding" : "_without_padding"),
                 .inputs = {row.x},
                 .build = [options, include_pad](
                              Tape&, std::span<const Var> v) { return avg_pool2d(v[0], options, include_pad); },
                 .accumulation = cells,
                 // Division by a power of two is exact; one by 9 need not round as a multiplication by 1/9 does.
                 .exact_on_integers = cells % 3 != 0});
        }
    }
    const Shape map{2, 4, 4, 7}, odd_map{3, 5, 3, 4};
    for (const Shape& x : {map, odd_map}) {
        const std::string suffix = x == map ? "" : "_odd";
        cases.push_back({.op = "avg_pool2d",
                         .name = "global" + suffix,
                         .inputs = {x},
                         .build = [](Tape&, std::span<const Var> v) { return global_avg_pool2d(v[0]); },
                         .accumulation = x.product(1, 3),
                         .exact_on_integers = x == map});
        cases.push_back({.op = "reduce_max",
                         .name = "global_max_pool2d" + suffix,
                         .inputs = {x},
                         .build = [](Tape&, std::span<const Var> v) { return global_max_pool2d(v[0]); },
                         .kink_free = true});
    }
}

}  // namespace

std::vector<OpCase> structured_cases() {
    std::vector<OpCase> cases;
    add_conv_cases(cases);
    add_conv_transpose_cases(cases);
    add_dense_cases(cases);
    add_bias_cases(cases);
    add_batch_norm_cases(cases);
    add_pool_cases(cases);
    return cases;
}

}  // namespace bitloom::ops::test
