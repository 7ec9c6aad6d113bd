#include "tests/quant/kernel_rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "engine/random.h"
#include "models/layers/activation.h"
#include "models/layers/normalization.h"
#include "models/layers/shaping.h"
#include "quant/qkeras/layers.h"
#include "quant/qkeras/parse.h"
#include "tests/ops/guarded_memory.h"

namespace bitloom::quant::test {

namespace {

using Values = std::vector<double>;

Tensor normal(const Shape& shape, double deviation, std::uint64_t seed) {
    Tensor x = Tensor::empty(shape);
    Rng rng(seed, "kernel rows");
    fill_normal(x, 0, deviation, rng);
    return x;
}
Tensor uniform_in(const Shape& shape, double low, double high, std::uint64_t seed) {
    Tensor x = Tensor::empty(shape);
    Rng rng(seed, "kernel rows");
    fill_uniform(x, low, high, rng);
    return x;
}
Tensor mask_of(const Shape& shape) {
    std::vector<float> values(static_cast<std::size_t>(shape.numel()));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = i % 3 == 1 ? 0.0f : 1.0f;
    return Tensor::from(shape, values);
}

void expect_near(const Tensor& a, const Tensor& b, double tolerance, const std::string& what) {
    const Values x = a.values<double>(), y = b.values<double>();
    ASSERT_EQ(x.size(), y.size()) << what;
    for (std::size_t i = 0; i < x.size(); ++i)
        ASSERT_NEAR(x[i], y[i], tolerance * std::max(1.0, std::abs(y[i]))) << what << " at " << i;
}
void expect_near(const Values& a, const Values& b, double tolerance, const std::string& what) {
    ASSERT_EQ(a.size(), b.size()) << what;
    for (std::size_t i = 0; i < a.size(); ++i)
        ASSERT_NEAR(a[i], b[i], tolerance * std::max(1.0, std::abs(b[i]))) << what << " at " << i;
}
/// At most one value in a hundred differs.
void expect_mostly_equal(const Values& a, const Values& b, const std::string& what) {
    ASSERT_EQ(a.size(), b.size()) << what;
    std::size_t differ = 0;
    for (std::size_t i = 0; i < a.size(); ++i) differ += !(std::abs(a[i] - b[i]) <= 1e-6 * std::max(1.0, std::abs(b[i])));
    EXPECT_LE(differ, a.size() / 100) << what;
}

struct Result {
    Values y, gradient, scale;
};
Result run(const QuantizerRow& row, Device device) {
    Tape tape;
    const Var x = tape.input(normal(row.shape, 0.7, 3).to(device), true);
    qkeras::Pass pass;
    pass.training = row.training;
    pass.stream = stream(5, "draws", 2);
    if (row.masked) pass.mask = mask_of(row.shape).to(device);
    const qkeras::TensorQuantizer quantizer(qkeras::parse_quantizer(row.text, row.settings.release), row.settings);
    const qkeras::Quantized got = quantizer.quantize(x, pass);
    tape.backward(got.values, uniform_in(row.shape, -1, 1, 4).to(device));
    return {got.values.value().values<double>(), tape.grad(x).values<double>(), got.scale.values<double>()};
}

}  // namespace

const std::vector<QuantizerRow>& quantizer_rows() {
    static const std::vector<QuantizerRow> all = [] {
        const Shape box{13, 7, 11}, row{37}, wide{3, 1031}, narrow{5, 40}, even{12, 6, 10};
        std::vector<QuantizerRow> rows;
        for (const std::string text :
             {"quantized_bits(4,0,alpha=1)", "quantized_bits(6,2,1)", "quantized_bits(1,0,alpha=0.7)",
              "quantized_bits(5,1,alpha=0.3)", "quantized_bits(4,0,keep_negative=False)", "quantized_linear(4,1)",
              "quantized_linear(4,1,alpha=0.7)", "quantized_linear(1,0)", "binary()", "binary(1,alpha=2)", "ternary()",
              "ternary(alpha=0.5,threshold=0.2)", "quantized_relu(4,1)", "quantized_relu(4,1,1)",
              "quantized_relu(6,2,negative_slope=0.125)", "quantized_relu(4,0,relu_upper_bound=0.4,is_quantized_clip=False)",
              "quantized_relu(32,16)", "quantized_tanh(5)", "quantized_sigmoid(5)", "quantized_hswish(5,1)",
              "binary(alpha=1,use_stochastic_rounding=1)", "quantized_bits(4,0,alpha=1,use_stochastic_rounding=1)",
              "quantized_relu(3,0,use_stochastic_rounding=True)", "quantized_bits(3,0,alpha=1,qnoise_factor=0.25)",
              "quantized_bits(3,0,alpha=1,qnoise_factor=0.25,use_ste=False)", "hard_tanh", "binary_tanh",
              "smooth_sigmoid"})
            rows.push_back({text, box});
        for (const std::string text :
             {"quantized_bits(4,0,alpha='auto')", "quantized_bits(4,0,alpha='auto_po2')", "quantized_linear(4,0,alpha='auto')",
              "quantized_linear(4,0,alpha='auto_po2')", "quantized_linear(4,0,alpha='auto_po2',keep_negative=False)",
              "binary(alpha='auto')", "binary(alpha='auto_po2')", "binary(alpha='auto',use_stochastic_rounding=1)",
              "ternary(alpha='auto')", "ternary(alpha='auto_po2')", "ternary(alpha='auto_po2',use_stochastic_rounding=1)",
              "quantized_bits(4,0,alpha='auto_po2',min_po2_exponent=-3,max_po2_exponent=-2)",
              "quantized_bits(4,0,alpha='auto',qnoise_factor=0.25)"})
            for (const Shape& shape : {box, row, wide, narrow}) rows.push_back({text, shape});
        for (const std::string text : {"quantized_bits(4,0,alpha='auto_po2',scale_axis=1)",
                                       "quantized_bits(4,0,alpha='auto',scale_axis=0,elements_per_scale=4)",
                                       "quantized_bits(4,0,alpha='auto_po2',scale_axis=[0,2],elements_per_scale=[3,5])",
                                       "binary(alpha='auto',scale_axis=0,elements_per_scale=3)",
                                       "quantized_bits(4,0,alpha='auto',post_training_scale=0.8)"})
            rows.push_back({text, even});
        for (const std::string text :
             {"quantized_ulaw(5)", "quantized_po2(5)", "quantized_po2(4,1)", "quantized_po2(5,use_stochastic_rounding=True)",
              "quantized_relu_po2(5,2)", "quantized_po2(6,quadratic_approximation=True)", "quantized_tanh(5,use_real_tanh=True)",
              "binary(alpha=None)", "stochastic_binary(alpha='auto')", "stochastic_binary(alpha=1)",
              "stochastic_ternary(alpha='auto_po2')", "bernoulli(alpha=1)"}) {
            rows.push_back({text, box});
            rows.back().uses_library = true;
        }
        for (const std::string text : {"quantized_bits(4,0,alpha='auto')", "quantized_bits(4,0,alpha='auto_po2')", "quantized_tanh(4)",
                                       "quantized_relu(4,0)", "quantized_linear(4,0,alpha='auto_po2')"})
            rows.push_back({text, box, {.release = qkeras::Release::v0_8}});
        for (const SigmoidForm form : {SigmoidForm::smooth, SigmoidForm::real})
            for (const std::string text : {"quantized_sigmoid(5)", "quantized_tanh(5)", "quantized_relu(4,1,1)"})
                rows.push_back({text, box, {.sigmoid = form}, true, false, form == SigmoidForm::real});
        for (const std::string text : {"quantized_bits(4,0,alpha=1)", "quantized_bits(4,0,alpha='auto_po2')", "binary(alpha=1)",
                                       "ternary(alpha='auto')", "quantized_linear(4,1)", "quantized_relu(4,1)",
                                       "quantized_bits(4,0,alpha=1,use_stochastic_rounding=1)", "quantized_po2(5)"})
            rows.push_back({text, box, {}, true, true, text == "quantized_po2(5)"});
        for (const std::string text : {"stochastic_binary(alpha='auto')", "stochastic_ternary(alpha='auto')", "bernoulli(alpha=1)"})
            rows.push_back({text, box, {}, false, false, true});
        return rows;
    }();
    return all;
}

void expect_row(const QuantizerRow& row, Device device, Library library) {
    const Result expected = run(row, device == cpu_device ? reference_device : cpu_device), got = run(row, device);
    const std::string what = cat(row.text, " of ", row.shape, row.training ? "" : ", inference", row.masked ? ", masked" : "");
    if (row.uses_library && library == Library::other) {
        expect_mostly_equal(got.y, expected.y, what);
        expect_mostly_equal(got.gradient, expected.gradient, what + ", gradient");
        expect_near(got.scale, expected.scale, 1e-6, what + ", scale");
        return;
    }
    EXPECT_EQ(got.y, expected.y) << what;
    EXPECT_EQ(got.gradient, expected.gradient) << what;
    EXPECT_EQ(got.scale, expected.scale) << what;
}

void expect_uniform_stream(Device device, const Tensor* device_counter) {
    for (const std::int64_t n : {1, 3, 4, 31, 1000, 20001}) {
        Tensor y = Tensor::empty({n}, DType::f32, device), y2 = Tensor::empty({n});
        PhiloxStream s = stream(7, "uniform", 0x123456789abcull);
        quant_kernels(cpu_device).uniform(s, y2);
        if (device_counter) {
            s.counter = 0xbc;  // the rest stands in device memory
            s.device_counter = static_cast<const std::uint64_t*>(device_counter->raw());
        }
        quant_kernels(device).uniform(s, y);
        EXPECT_EQ(y.values<float>(), y2.values<float>()) << n;
    }
}

namespace {

struct Pieces {
    Values y, dx, dresidual, dgamma, dbeta, mean, variance;
};

/// y = Q(bn(x) + residual) forward and backward; `fused`, or one operation after the other.
Pieces run_norm(Device device, bool fused, bool with_residual, bool training, bool dresidual, const Shape& shape) {
    layers::BatchNorm bn(layers::keras_batch_norm(shape[-1]));
    bn.assign_paths("bn");
    Rng rng(5, "gamma");
    fill_uniform(bn.weight.value, 0.5, 1.5, rng);
    fill_uniform(bn.bias.value, -0.5, 0.5, rng);
    fill_uniform(bn.running_mean, -0.3, 0.3, rng);
    bn.to(device);
    Tape tape;
    Context context{tape, training};
    const Var x = tape.input(normal(shape, 1.1, 1).to(device), true), r = tape.input(normal(shape, 0.6, 2).to(device), dresidual);
    const Tensor dy = normal(shape, 1, 3).to(device);
    layers::ReLU relu;
    relu.assign_paths("relu");
    layers::Add add;
    add.assign_paths("add");
    relu.activation_transform = std::make_shared<qkeras::ActivationQuantizer>(qkeras::parse_quantizer("quantized_relu(4,1)"), qkeras::Settings{});
    Var y;
    if (fused) {
        y = layers::norm_act(context, bn, &add, &relu, x, with_residual ? &r : nullptr);
    } else {
        y = bn(context, x);
        if (with_residual) y = add(context, {y, r});
        y = relu(context, y);
    }
    EXPECT_EQ(tape.node_count(), fused ? 1 : with_residual ? 3 : 2);
    tape.backward(y, dy);
    Pieces p;
    p.y = y.value().values<double>();
    p.dx = tape.grad(x).values<double>();
    if (with_residual && dresidual) p.dresidual = tape.grad(r).values<double>();
    p.dgamma = bn.weight.grad.values<double>();
    p.dbeta = bn.bias.grad.values<double>();
    p.mean = bn.running_mean.values<double>();
    p.variance = bn.running_var.values<double>();
    return p;
}

}  // namespace

void expect_fused_norm(Device device) {
    for (const Shape& shape : {Shape{3, 5, 7, 16}, Shape{64, 3}, Shape{33, 42}, Shape{2, 9, 9, 24}})
        for (const bool with_residual : {false, true})
            for (const bool dresidual : {false, true})
                for (const bool training : {false, true}) {
                    if (dresidual && !with_residual) continue;
                    const std::string what = cat(shape, with_residual ? ", residual" : "", training ? ", training" : "");
                    const Pieces fused = run_norm(device, true, with_residual, training, dresidual, shape);
                    const Pieces single = run_norm(device, false, with_residual, training, dresidual, shape);
                    EXPECT_EQ(fused.y, single.y) << what;
                    EXPECT_EQ(fused.mean, single.mean) << what;
                    EXPECT_EQ(fused.variance, single.variance) << what;
                    EXPECT_EQ(fused.dresidual, single.dresidual) << what;
                    expect_near(fused.dx, single.dx, 1e-5, what + ", dx");
                    expect_near(fused.dgamma, single.dgamma, 1e-5, what + ", dgamma");
                    expect_near(fused.dbeta, single.dbeta, 1e-5, what + ", dbeta");
                }
    for (const bool with_residual : {false, true})
        for (const bool training : {false, true}) {
            const Shape shape{2, 6, 5, 8};
            const std::string what = cat("reference", with_residual ? ", residual" : "", training ? ", training" : "");
            const Pieces fused = run_norm(device, true, with_residual, training, true, shape);
            const Pieces reference = run_norm(reference_device, true, with_residual, training, true, shape);
            // A value at the edge of a step may fall to either side; here none does.
            EXPECT_EQ(fused.y, reference.y) << what;
            expect_near(fused.dx, reference.dx, 1e-5, what + ", dx");
            expect_near(fused.dresidual, reference.dresidual, 1e-5, what + ", dresidual");
            expect_near(fused.dgamma, reference.dgamma, 1e-4, what + ", dgamma");
        }
}

void expect_bf16(Device device) {
    const auto rounded = [](const Tensor& t) { return t.to(DType::bf16).values<double>(); };
    const Tensor x = normal({261}, 1, 1).to(DType::bf16), dy = normal({261}, 1, 2).to(DType::bf16), mask = mask_of({261});
    for (const char* text : {"quantized_relu(4,0)", "quantized_relu(8,2)", "quantized_relu(4,0,negative_slope=0.25)",
                             "quantized_bits(8,0,alpha=1)", "quantized_bits(4,1,alpha=0.3)", "binary(alpha=1)", "ternary(alpha=1)",
                             "quantized_linear(4,1)", "quantized_tanh(4)"}) {
        const ElementRule rule = qkeras::element_rule(qkeras::parse_quantizer(text), {}, false);
        for (const bool masked : {false, true}) {
            const std::string what = cat(text, masked ? ", masked" : "");
            Tensor y = Tensor::empty(x.shape(), DType::bf16, device), dx = Tensor::empty_like(y);
            Tensor y2 = Tensor::empty(x.shape()), dx2 = Tensor::empty(x.shape());
            const Tensor here = mask.to(device);
            quant_kernels(device).quantize(rule, x.to(device), masked ? &here : nullptr, nullptr, y);
            quant_kernels(device).quantize_backward(rule, x.to(device), masked ? &here : nullptr, nullptr, dy.to(device), dx);
            quant_kernels(cpu_device).quantize(rule, x.to(DType::f32), masked ? &mask : nullptr, nullptr, y2);
            quant_kernels(cpu_device).quantize_backward(rule, x.to(DType::f32), masked ? &mask : nullptr, nullptr, dy.to(DType::f32), dx2);
            EXPECT_EQ(y.values<double>(), rounded(y2)) << what;
            EXPECT_EQ(dx.values<double>(), rounded(dx2)) << what;
        }
    }
    const ElementRule relu = qkeras::element_rule(qkeras::parse_quantizer("quantized_relu(4,1)"), {}, false);
    for (const std::int64_t channels : {3, 8, 24}) {
        const Shape shape{40, channels}, c{channels};
        const Tensor in = normal(shape, 1, 3).to(DType::bf16), added = normal(shape, 1, 4).to(DType::bf16), g = normal(shape, 1, 5).to(DType::bf16);
        std::vector<Values> ys, gradients;
        for (const DType dtype : {DType::f32, DType::bf16}) {
            const Tensor gamma = uniform_in(c, 0.5, 2, 6).to(device), beta = uniform_in(c, -1, 1, 7).to(device);
            Tensor mean = uniform_in(c, -1, 1, 8).to(device), variance = uniform_in(c, 0.5, 2, 9).to(device);
            const Tensor a = in.to(dtype).to(device), r = added.to(dtype).to(device), dout = g.to(dtype).to(device);
            Tensor y = Tensor::empty_like(a), map = Tensor::empty({3, channels}, DType::f32, device), dx = Tensor::empty_like(a),
                   dr = Tensor::empty_like(a), dgamma = Tensor::empty_like(gamma), dbeta = Tensor::empty_like(gamma);
            quant_kernels(device).batch_norm_quantize(relu, false, a, gamma, beta, &r, 1e-3, mean, variance, y, map);
            quant_kernels(device).batch_norm_quantize_backward(relu, false, dout, a, &r, gamma, mean, variance, map, 1e-3, &dx, &dr,
                                                               dgamma, dbeta);
            // The quantizer sees the norm's value before any rounding to bf16, so its codes are those of f32.
            ys.push_back(y.values<double>());
            gradients.push_back(dr.values<double>());
            ys.push_back(dgamma.values<double>());
            gradients.push_back(dx.to(DType::bf16).values<double>());
        }
        EXPECT_EQ(ys[2], ys[0]) << channels;
        expect_near(ys[3], ys[1], 1e-5, "dgamma");
        EXPECT_EQ(gradients[2], gradients[0]) << channels;
        EXPECT_EQ(gradients[3], gradients[1]) << channels;
    }
}

namespace {

using namespace bsq;

struct PlaneResult {
    Tensor weights, norms, dplanes, dscale;
};
PlaneResult run_planes(Device device, const QuantizationRule& rule, const Tensor& planes, const Tensor& dweights, bool normed) {
    const Tensor p = planes.to(device), scale = Tensor::full({1}, 0.37, DType::f32, device), dw = dweights.to(device);
    PlaneResult r{Tensor::empty(dweights.shape(), DType::f32, device), Tensor::empty({rule.bits}, DType::f64, device),
                  Tensor::empty_like(p), Tensor::empty_like(scale)};
    const BsqKernels& k = bsq_kernels(device);
    k.planes_to_weights(rule, p, scale, r.weights, &r.norms);
    const GroupNorms norms{&r.norms, 12.5};
    const Tensor dnorm = Tensor::full({1}, 0.01, DType::f32, device);
    k.planes_backward(rule, p, scale, dw, normed ? &norms : nullptr, normed ? &dnorm : nullptr, r.dplanes, r.dscale);
    return r;
}

}  // namespace

void expect_bit_planes(Device device) {
    for (const std::int64_t count : {1, 7, 16, 65, 1023, 1024, 1025, 5000})
        for (const int bits : {1, 2, 5, 8, 16})
            for (int form = 0; form < 3; ++form) {
                const std::string what = cat(count, " weights of ", bits, " bits, form ", form);
                const QuantizationRule rule{bits, form == 1, form != 2};
                const Tensor planes = uniform_in({bits, 2, count}, 0, 2, 1 + static_cast<std::uint64_t>(bits));
                const Tensor dw = uniform_in({count}, -1, 1, 2);
                const PlaneResult a = run_planes(device, rule, planes, dw, true);
                const PlaneResult b = run_planes(reference_device, rule, planes, dw, true);
                EXPECT_EQ(a.weights.values<float>(), b.weights.values<float>()) << what;
                expect_near(a.norms, b.norms, 1e-6, what);
                expect_near(a.dplanes, b.dplanes, 1e-6, what);
                expect_near(a.dscale, b.dscale, 2e-4, what);
                const PlaneResult plain = run_planes(device, rule, planes, dw, false);
                EXPECT_EQ(plain.dplanes.values<float>(), run_planes(reference_device, rule, planes, dw, false).dplanes.values<float>())
                    << what;
                Tensor alone = Tensor::empty({bits}, DType::f64, device), weights = Tensor::empty({count}, DType::f32, device);
                bsq_kernels(device).plane_norms(planes.to(device), alone);
                expect_near(alone, b.norms, 1e-6, what);
                bsq_kernels(device).planes_to_weights(rule, planes.to(device), Tensor::full({1}, 0.37, DType::f32, device), weights,
                                                      nullptr);
                EXPECT_EQ(weights.values<float>(), b.weights.values<float>()) << what;
            }
}

void expect_fixed_precision_and_activations(Device tested) {
    for (const std::int64_t count : {1, 33, 1024, 3001}) {
        const Tensor x = uniform_in({count}, -1.5, 1.5, 1), dw = uniform_in({count}, -1, 1, 2), wide = uniform_in({count}, -4, 9, 3);
        for (const int bits : {0, 1, 3, 8}) {
            const std::string what = cat(count, " values of ", bits, " bits");
            Tensor weights[2], dx[2], dscale[2];
            int k = 0;
            for (const Device device : {tested, reference_device}) {
                const Tensor scale = Tensor::full({1}, 0.8, DType::f32, device);
                weights[k] = Tensor::empty({count}, DType::f32, device), dx[k] = Tensor::empty({count}, DType::f32, device);
                dscale[k] = Tensor::empty({1}, DType::f32, device);
                bsq_kernels(device).fixed_to_weights({bits}, x.to(device), scale, weights[k]);
                bsq_kernels(device).fixed_backward({bits}, x.to(device), scale, dw.to(device), dx[k], dscale[k]);
                ++k;
            }
            EXPECT_EQ(weights[0].values<float>(), weights[1].values<float>()) << what;
            EXPECT_EQ(dx[0].values<float>(), dx[1].values<float>()) << what;
            expect_near(dscale[0], dscale[1], 1e-4, what);
            for (const ActivationKind kind :
                 {ActivationKind::identity, ActivationKind::relu, ActivationKind::relu6, ActivationKind::pact}) {
                for (const double bound : {2.5, -0.75}) {
                    if (kind != ActivationKind::pact && bound < 0) continue;
                    Tensor y[2], da[2];
                    k = 0;
                    for (const Device device : {tested, reference_device}) {
                        const Tensor alpha = Tensor::full({1}, bound, DType::f32, device);
                        y[k] = Tensor::empty({count}, DType::f32, device), da[k] = Tensor::empty({1}, DType::f32, device);
                        bsq_kernels(device).activation_forward({kind, bits}, wide.to(device), &alpha, y[k]);
                        const bool pact = kind == ActivationKind::pact;
                        bsq_kernels(device).activation_backward({kind, bits}, wide.to(device), &alpha, dw.to(device), dx[k],
                                                                pact ? &da[k] : nullptr);
                        ++k;
                    }
                    EXPECT_EQ(y[0].values<float>(), y[1].values<float>()) << what << ", kind " << static_cast<int>(kind);
                    EXPECT_EQ(dx[0].values<float>(), dx[1].values<float>()) << what << ", kind " << static_cast<int>(kind);
                    if (kind == ActivationKind::pact) expect_near(da[0], da[1], 1e-4, what);
                }
            }
        }
    }
    Tensor zeros = Tensor::full({40}, -1, DType::f32, tested), y = Tensor::empty({40}, DType::f32, tested);
    bsq_kernels(tested).activation_forward({ActivationKind::relu, 4}, zeros, nullptr, y);
    EXPECT_EQ(y.values<float>(), std::vector<float>(40, 0.0f));
}

void expect_group_lasso(Device device) {
    for (const std::size_t tensors : {std::size_t{0}, std::size_t{1}, std::size_t{23}, std::size_t{64}, std::size_t{65}, std::size_t{150}}) {
        std::vector<Tensor> here, there;
        std::vector<GroupNorms> rows, expected_rows;
        for (std::size_t i = 0; i < tensors; ++i) {
            const auto bits = static_cast<std::int64_t>(1 + i % 8);
            there.push_back(uniform_in({bits}, 0, 50, i).to(DType::f64));
            here.push_back(there.back().to(device));
        }
        for (std::size_t i = 0; i < tensors; ++i) {
            rows.push_back({&here[i], 0.1 * static_cast<double>(i + 1)});
            expected_rows.push_back({&there[i], 0.1 * static_cast<double>(i + 1)});
        }
        Tensor value = Tensor::empty({1}, DType::f32, device), expected = Tensor::empty({1});
        bsq_kernels(device).group_lasso(rows, 0.5, value);
        bsq_kernels(cpu_device).group_lasso(expected_rows, 0.5, expected);
        EXPECT_EQ(value.item(), expected.item()) << tensors;
    }
}

void expect_guards_untouched(const QuantKernels& table, const BsqKernels& bits) {
    using ops::test::GuardedMemory;
    const ElementRule levels{.low = -8, .high = 7}, relu{.kind = ElementKind::relu, .gradient = ElementGradient::relu, .count = 8};
    const ElementRule by_chance{.rounding = ElementRounding::stochastic, .low = -8, .high = 7};
    const Shape shape{3, 7, 5}, cells{5, 33}, one{1};
    std::vector<std::pair<std::string, std::function<void(GuardedMemory&)>>> calls{
        {"apply_mask", [&](GuardedMemory& m) { table.apply_mask(m.input(shape), m.input(shape), m.output(shape)); }},
        {"uniform", [&](GuardedMemory& m) { table.uniform(stream(3, "guards", 1), m.output(shape)); }},
        {"quantize", [&](GuardedMemory& m) { table.quantize(levels, m.input(shape), nullptr, nullptr, m.output(shape)); }},
        {"quantize, masked", [&](GuardedMemory& m) { table.quantize(relu, m.input(shape), &m.input(shape), nullptr, m.output(shape)); }},
        {"quantize, by chance",
         [&](GuardedMemory& m) { table.quantize(by_chance, m.input(shape), &m.input(shape), &m.input(shape, 0, 1), m.output(shape)); }},
        {"quantize_backward",
         [&](GuardedMemory& m) { table.quantize_backward(relu, m.input(shape), nullptr, nullptr, m.input(shape), m.output(shape)); }},
        {"quantize_backward, masked", [&](GuardedMemory& m) {
             table.quantize_backward(by_chance, m.input(shape), &m.input(shape), &m.input(shape, 0, 1), m.input(shape), m.output(shape));
         }}};
    for (const ScaledCodes codes : {ScaledCodes::bits, ScaledCodes::linear, ScaledCodes::sign, ScaledCodes::ternary,
                                    ScaledCodes::stochastic_sign, ScaledCodes::stochastic_ternary}) {
        const ScaleRule rule{.codes = codes, .source = ScaleSource::power_of_two, .low = -8, .high = 7};
        for (const std::int64_t inner : {1, 33, 300})
            calls.emplace_back(cat("quantize_scaled ", static_cast<int>(codes), ", ", inner), [&table, rule, inner](GuardedMemory& m) {
                const Shape matrix{6, inner};
                Tensor* gradient = rule.codes == ScaledCodes::linear ? &m.output(matrix) : nullptr;
                table.quantize_scaled(rule, m.input(matrix), &m.indices<std::int32_t>({6}, 3), nullptr, &m.input(matrix, 0, 1),
                                      &m.input(matrix, 0, 1), m.output(matrix), m.output({6}), gradient);
            });
    }
    for (const bool training : {false, true})
        for (const bool residual : {false, true})
            for (const std::int64_t channels : {5, 8}) {
                const Shape x{7, channels}, c{channels};
                const std::string what = cat(training ? ", training" : "", residual ? ", residual" : "", ", ", channels, " channels");
                calls.emplace_back("batch_norm_quantize" + what, [&table, relu, training, residual, x, c](GuardedMemory& m) {
                    Tensor &mean = training ? m.output(c) : m.input(c), &variance = training ? m.output(c) : m.input(c, 0.5, 2);
                    table.batch_norm_quantize(relu, training, m.input(x), m.input(c), m.input(c), residual ? &m.input(x) : nullptr,
                                              1e-3, mean, variance, m.output(x), m.output({3, c[0]}));
                });
                calls.emplace_back("batch_norm_quantize_backward" + what, [&table, relu, training, residual, x, c](GuardedMemory& m) {
                    table.batch_norm_quantize_backward(relu, training, m.input(x), m.input(x), residual ? &m.input(x) : nullptr,
                                                       m.input(c), m.input(c), m.input(c, 0.5, 2), m.input({3, c[0]}), 1e-3,
                                                       &m.output(x), residual ? &m.output(x) : nullptr, m.output(c), m.output(c));
                });
            }
    for (const std::int64_t count : {7, 64}) {
        const Shape planes{4, 2, count}, w{count};
        calls.emplace_back("planes_to_weights", [&bits, planes, w, one](GuardedMemory& m) {
            bits.planes_to_weights({4}, m.input(planes, 0, 2), m.input(one), m.output(w), &m.output({4}, DType::f64));
        });
        calls.emplace_back("planes_backward", [&bits, planes, w, one](GuardedMemory& m) {
            const Tensor sums = Tensor::full({4}, 2, DType::f64);
            const GroupNorms norms{&sums, 0.5};
            bits.planes_backward({4}, m.input(planes, 0, 2), m.input(one), m.input(w), &norms, &m.input(one), m.output(planes),
                                 m.output(one));
        });
        calls.emplace_back("plane_norms", [&bits, planes](GuardedMemory& m) {
            bits.plane_norms(m.input(planes, 0, 2), m.output({4}, DType::f64));
        });
        calls.emplace_back("group_lasso", [&bits, one](GuardedMemory& m) {
            const Tensor sums = Tensor::full({4}, 2, DType::f64);
            bits.group_lasso(std::vector<GroupNorms>{{&sums, 0.5}}, 1, m.output(one));
        });
        calls.emplace_back("fixed_to_weights", [&bits, w, one](GuardedMemory& m) {
            bits.fixed_to_weights({3}, m.input(w), m.input(one), m.output(w));
        });
        calls.emplace_back("fixed_backward", [&bits, w, one](GuardedMemory& m) {
            bits.fixed_backward({3}, m.input(w), m.input(one), m.input(w), m.output(w), m.output(one));
        });
        calls.emplace_back("activation_forward", [&bits, w, one](GuardedMemory& m) {
            bits.activation_forward({ActivationKind::pact, 3}, m.input(w), &m.input(one, 1, 2), m.output(w));
        });
        calls.emplace_back("activation_backward", [&bits, w, one](GuardedMemory& m) {
            bits.activation_backward({ActivationKind::pact, 3}, m.input(w), &m.input(one, 1, 2), m.input(w), m.output(w),
                                     &m.output(one));
        });
    }
    for (const bool misaligned : {false, true})
        for (const auto& [name, call] : calls) {
            SCOPED_TRACE(name + (misaligned ? " (misaligned)" : ""));
            GuardedMemory memory(DType::f32, cpu_device, misaligned);
            call(memory);
            memory.verify();
        }
}

}  // namespace bitloom::quant::test
