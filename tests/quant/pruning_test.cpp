// Masks, schedules and the pruner (svhn-qkeras.md, 5.4, 9.19, 11).

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/io/checkpoint.h"
#include "engine/random.h"
#include "models/layers/convolution.h"
#include "models/layers/dense.h"
#include "models/registry.h"
#include "ops/pointwise.h"
#include "ops/reduction.h"
#include "quant/pruning/pruner.h"
#include "quant/scheme.h"

namespace bitloom::quant::pruning {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Tensor normal(const Shape& shape, std::uint64_t seed) {
    Tensor t = Tensor::empty(shape);
    Rng rng(seed, "pruning-test");
    fill_normal(t, 0, 1, rng);
    return t;
}

Tensor mask_for(const MaskRule& rule, float sparsity, const Tensor& w) {
    Tensor mask = Tensor::empty_like(w);
    update_mask(rule, sparsity, w, mask);
    return mask;
}

double sum(const Tensor& t) {
    const std::vector<double> v = t.values<double>();
    return std::accumulate(v.begin(), v.end(), 0.0);
}

TEST(SparsitySchedule, WorkedExamples) {
    const SparsitySchedule s;
    EXPECT_FLOAT_EQ(s.sparsity(1000), 0.4F);
    EXPECT_FLOAT_EQ(s.sparsity(4500), 0.4875F);
    EXPECT_FLOAT_EQ(s.sparsity(8000), 0.5F);
    EXPECT_FLOAT_EQ(s.sparsity(20000), 0.5F);
    std::vector<std::int64_t> due;
    for (std::int64_t t = 0; t < 10000; ++t)
        if (s.due(t)) due.push_back(t);
    ASSERT_EQ(due.size(), 71u);
    EXPECT_EQ(due.front(), 1000);
    EXPECT_EQ(due[1], 1100);
    EXPECT_EQ(due.back(), 8000);
    EXPECT_EQ(s.settled_at(), 8000);
}

TEST(SparsitySchedule, AConstantOneWithoutEndGoesOnForEver) {
    const SparsitySchedule s{SparsitySchedule::Kind::constant, 0, 0.7, 5, -1, 10};
    EXPECT_FALSE(s.due(4));
    EXPECT_TRUE(s.due(5));
    EXPECT_FALSE(s.due(14));
    EXPECT_TRUE(s.due(1000005));
    EXPECT_FLOAT_EQ(s.sparsity(5), 0.7F);
    EXPECT_EQ(s.settled_at(), 5);
}

TEST(SparsitySchedule, AnEndThatNoRefreshFallsOnIsNotReached) {
    const SparsitySchedule s{SparsitySchedule::Kind::polynomial, 0, 0.5, 10, 35, 10};
    EXPECT_EQ(s.settled_at(), 30);
    EXPECT_LT(s.sparsity(30), 0.5F);
}

TEST(SparsitySchedule, ShrinksIntoAShortRunAndStillEndsOnARefresh) {
    const SparsitySchedule published;
    EXPECT_EQ(scaled_to_run(published, 8000), published);
    EXPECT_EQ(scaled_to_run(published, 53200), published);
    for (std::int64_t steps = 1; steps < 8000; steps = steps * 3 / 2 + 1) {
        const SparsitySchedule s = scaled_to_run(published, steps);
        SCOPED_TRACE(steps);
        check(s);
        EXPECT_GE(s.begin, 1);
        EXPECT_LE(s.end, std::max<std::int64_t>(1, steps * 3 / 4));
        EXPECT_TRUE(s.due(s.end));
        EXPECT_FLOAT_EQ(s.sparsity(s.end), 0.5F);
        EXPECT_EQ(s.settled_at(), s.end);
    }
    const SparsitySchedule forever{SparsitySchedule::Kind::constant, 0, 0.5, 1000, -1, 100};
    EXPECT_EQ(scaled_to_run(forever, 100).begin, 75);
    EXPECT_EQ(scaled_to_run(forever, 100).end, -1);
}

TEST(SparsitySchedule, RefusesNonsense) {
    const auto refused = [](auto change) {
        SparsitySchedule s;
        change(s);
        EXPECT_THROW(check(s), UsageError);
    };
    refused([](auto& s) { s.final_sparsity = 1; });
    refused([](auto& s) { s.initial_sparsity = -0.1; });
    refused([](auto& s) { s.initial_sparsity = std::nan(""); });
    refused([](auto& s) { s.begin = -1; });
    refused([](auto& s) { s.end = s.begin - 1; });
    refused([](auto& s) { s.end = -1; });
    refused([](auto& s) { s.frequency = 0; });
    refused([](auto& s) { s.power = 0; });
}

TEST(ElementMask, KeepsTheRoundedCountAndAllTies) {
    EXPECT_EQ(kept_count(432, 0.5F), 216);
    EXPECT_EQ(kept_count(84, 0.4F), 50);  // 50.4
    EXPECT_EQ(kept_count(25, 0.5F), 12);  // 12.5: half to even
    EXPECT_EQ(kept_count(27, 0.5F), 14);  // 13.5
    EXPECT_EQ(kept_count(25, 0.99F), 1);  // never none
    EXPECT_EQ(kept_count(1, 0.999F), 1);

    const std::vector<float> w{-3, 1, 2, -1, 0.5, 1, 0, -0.25};
    std::vector<float> mask(8), scratch;
    EXPECT_EQ(element_mask<float>(w, 0.5F, mask, scratch), 1.F);  // the 4th largest is one of three ones
    EXPECT_THAT(mask, ElementsAre(1, 1, 1, 1, 0, 1, 0, 0));
    EXPECT_EQ(element_mask<float>(w, 0.75F, mask, scratch), 2.F);
    EXPECT_THAT(mask, ElementsAre(1, 0, 1, 0, 0, 0, 0, 0));
    std::vector<float> zeros(4, 0.F), all(4);
    EXPECT_EQ(element_mask<float>(zeros, 0.5F, all, scratch), 0.F);
    EXPECT_THAT(all, ElementsAre(1, 1, 1, 1));
}

// 5 rows in blocks of 2: one row of padding, floor(1/2) = 0 before it, so windows are {0,1}, {2,3}, {4}; 7 columns in
// blocks of 3: two of padding, one before, so windows are {0,1}, {2,3,4}, {5,6} while the repetition covers {0,1,2},
// {3,4,5}, {6}.
TEST(BlockMask, WindowsAndRepetitionAreMisaligned) {
    std::vector<float> w(35, 0.F);
    const auto at = [&](int r, int c) -> float& { return w[static_cast<std::size_t>(r * 7 + c)]; };
    at(0, 2) = 9;   // column 2 belongs to the second window, which is repeated over columns 3 to 5
    at(4, 6) = -4;  // last row alone, last window
    MaskRule rule{.granularity = Granularity::block, .block_rows = 2, .block_columns = 3};
    const MatrixView<const float> matrix{w.data(), 5, 7, 7, 1};
    std::vector<float> pooled, mask(35), scratch;
    pool_blocks(matrix, rule, pooled);
    EXPECT_THAT(pooled, ElementsAre(0, 1.5, 0, 0, 0, 0, 0, 0, 2));  // 9 over 6 entries; 4 over the 2 valid ones
    rule.pooling = BlockPooling::maximum;
    pool_blocks(matrix, rule, pooled);
    EXPECT_THAT(pooled, ElementsAre(0, 9, 0, 0, 0, 0, 0, 0, 4));
    // 9 blocks, sparsity 0.78: rne(1.98) = 2 kept.
    EXPECT_EQ(block_mask<float>(matrix, rule, 0.78F, {mask.data(), 5, 7, 7, 1}, scratch), 4.F);
    for (int r = 0; r < 5; ++r)
        for (int c = 0; c < 7; ++c)
            EXPECT_EQ(mask[static_cast<std::size_t>(r * 7 + c)], (r < 2 && c >= 3 && c < 6) || (r == 4 && c == 6))
                << r << ' ' << c;
}

// A dense weight lies [out, in], a Keras kernel (in, out): blocks are counted in the latter.
TEST(BlockMask, RowsAreInputsAndColumnsOutputs) {
    const Tensor w = Tensor::from<float>({2, 4}, std::vector<float>{5, 5, 1, 1, 1, 1, 5, 5});
    const MaskRule rule{.granularity = Granularity::block, .block_rows = 2, .block_columns = 1};
    EXPECT_THAT(mask_for(rule, 0.5F, w).values<float>(), ElementsAre(1, 1, 0, 0, 0, 0, 1, 1));
}

TEST(NOfM, KeepsTheLargestOfEveryRunOfAnOutput) {
    const MaskRule rule{.granularity = Granularity::n_of_m};
    // Rows of 6: a run of 4 keeps 2, the rest of 2 keeps 1; equal magnitudes: the first.
    const Tensor w = Tensor::from<float>({2, 6}, std::vector<float>{1, -4, 3, 2, -1, 5, 7, 7, 7, 7, 0, 0});
    EXPECT_THAT(mask_for(rule, 0, w).values<float>(), ElementsAre(0, 1, 1, 0, 0, 1, 1, 1, 0, 0, 1, 0));
    const Tensor conv = normal({16, 3, 3, 8}, 1);
    const std::vector<float> mask = mask_for(rule, 0, conv).values<float>();
    for (std::size_t i = 0; i < mask.size(); i += 4) EXPECT_EQ(mask[i] + mask[i + 1] + mask[i + 2] + mask[i + 3], 2);
    EXPECT_EQ(sum(mask_for({.granularity = Granularity::n_of_m, .keep = 1, .of = 8}, 0, conv)), 144);
    EXPECT_THROW(check({.granularity = Granularity::n_of_m, .keep = 4, .of = 4}), UsageError);
    EXPECT_THROW(check({.granularity = Granularity::n_of_m, .keep = 0, .of = 4}), UsageError);
}

TEST(ChannelMask, PrunesOutputsOfSmallestMeanMagnitude) {
    const MaskRule rule{.granularity = Granularity::channel};
    const Tensor w = Tensor::from<float>({4, 1, 1, 2}, std::vector<float>{1, -1, 0, 3, -0.5, 0.1, 4, 4});
    EXPECT_THAT(mask_for(rule, 0.5F, w).values<float>(), ElementsAre(0, 0, 1, 1, 0, 0, 1, 1));
    EXPECT_THAT(mask_for(rule, 0.25F, w).values<float>(), ElementsAre(1, 1, 1, 1, 0, 0, 1, 1));
}

TEST(Masks, AreTheSameInDoublePrecision) {
    const Tensor w = normal({12, 3, 3, 5}, 2);
    for (const MaskRule& rule :
         {MaskRule{}, MaskRule{.granularity = Granularity::block, .block_rows = 4, .block_columns = 2},
          MaskRule{.granularity = Granularity::n_of_m}, MaskRule{.granularity = Granularity::channel}})
        EXPECT_EQ(mask_for(rule, 0.5F, w).values<float>(), mask_for(rule, 0.5F, w.to(DType::f64)).values<float>());
}

/// Rounds weights to +-1 like a binary quantizer: it has no zero. Identity gradient.
class Sign final : public WeightTransform {
   public:
    std::string_view name() const override { return "sign"; }
    Var apply(Context& context, Parameter&, const Var& weight) override {
        std::vector<float> values = weight.value().values<float>();
        for (float& v : values) v = v < 0 ? -1.F : 1.F;
        return context.tape.record("sign", {weight}, Tensor::from(weight.shape(), values),
                                   [](BackwardContext& c) { c.give(0, c.grad()); });
    }
};

struct Layer {
    Layer() {
        dense.assign_paths("fc");
        weight.value.copy_from(normal({4, 6}, 3));
    }
    operator Module&() { return dense; }
    layers::Dense dense{{.in = 6, .out = 4, .bias = false}};
    Parameter& weight = dense.weight;
};

PruningOptions half_at_once() {
    PruningOptions options;
    options.all.schedule = {SparsitySchedule::Kind::constant, 0, 0.5, 1, -1, 100};
    return options;
}

/// d sum(effective * g) / d latent.
Tensor gradient(Parameter& parameter, const Tensor& g) {
    Tape tape;
    Context context{tape, true};
    tape.backward(ops::reduce_sum(ops::multiply(parameter.effective(context), tape.constant(g))));
    return parameter.grad;
}
Tensor effective(Parameter& parameter) {
    Tape tape(Tape::Mode::inference);
    Context context{tape};
    return parameter.effective(context).value();
}

TEST(WeightMask, SurvivesAQuantizerWithoutZero) {
    Layer layer;
    layer.weight.transforms.push_back(std::make_shared<Sign>());
    const auto pruner = Pruner::attach(layer, half_at_once());
    pruner->step();
    const std::vector<float> latent = layer.weight.value.values<float>(), w = effective(layer.weight).values<float>();
    EXPECT_EQ(std::count(latent.begin(), latent.end(), 0.F), 12);
    EXPECT_EQ(std::count(w.begin(), w.end(), 0.F), 12);
    EXPECT_EQ(std::count(w.begin(), w.end(), 1.F) + std::count(w.begin(), w.end(), -1.F), 12);
    const auto found = sparsity_of(layer);
    ASSERT_EQ(found.size(), 1u);
    EXPECT_EQ(found[0].layer, "fc");
    EXPECT_EQ(found[0].zeros, 12);
    EXPECT_EQ(found[0].weights, 24);
    EXPECT_THAT(sparsity_text(found), HasSubstr("fc: 12 of 24 weights are zero (50.00 %)"));
}

TEST(WeightMask, GradientRules) {
    for (const bool quantized : {false, true})
        for (const GradientRule rule : {GradientRule::pass, GradientRule::masked}) {
            Layer layer;
            if (quantized) layer.weight.transforms.push_back(std::make_shared<Sign>());
            PruningOptions options = half_at_once();
            options.gradient = rule;
            const auto pruner = Pruner::attach(layer, options);
            pruner->step();
            const Tensor g = normal({4, 6}, 9);
            const std::vector<float> dy = g.values<float>(), mask = mask_of(layer.weight)->mask().values<float>(),
                                     dx = gradient(layer.weight, g).values<float>();
            for (std::size_t i = 0; i < dx.size(); ++i)
                EXPECT_EQ(dx[i], rule == GradientRule::pass ? dy[i] : dy[i] * mask[i]);
        }
}

// Weights that the optimizer moved away from zero are not seen by the forward pass, and come back with the next refresh
// where they have grown.
TEST(Pruner, MovedWeightsStayMaskedUntilARefreshBringsThemBack) {
    Layer layer;
    PruningOptions options = half_at_once();
    options.all.schedule.frequency = 2;
    const auto pruner = Pruner::attach(layer, options);
    pruner->step();
    const std::vector<float> first = mask_of(layer.weight)->mask().values<float>();
    float* w = layer.weight.value.write<float>();
    for (std::size_t i = 0; i < first.size(); ++i) w[i] = first[i] ? 0.01F : 5.F;
    EXPECT_EQ(std::count_if(first.begin(), first.end(), [](float m) { return m == 0; }), 12);
    const std::vector<float> seen = effective(layer.weight).values<float>();
    EXPECT_EQ(*std::max_element(seen.begin(), seen.end()), 0.01F);
    pruner->step();  // 2: not due; the weights that moved are set to zero
    EXPECT_EQ(mask_of(layer.weight)->mask().values<float>(), first);
    EXPECT_EQ(layer.weight.value.values<float>(), seen);
    w = layer.weight.value.write<float>();
    for (std::size_t i = 0; i < first.size(); ++i) w[i] = first[i] ? 0.01F : 5.F;
    pruner->step();  // 3: due
    const std::vector<float> third = mask_of(layer.weight)->mask().values<float>();
    for (std::size_t i = 0; i < first.size(); ++i) EXPECT_EQ(third[i], 1 - first[i]);
}

TEST(Pruner, PrunesAllKernelsOfTheSvhnNetworkButNoBias) {
    const auto network = make_model({.name = "svhn_cnn"}, 4);
    const auto pruner = Pruner::attach(*network, half_at_once());
    EXPECT_FALSE(pruner->settled());
    pruner->step();
    EXPECT_TRUE(pruner->settled());
    std::vector<std::string> names;
    std::int64_t weights = 0;
    for (const LayerSparsity& layer : sparsity_of(*network)) {
        names.push_back(layer.layer);
        weights += layer.weights;
        EXPECT_EQ(2 * layer.zeros, layer.weights) << layer.layer;
        EXPECT_EQ(layer.pruned, layer.zeros);
        EXPECT_EQ(layer.latent_zeros, layer.zeros);
        EXPECT_GT(layer.threshold, 0);
    }
    EXPECT_THAT(names, ElementsAre("conv_0", "conv_1", "conv_2", "dense_0", "dense_1", "output_dense"));
    EXPECT_EQ(weights, 13552);  // 13,562 less the ten biases
}

TEST(Pruner, MasksAndThresholdsAreInCheckpoints) {
    const auto network = make_model({.name = "svhn_cnn"}, 4), other = make_model({.name = "svhn_cnn"}, 5);
    const auto pruner = Pruner::attach(*network, half_at_once()), restored = Pruner::attach(*other, half_at_once());
    pruner->fit_to_run(1000);
    pruner->step();
    Checkpoint checkpoint;
    gather(*network, checkpoint);
    pruner->save(checkpoint);
    restored->load(checkpoint);
    restore(*other, checkpoint);
    EXPECT_EQ(restored->counter(), 1);
    const auto before = sparsity_of(*network), after = sparsity_of(*other);
    ASSERT_EQ(before.size(), after.size());
    for (std::size_t i = 0; i < before.size(); ++i) {
        EXPECT_EQ(before[i].zeros, after[i].zeros);
        EXPECT_EQ(before[i].threshold, after[i].threshold);
    }
    // A network without masks is another network.
    const auto plain = make_model({.name = "svhn_cnn"}, 6);
    EXPECT_THROW(restore(*plain, checkpoint), Error);
}

TEST(Pruner, StrippingLeavesMaskedWeights) {
    Layer layer;
    const auto pruner = Pruner::attach(layer, half_at_once());
    pruner->step();
    const std::vector<float> masked = layer.weight.value.values<float>();
    layer.weight.value.write<float>()[0] = 100;
    layer.weight.value.write<float>()[1] = 100;
    const std::vector<float> mask = mask_of(layer.weight)->mask().values<float>();
    EXPECT_EQ(strip_pruning(layer), 1);
    EXPECT_TRUE(layer.weight.transforms.empty());
    EXPECT_EQ(layer.dense.named_buffers().size(), 0u);
    const std::vector<float> w = layer.weight.value.values<float>();
    for (std::size_t i = 0; i < w.size(); ++i) EXPECT_EQ(w[i], i < 2 ? 100 * mask[i] : masked[i]);
    EXPECT_EQ(strip_pruning(layer), 0);
}

TEST(Pruner, SaysWhatItDoesToASchedule) {
    const auto network = make_model({.name = "svhn_cnn"}, 4);
    EXPECT_THAT(Pruner::attach(*network, {})->fit_to_run(100),
                testing::AllOf(HasSubstr("prunes 6 layers"), HasSubstr("too long for a run of 100 steps"),
                               HasSubstr("over steps 9 to 75, masks refreshed every step")));
    strip_pruning(*network);
    EXPECT_THAT(Pruner::attach(*network, {})->fit_to_run(9000), HasSubstr("over steps 1000 to 8000"));
    strip_pruning(*network);
    PruningOptions fixed;
    fixed.scale_to_run = false;
    EXPECT_THAT(Pruner::attach(*network, fixed)->fit_to_run(100), HasSubstr("the run of 100 steps ends before"));
}

std::string refusal(const std::string& json) {
    const auto network = make_model({.name = "svhn_cnn"}, 4);
    try {
        Pruner::attach(*network, parse_pruning_options(json));
    } catch (const UsageError& error) {
        EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
        return error.what();
    }
    return "accepted";
}

TEST(PruningOptions, BadOnesAreNamed) {
    EXPECT_EQ(refusal("{}"), "accepted");
    EXPECT_THAT(refusal(R"({"layers": ["conv_9"]})"), HasSubstr("no layer 'conv_9' with a kernel (did you mean conv_"));
    EXPECT_THAT(refusal(R"({"layers": ["flatten"]})"), HasSubstr("no layer 'flatten'"));
    EXPECT_THAT(refusal(R"({"exclude": ["dense_7"]})"), HasSubstr("no layer 'dense_7'"));
    EXPECT_THAT(refusal(R"({"overrides": {"conv_x": {}}})"), HasSubstr("no layer 'conv_x'"));
    EXPECT_THAT(refusal(R"({"overrides": {"conv_0": {"final_sparsity": 2}}})"), HasSubstr("below 1, got 2"));
    EXPECT_THAT(refusal(R"({"final_sparsty": 0.5})"), HasSubstr("did you mean final_sparsity?"));
    EXPECT_THAT(refusal(R"({"begin_step": 1.5})"), HasSubstr("begin_step: needs an integer, got '1.5'"));
    EXPECT_THAT(refusal(R"({"granularity": "rows"})"), HasSubstr("granularity: is one of element, block, channel"));
    EXPECT_THAT(refusal(R"({"granularity": "4:2"})"), HasSubstr("4 of 2"));
    EXPECT_THAT(refusal(R"({"granularity": "a:b"})"), HasSubstr("two integers"));
    EXPECT_THAT(refusal(R"({"block": [0, 2]})"), HasSubstr("a block of 0x2"));
    EXPECT_THAT(refusal(R"({"gradient": 3})"), HasSubstr("gradient: needs a string"));
    EXPECT_THAT(refusal("{"), HasSubstr("no valid JSON"));
    EXPECT_THAT(refusal("[]"), HasSubstr("needs a JSON object"));
    EXPECT_THAT(refusal(R"({"exclude": ["conv_0","conv_1","conv_2","dense_0","dense_1","output_dense"]})"),
                HasSubstr("no layer to prune"));
}

TEST(PruningOptions, ReadBackWhatIsWritten) {
    const std::string json =
        R"({"final_sparsity": 0.75, "granularity": "2:4", "gradient": "masked", "layers": ["conv_0"],
        "overrides": {"conv_0": {"block": [4, 2], "block_pooling": "MAX", "schedule": "constant"}}, "scale_to_run": false})";
    const PruningOptions options = parse_pruning_options(json), again = parse_pruning_options(to_json(options));
    EXPECT_EQ(to_json(again), to_json(options));
    EXPECT_EQ(again.all, options.all);
    EXPECT_EQ(again.overrides, options.overrides);
    EXPECT_EQ(again.overrides[0].second.rule.block_columns, 2);
    EXPECT_EQ(again.overrides[0].second.schedule.final_sparsity, 0.75);
    EXPECT_EQ(again.gradient, GradientRule::masked);
}

TEST(PruningScheme, IsRegisteredAndReports) {
    const auto scheme = make_scheme("pruning", R"({"schedule": "constant", "begin_step": 1, "layers": ["dense_0"]})");
    const auto network = make_model({.name = "svhn_cnn"}, 4);
    scheme->attach(*network);
    ASSERT_EQ(scheme->callbacks().size(), 1u);
    dynamic_cast<Pruner&>(*scheme->callbacks()[0]).step();
    EXPECT_THAT(scheme->report(*network), HasSubstr(R"("layer":"dense_0","weights":4032,"zeros":2016)"));
    EXPECT_THROW(make_scheme("pruning", R"({"layer": []})"), UsageError);
}

}  // namespace
}  // namespace bitloom::quant::pruning
