// A mask behind a quantizer runs in the quantizer's pass (engine/transform.h): the bits are those of one pass after the other.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "engine/random.h"
#include "models/layers/convolution.h"
#include "models/layers/dense.h"
#include "models/layers/normalization.h"
#include "ops/pointwise.h"
#include "ops/reduction.h"
#include "quant/pruning/weight_mask.h"
#include "quant/qkeras/folding.h"
#include "quant/qkeras/layers.h"
#include "quant/qkeras/parse.h"
#include "quant/scheme.h"

namespace bitloom::quant::qkeras {
namespace {

using pruning::GradientRule;
using pruning::WeightMask;

Tensor normal(const Shape& shape, double deviation, std::uint64_t seed) {
    Tensor t = Tensor::empty(shape);
    Rng rng(seed, "masked-quantizer-test");
    fill_normal(t, 0, deviation, rng);
    return t;
}

bool same_bits(const Tensor& a, const Tensor& b) {
    return a.shape() == b.shape() &&
           std::memcmp(a.read<float>(), b.read<float>(), static_cast<std::size_t>(a.numel()) * sizeof(float)) == 0;
}

std::int64_t zeros(const Tensor& t) {
    const std::vector<float> v = t.values<float>();
    return std::count(v.begin(), v.end(), 0.0F);
}

/// A mask that offers no one to take it along: it needs its own pass.
class Apart final : public WeightTransform {
   public:
    explicit Apart(std::shared_ptr<WeightMask> mask) : mask_(std::move(mask)) {}
    std::string_view name() const override { return "apart"; }
    Var apply(Context& context, Parameter& parameter, const Var& weight) override {
        return mask_->apply(context, parameter, weight);
    }

