#include "tests/ops/kernel_calls.h"

#include "engine/random.h"
#include "ops/strided.h"

namespace bitloom::ops::test {

namespace {

const Conv2dGeometry plain_conv{.batch = 3,
                                .in_h = 7,
                                .in_w = 5,
                                .in_c = 3,
                                .out_h = 4,
                                .out_w = 5,
                                .out_c = 5,
                                .kernel_h = 3,
                                .kernel_w = 3,
                                .stride_h = 2,
                                .stride_w = 1,
                                .pad_top = 1,
                                .pad_bottom = 1,
                                .pad_left = 1,
                                .pad_right = 1};
const Conv2dGeometry depthwise_conv{.batch = 1,
                                    .in_h = 5,
                                    .in_w = 6,
                                    .in_c = 7,
                                    .out_h = 4,
                                    .out_w = 5,
                                    .out_c = 7,
                                    .kernel_h = 2,
                                    .kernel_w = 2,
                                    .groups = 7};
const Conv2dGeometry pointwise_conv{.batch = 1,
                                    .in_h = 3,
                                    .in_w = 3,
                                    .in_c = 19,
                                    .out_h = 2,
                                    .out_w = 2,
                                    .out_c = 17,
                                    .kernel_h = 1,
                                    .kernel_w = 1,
                                    .stride_h = 2,
                                    .stride_w = 2};
const Pool2dGeometry pool{.batch = 3,
                          .in_h = 7,
                          .in_w = 5,
                          .channels = 5,
                          .out_h = 3,
                          .out_w = 3,
                          .window_h = 3,
                          .window_w = 2,
                          .stride_h = 2,
                          .stride_w = 2,
                          .pad_bottom = 0,
                          .pad_right = 1};

Shape input_of(const Conv2dGeometry& g) { return {g.batch, g.in_h, g.in_w, g.in_c}; }
Shape output_of(const Conv2dGeometry& g) { return {g.batch, g.out_h, g.out_w, g.out_c}; }
Shape weight_of(const Conv2dGeometry& g) { return {g.out_c, g.kernel_h, g.kernel_w, g.in_c / g.groups}; }
const Shape pool_input{pool.batch, pool.in_h, pool.in_w, pool.channels};
const Shape pool_output{pool.batch, pool.out_h, pool.out_w, pool.channels};
const Shape norm_shape{3, 5, 3, 7}, channels{7};
constexpr double epsilon = 1e-3;

void add_convolutions(std::vector<Call>& calls) {
    const std::pair<const char*, Conv2dGeometry> geometries[] = {
        {"plain", plain_conv}, {"depthwise", depthwise_conv}, {"pointwise", pointwise_conv}};
    for (const auto& [name, g] : geometries) {
        calls.push_back({"conv2d_forward", name, [g = g](const OpKernels& k, GuardedMemory& m) {
                             k.conv2d_forward(g, m.input(input_of(g)), m.parameter(weight_of(g)), &m.parameter({g.out_c}),
                                              m.output(output_of(g)));
                         }});
        for (const bool fused : {false, true})
            calls.push_back({"conv2d_inference", cat(name, fused ? "_residual_relu" : ""),
                             [g = g, fused](const OpKernels& k, GuardedMemory& m) {
                                 k.conv2d_inference(g, m.input(input_of(g)), m.parameter(weight_of(g)), &m.parameter({g.out_c}),
                                                    fused ? &m.input(output_of(g)) : nullptr,
                                                    fused ? NormEpilogue::relu : NormEpilogue::none,
                                                    m.output(output_of(g)));
                             }});
        calls.push_back({"conv2d_backward_data", name, [g = g](const OpKernels& k, GuardedMemory& m) {
                             k.conv2d_backward_data(g, m.input(output_of(g)), m.parameter(weight_of(g)),
                                                    m.output(input_of(g)));
                         }});
        calls.push_back({"conv2d_backward_weights", name, [g = g](const OpKernels& k, GuardedMemory& m) {
                             k.conv2d_backward_weights(g, m.input(input_of(g)), m.input(output_of(g)),
                                                       m.parameter_gradient(weight_of(g)), &m.parameter_gradient({g.out_c}));
                         }});
    }
}

void add_dense(std::vector<Call>& calls) {
    calls.push_back({"dense_forward", "", [](const OpKernels& k, GuardedMemory& m) {
                         k.dense_forward(m.input({3, 7}), m.parameter({5, 7}), &m.parameter({5}), m.output({3, 5}));
                     }});
    for (const NormEpilogue epilogue : {NormEpilogue::none, NormEpilogue::relu})
        calls.push_back({"dense_inference", epilogue == NormEpilogue::relu ? "relu" : "",
                         [=](const OpKernels& k, GuardedMemory& m) {
                             k.dense_inference(m.input({3, 7}), m.parameter({5, 7}), &m.parameter({5}), epilogue,
                                               m.output({3, 5}));
                         }});
    calls.push_back({"dense_backward_data", "", [](const OpKernels& k, GuardedMemory& m) {
                         k.dense_backward_data(m.input({3, 5}), m.parameter({5, 7}), m.output({3, 7}));
                     }});
    calls.push_back({"dense_backward_weights", "", [](const OpKernels& k, GuardedMemory& m) {
                         k.dense_backward_weights(m.input({3, 7}), m.input({3, 5}), m.parameter_gradient({5, 7}), &m.parameter_gradient({5}));
                     }});
    calls.push_back({"bias_forward", "", [](const OpKernels& k, GuardedMemory& m) {
                         k.bias_forward(m.input({3, 5, 7}), m.parameter({7}), m.output({3, 5, 7}));
                     }});
    calls.push_back({"bias_backward", "", [](const OpKernels& k, GuardedMemory& m) {
                         k.bias_backward(m.input({3, 5, 7}), m.parameter_gradient({7}));
                     }});
}

void add_normalizations(std::vector<Call>& calls) {
    for (const bool fused : {false, true}) {
        const NormEpilogue epilogue = fused ? NormEpilogue::relu : NormEpilogue::none;
        const std::string name = fused ? "residual_relu" : "plain";
        calls.push_back({"batch_norm_forward", name, [=](const OpKernels& k, GuardedMemory& m) {
                             k.batch_norm_forward(m.input(norm_shape), m.parameter(channels), m.parameter(channels),
                                                  fused ? &m.input(norm_shape) : nullptr, epsilon, epilogue,
                                                  m.output(norm_shape), m.parameter_gradient(channels), m.parameter_gradient(channels));
                         }});
        calls.push_back({"batch_norm_backward", name, [=](const OpKernels& k, GuardedMemory& m) {
                             k.batch_norm_backward(m.input(norm_shape), m.input(norm_shape),
                                                   fused ? &m.input(norm_shape, 0, 1) : nullptr, m.parameter(channels),
                                                   m.parameter(channels), m.parameter(channels, 0.5, 1.5), epsilon, epilogue,
                                                   &m.output(norm_shape), fused ? &m.output(norm_shape) : nullptr,
                                                   m.parameter_gradient(channels), m.parameter_gradient(channels));
                         }});
        calls.push_back({"batch_norm_inference", name, [=](const OpKernels& k, GuardedMemory& m) {
                             k.batch_norm_inference(m.input(norm_shape), m.parameter(channels), m.parameter(channels),
                                                    fused ? &m.input(norm_shape) : nullptr, m.parameter(channels),
                                                    m.parameter(channels, 0.5, 1.5), epsilon, epilogue,
                                                    m.output(norm_shape));
                         }});
        calls.push_back({"batch_norm_inference_backward", name, [=](const OpKernels& k, GuardedMemory& m) {
                             k.batch_norm_inference_backward(
                                 m.input(norm_shape), m.input(norm_shape), fused ? &m.input(norm_shape, 0, 1) : nullptr,
                                 m.parameter(channels), m.parameter(channels), m.parameter(channels, 0.5, 1.5), epsilon, epilogue,
                                 &m.output(norm_shape), fused ? &m.output(norm_shape) : nullptr, m.parameter_gradient(channels),
                                 m.parameter_gradient(channels));
                         }});
    }
}

void add_pools(std::vector<Call>& calls) {
    calls.push_back({"max_pool2d_forward", "", [](const OpKernels& k, GuardedMemory& m) {
                         k.max_pool2d_forward(pool, m.input(pool_input), m.output(pool_output),
                                              &m.output(pool_output, DType::u8));
                     }});
    calls.push_back({"max_pool2d_forward", "inference", [](const OpKernels& k, GuardedMemory& m) {
                         k.max_pool2d_forward(pool, m.input(pool_input), m.output(pool_output), nullptr);
                     }});
    calls.push_back({"max_pool2d_backward", "", [](const OpKernels& k, GuardedMemory& m) {
                         // The first cell of each window, which is never a padded one.
                         Tensor& argmax = m.indices<std::uint8_t>(pool_output, 1);
                         k.max_pool2d_backward(pool, m.input(pool_output), argmax, m.output(pool_input));
                     }});
    for (const bool include_pad : {false, true}) {
        const std::string name = include_pad ? "include_pad" : "real_cells";
        calls.push_back({"avg_pool2d_forward", name, [=](const OpKernels& k, GuardedMemory& m) {
                             k.avg_pool2d_forward(pool, include_pad, m.input(pool_input), m.output(pool_output));
                         }});
        calls.push_back({"avg_pool2d_backward", name, [=](const OpKernels& k, GuardedMemory& m) {
                             k.avg_pool2d_backward(pool, include_pad, m.input(pool_output), m.output(pool_input));
                         }});
    }
}

void add_pointwise(std::vector<Call>& calls) {
    const Shape odd{3, 37};
    for (int i = 0; i < static_cast<int>(UnaryOp::count); ++i) {
        const UnaryOp op = static_cast<UnaryOp>(i);
        const std::string name(unary_names[static_cast<std::size_t>(i)]);
        calls.push_back({"unary_forward", name, [=](const OpKernels& k, GuardedMemory& m) {
                             k.unary_forward(op, 0.5, 1, m.input(odd, 0.5, 3), m.output(odd));
                         }});
        calls.push_back({"unary_backward", name, [=](const OpKernels& k, GuardedMemory& m) {
                             k.unary_backward(op, 0.5, 1, m.input(odd, 0.5, 3), m.input(odd, 0.5, 3), m.input(odd),
                                              m.output(odd));
                         }});
    }
    for (int i = 0; i < static_cast<int>(BinaryOp::count); ++i) {
        const BinaryOp op = static_cast<BinaryOp>(i);
        const std::string name(binary_names[static_cast<std::size_t>(i)]);
        const std::pair<Shape, Shape> shapes[] = {{odd, odd}, {odd, {37}}, {{1}, odd}, {{3, 1}, {37}}};
        for (const auto& [a, b] : shapes)
            calls.push_back(
                {"binary_forward", cat(name, a, b), [=, a = a, b = b](const OpKernels& k, GuardedMemory& m) {
                     k.binary_forward(op, m.input(a), m.input(b, 0.5, 2), m.output(odd));
                 }});
    }
    calls.push_back({"scale_forward", "", [=](const OpKernels& k, GuardedMemory& m) {
                         k.scale_forward(3, -1, m.input(odd), m.output(odd));
                     }});
    for (int f = 0; f <= static_cast<int>(StepFunction::sign_binary); ++f)
        calls.push_back({"step_forward", std::to_string(f), [=](const OpKernels& k, GuardedMemory& m) {
                             k.step_forward(static_cast<StepFunction>(f), m.input(odd, 0.6, 3), m.output(odd));
                         }});
    for (int r = 0; r <= static_cast<int>(Surrogate::zero); ++r)
        calls.push_back(
            {"surrogate_backward", std::to_string(r), [=](const OpKernels& k, GuardedMemory& m) {
                 k.surrogate_backward({static_cast<Surrogate>(r), -1, 1, 2}, m.input(odd), m.input(odd), m.output(odd));
             }});
}

void add_losses_and_masks(std::vector<Call>& calls) {
    const Shape shape{5, 11};
    for (const bool log : {false, true}) {
        const std::string name = log ? "log" : "plain";
        calls.push_back({"softmax_forward", name, [=](const OpKernels& k, GuardedMemory& m) {
                             k.softmax_forward(log, m.input(shape), m.output(shape));
                         }});
        calls.push_back({"softmax_backward", name, [=](const OpKernels& k, GuardedMemory& m) {
                             k.softmax_backward(log, m.input(shape, -2, 0), m.input(shape), m.output(shape));
                         }});
    }
    calls.push_back({"cross_entropy_forward", "", [=](const OpKernels& k, GuardedMemory& m) {
                         k.cross_entropy_forward(m.input(shape), m.indices<std::int32_t>({5}, 11), m.output({5}),
                                                 &m.output(shape));
                     }});
    calls.push_back({"cross_entropy_forward", "losses_only", [=](const OpKernels& k, GuardedMemory& m) {
                         k.cross_entropy_forward(m.input(shape), m.indices<std::int32_t>({5}, 11), m.output({5}),
                                                 nullptr);
                     }});
    calls.push_back({"cross_entropy_backward", "", [=](const OpKernels& k, GuardedMemory& m) {
                         k.cross_entropy_backward(m.input(shape, 0, 1), m.indices<std::int32_t>({5}, 11), 0.2,
                                                  m.input({1}), m.output(shape));
                     }});
    for (const std::int64_t n : {1, 3, 37, 4096 + 5})
        calls.push_back({"dropout", std::to_string(n), [=](const OpKernels& k, GuardedMemory& m) {
                             k.dropout(0.4, stream(1, "sentinels", 2), m.input({n}), m.output({n}));
                         }});
    calls.push_back({"row_scale", "", [](const OpKernels& k, GuardedMemory& m) {
                         k.row_scale(m.parameter({3}), m.input({3, 5, 7}), m.output({3, 5, 7}));
                     }});
}

void add_movers(std::vector<Call>& calls) {
    calls.push_back({"strided_copy", "transpose", [](const OpKernels& k, GuardedMemory& m) {
                         const Strides source{1, 105, 7};
                         const StridedCopy copy = make_strided_copy("copy", {7, 3, 15}, source, Strides{45, 15, 1});
                         k.strided_copy(copy, m.input({3, 15, 7}), m.output({7, 3, 15}));
                     }});
    calls.push_back({"strided_copy", "every_other", [](const OpKernels& k, GuardedMemory& m) {
                         StridedCopy copy = make_strided_copy("copy", {3, 6}, Strides{13, 2}, Strides{6, 1});
                         copy.source_offset = 1;
                         k.strided_copy(copy, m.input({3, 13}), m.output({3, 6}));
                     }});
    calls.push_back({"strided_copy", "broadcast", [](const OpKernels& k, GuardedMemory& m) {
                         k.strided_copy(make_strided_copy("copy", {3, 5, 7}, Strides{0, 1, 0}, Strides{35, 7, 1}),
                                        m.input({5}), m.output({3, 5, 7}));
                     }});
    const std::pair<std::uint32_t, Shape> reductions[] = {
        {0b111, {1}}, {0b001, {5, 7}}, {0b100, {3, 5}}, {0b010, {3, 7}}, {0b101, {5}}};
    for (const auto& [axes, shape] : reductions) {
        const std::string name = std::to_string(axes);
        calls.push_back({"reduce_sum", name, [axes = axes, shape = shape](const OpKernels& k, GuardedMemory& m) {
                             k.reduce_sum(axes, 0.5, m.input({3, 5, 7}), m.output(shape));
                         }});
        calls.push_back({"reduce_max", name, [axes = axes, shape = shape](const OpKernels& k, GuardedMemory& m) {
                             k.reduce_max(axes, m.input({3, 5, 7}), m.output(shape), &m.output(shape, DType::i32));
                         }});
        calls.push_back(
            {"reduce_max_backward", name, [axes = axes, shape = shape](const OpKernels& k, GuardedMemory& m) {
                 k.reduce_max_backward(axes, m.input(shape), m.indices<std::int32_t>(shape, 105 / shape.numel()),
                                       m.output({3, 5, 7}));
             }});
    }
}

}  // namespace

std::vector<Call> all_calls() {
    std::vector<Call> calls;
    add_convolutions(calls);
    add_dense(calls);
    add_normalizations(calls);
    add_pools(calls);
    add_pointwise(calls);
    add_losses_and_masks(calls);
    add_movers(calls);
    return calls;
}

void expect_guards_untouched(const OpKernels& table, DType dtype, Device device) {
    for (const bool misaligned : {false, true}) {
        for (const Call& call : all_calls()) {
            if (dtype == DType::bf16 && call.kernel.starts_with("cross_entropy")) continue;
            SCOPED_TRACE(cat(device, " ", name_of(dtype), ": ", call.kernel, " ", call.detail,
                             misaligned ? " (misaligned)" : ""));
            GuardedMemory memory(dtype, device, misaligned);
            call.run(table, memory);
            memory.verify();
        }
    }
}

}  // namespace bitloom::ops::test