   private:
    std::shared_ptr<WeightMask> mask_;
};

struct Passed {
    Tensor value, gradient;
};

/// Effective weight, and d sum(weight * g) / d latent.
Passed pass(Parameter& weight, const Tensor& g, bool training) {
    Tape tape;
    Context context{.tape = tape, .training = training, .seed = 5, .step = 3};
    const Var w = weight.effective(context);
    tape.backward(ops::reduce_sum(ops::multiply(w, tape.constant(g))));
    return {w.value().clone(), weight.grad.clone()};
}

/// A quantized dense layer with half of its weights masked; latent weights hold zeros, bounds and what lies beyond.
struct Pruned {
    Pruned(const std::string& quantizer, GradientRule rule, bool apart, const Settings& settings = {}) {
        dense.assign_paths("fc");
        dense.weight.value.copy_from(normal({8, 13}, 0.7, 3));
        float* w = dense.weight.value.write<float>();
        w[0] = 0, w[1] = -0.0F, w[2] = 3, w[3] = -3, w[4] = 1, w[5] = -1;
        quantize_layer(dense, {parse_quantizer(quantizer)}, settings);
        mask = std::make_shared<WeightMask>(dense.weight.value, pruning::MaskRule{}, rule);
        mask->refresh(dense.weight.value, 0.5F);
        if (apart)
            dense.weight.transforms.push_back(std::make_shared<Apart>(mask));
        else
            dense.weight.transforms.push_back(mask);
    }
    layers::Dense dense{{.in = 13, .out = 8, .bias = false}};
    std::shared_ptr<WeightMask> mask;
};

const std::vector<std::string> every_kind{"quantized_bits(4,0,alpha=1)",
                                          "quantized_bits(1,0,alpha=1)",
                                          "quantized_bits(4,0,1,alpha='auto')",
                                          "quantized_bits(4,0,1,alpha='auto_po2')",
                                          "quantized_bits(4,0,alpha=1,qnoise_factor=0.5)",
                                          "quantized_bits(4,0,alpha=1,use_stochastic_rounding=True)",
                                          "quantized_linear(4,0)",
                                          "quantized_linear(4,0,alpha='auto')",
                                          "quantized_linear(4,0,alpha='auto_po2',qnoise_factor=0.5)",
                                          "binary(alpha=1)",
                                          "binary()",
                                          "binary(use_01=True,alpha=1)",
                                          "binary(alpha='auto')",
                                          "ternary(alpha=1)",
                                          "ternary()",
                                          "ternary(alpha='auto')",
                                          "stochastic_binary(alpha=1)",
                                          "stochastic_binary(alpha='auto')",
                                          "bernoulli(alpha=1)",
                                          "stochastic_ternary(alpha='auto')",
                                          "quantized_relu(4,0)",
                                          "quantized_relu(4,0,negative_slope=0.25)",
                                          "quantized_tanh(4)",
                                          "quantized_sigmoid(4)",
                                          "quantized_ulaw(4,0)",
                                          "quantized_po2(4)",
                                          "quantized_relu_po2(4,4)",
                                          "quantized_hswish(4,0,alpha=1)",
                                          "hard_sigmoid",
                                          "smooth_sigmoid",
                                          "binary_sigmoid",
                                          "hard_tanh",
                                          "smooth_tanh",
                                          "binary_tanh"};

TEST(MaskedQuantizer, OnePassHasTheBitsOfTwo) {
    std::set<QuantizerKind> kinds;
    for (const std::string& text : every_kind) {
        kinds.insert(parse_quantizer(text).kind);
        for (const GradientRule rule : {GradientRule::pass, GradientRule::masked})
            for (const bool training : {true, false})
                for (const bool settled : {true, false}) {
                    SCOPED_TRACE(cat(text, rule == GradientRule::pass ? " pass" : " masked", training ? " training" : "",
                                     settled ? " settled" : ""));
                    Pruned one(text, rule, false), two(text, rule, true);
                    // Before a step latent weights are masked; without that the optimizer has moved them.
                    if (settled) one.mask->mask_in_place(one.dense.weight.value), two.mask->mask_in_place(two.dense.weight.value);
                    const Tensor g = normal({8, 13}, 1, 9);
                    const Passed together = pass(one.dense.weight, g, training), apart = pass(two.dense.weight, g, training);
                    EXPECT_TRUE(same_bits(together.value, apart.value));
                    EXPECT_TRUE(same_bits(together.gradient, apart.gradient));
                    EXPECT_GE(zeros(together.value), 52);
                }
    }
    EXPECT_EQ(kinds.size(), static_cast<std::size_t>(QuantizerKind::count)) << "a kind of quantizer has no row here";
}

// What is counted: the two passes leave another tensor behind, one pass writes into the quantizer's own memory step after
// step, so that copies which kernels keep of a weight stay valid.
TEST(MaskedQuantizer, OnePassKeepsItsMemory) {
    for (const char* text : {"quantized_bits(4,0,alpha=1)", "binary(alpha='auto_po2')"}) {
        Pruned one(text, GradientRule::pass, false);
        const auto id = [&] {
            Tape tape;
            Context context{tape, true};
            return one.dense.weight.effective(context).value().id();
        };
        const auto first = id();
        EXPECT_EQ(id(), first) << text;
    }
}

TEST(MaskedQuantizer, ScalesAreThoseOfThePrunedWeights) {
    // Channel (3, -1, 0.2, 0.1), half pruned: of what is left, (3, -1, 0, 0), binary's least squares scale is the mean of |x|
    // over all four, as in the source, where the quantizer sees the zeros too.
    layers::Dense dense({.in = 4, .out = 1, .bias = false});
    dense.assign_paths("fc");
    dense.weight.value = Tensor::from({1, 4}, std::vector<float>{3, -1, 0.2F, 0.1F});
    quantize_layer(dense, {parse_quantizer("binary(alpha='auto')")}, {});
    const auto mask = std::make_shared<WeightMask>(dense.weight.value, pruning::MaskRule{}, GradientRule::pass);
    dense.weight.transforms.push_back(mask);
    mask->refresh(dense.weight.value, 0.5F);
    mask->mask_in_place(dense.weight.value);
    const std::vector<float> w = pass(dense.weight, Tensor::full({1, 4}, 1), true).value.values<float>();
    EXPECT_NEAR(w[0], 1, 1e-6);
    EXPECT_NEAR(w[1], -1, 1e-6);
    EXPECT_EQ(w[2], 0);
    EXPECT_EQ(w[3], 0);
}

TEST(MaskedQuantizer, PrunedWeightsOfAFoldedKernelStayZeroWithoutAZeroCode) {
    layers::Conv2d convolution({.in = 2, .out = 3, .kernel = 2, .bias = false});
    layers::BatchNorm bn(layers::keras_batch_norm(3));
    convolution.assign_paths("conv");
    bn.assign_paths("bn");
    convolution.weight.value.copy_from(normal({3, 2, 2, 2}, 0.5, 1));
    quantize_folded(convolution, bn, {.kernel = parse_quantizer("binary(alpha=1)")}, {});
    const auto mask = std::make_shared<WeightMask>(convolution.weight.value, pruning::MaskRule{}, GradientRule::pass);
    convolution.weight.transforms.push_back(mask);
    mask->refresh(convolution.weight.value, 0.99F);  // one weight is left
    mask->mask_in_place(convolution.weight.value);
    // One weight of +-1: every output is +-1 of one input or zero. Unmasked, it would be a sum of eight.
    Tape tape(Tape::Mode::inference);
    Context context{tape};
    const Var y = convolution(context, tape.constant(Tensor::full({1, 2, 2, 2}, 1)));
    double sum = 0;
    for (const double v : y.value().values<double>()) sum += std::abs(v);
    EXPECT_NEAR(sum, 1, 1e-6);
}

}  // namespace
}  // namespace bitloom::quant::qkeras
