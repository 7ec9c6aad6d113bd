// Gradients of every layer type against central differences, in double on the reference device. The list of types is
// the layer table itself: a layer without rows fails.

#include <map>
#include <memory>

#include "models/initializers.h"
#include "models/layers/activation.h"
#include "models/layers/convolution.h"
#include "models/layers/dense.h"
#include "models/layers/dropout.h"
#include "models/layers/normalization.h"
#include "models/layers/pooling.h"
#include "models/layers/shaping.h"
#include "tests/ops/gradcheck.h"

namespace bitloom::layers {
namespace {

struct Row {
    std::function<std::unique_ptr<Layer>()> make;
    std::vector<Shape> inputs;
    bool training = false;
};

template <class L, class... Args>
Row row(std::vector<Shape> inputs, Args... args) {
    return {[args...]() -> std::unique_ptr<Layer> { return std::make_unique<L>(args...); }, std::move(inputs)};
}
template <class L, class... Args>
Row training_row(std::vector<Shape> inputs, Args... args) {
    Row r = row<L>(std::move(inputs), args...);
    r.training = true;
    return r;
}

const std::vector<Shape> activation_shapes = {{1, 1}, {3, 5}, {1, 3, 5, 2}, {2, 1, 1, 7}, {3, 2, 3, 1}};
template <class L, class... Args>
std::vector<Row> activation_rows(Args... args) {
    std::vector<Row> rows;
    for (const Shape& shape : activation_shapes) rows.push_back(row<L>({shape}, args...));
    return rows;
}

std::map<LayerType, std::vector<Row>> make_rows() {
    using T = LayerType;
    std::map<T, std::vector<Row>> rows;
    const PaddingRule same = PaddingRule::same(), one = PaddingRule::symmetric(1);
    rows[T::conv2d] = {
        row<Conv2d>({{1, 5, 5, 2}}, Conv2dConfig{.in = 2, .out = 3}),
        row<Conv2d>({{2, 5, 4, 1}}, Conv2dConfig{.in = 1, .out = 2, .stride = 2, .padding = same}),
        row<Conv2d>({{1, 6, 7, 3}},
                    Conv2dConfig{.in = 3, .out = 1, .kernel = {2, 3}, .stride = {2, 3}, .padding = one, .bias = false}),
        row<Conv2d>({{2, 5, 5, 4}}, Conv2dConfig{.in = 4, .out = 6, .padding = same, .groups = 2}),
        row<Conv2d>(
            {{1, 7, 6, 1}},
            Conv2dConfig{.in = 1, .out = 2, .padding = PaddingRule::explicit_pads({1, 2, 0, 3}), .dilation = 2}),
        row<Conv2d>({{3, 3, 3, 2}}, Conv2dConfig{.in = 2, .out = 2, .kernel = 1, .stride = 2})};
    rows[T::depthwise_conv2d] = {
        row<DepthwiseConv2d>({{1, 5, 5, 3}}, Conv2dConfig{.in = 3}),
        row<DepthwiseConv2d>({{2, 5, 4, 2}}, Conv2dConfig{.in = 2, .stride = 2, .padding = same}),
        row<DepthwiseConv2d>({{1, 5, 6, 2}}, Conv2dConfig{.in = 2, .padding = one, .bias = false}, std::int64_t{2}),
        row<DepthwiseConv2d>({{1, 7, 7, 1}}, Conv2dConfig{.in = 1, .kernel = 5, .stride = 2, .padding = same}),
        row<DepthwiseConv2d>({{2, 3, 5, 3}}, Conv2dConfig{.in = 3, .kernel = {1, 3}, .padding = one})};
    rows[T::conv_transpose2d] = {
        row<ConvTranspose2d>({{1, 3, 3, 2}}, ConvTranspose2dConfig{.in = 2, .out = 3}),
        row<ConvTranspose2d>({{2, 2, 3, 1}}, ConvTranspose2dConfig{.in = 1, .out = 2, .kernel = 2, .stride = 2}),
        row<ConvTranspose2d>({{1, 3, 4, 3}}, ConvTranspose2dConfig{.in = 3,
                                                                   .out = 1,
                                                                   .stride = 2,
                                                                   .pads = ops::Padding::symmetric(1),
                                                                   .output_padding = 1,
                                                                   .bias = false}),
        row<ConvTranspose2d>({{1, 3, 3, 4}},
                             ConvTranspose2dConfig{.in = 4, .out = 2, .pads = ops::Padding::symmetric(1), .groups = 2}),
        row<ConvTranspose2d>({{1, 3, 2, 1}},
                             ConvTranspose2dConfig{.in = 1, .out = 1, .kernel = {1, 3}, .stride = {3, 1}})};
    rows[T::dense] = {
        row<Dense>({{1, 1}}, DenseConfig{.in = 1, .out = 1}), row<Dense>({{1, 7}}, DenseConfig{.in = 7, .out = 3}),
        row<Dense>({{3, 5}}, DenseConfig{.in = 5, .out = 4, .bias = false}),
        row<Dense>({{5, 2}}, DenseConfig{.in = 2, .out = 9}), row<Dense>({{4, 11}}, DenseConfig{.in = 11, .out = 1})};
    rows[T::batch_norm] = {training_row<BatchNorm>({{4, 3}}, keras_batch_norm(3)),
                           training_row<BatchNorm>({{1, 3, 3, 2}}, pytorch_batch_norm(2)),
                           training_row<BatchNorm>({{3, 2, 1, 3}}, pytorch_batch_norm(3)),
                           row<BatchNorm>({{1, 3, 5, 2}}, pytorch_batch_norm(2)),
                           row<BatchNorm>({{1, 5}}, keras_batch_norm(5)),
                           training_row<BatchNorm>({{2, 3, 3, 1}}, keras_batch_norm(1))};
    rows[T::relu] = activation_rows<ReLU>();
    rows[T::relu6] = activation_rows<ReLU6>();
    rows[T::leaky_relu] = activation_rows<LeakyReLU>(0.1);
    rows[T::sigmoid] = activation_rows<Sigmoid>();
    rows[T::tanh] = activation_rows<Tanh>();
    rows[T::swish] = activation_rows<Swish>();
    rows[T::softmax] = activation_rows<Softmax>();
    const std::vector<std::pair<Shape, Pool2dConfig>> pools = {
        {{1, 5, 5, 2}, Pool2dConfig{}},
        {{2, 5, 3, 1}, Pool2dConfig{.padding = same}},
        {{1, 7, 6, 2}, Pool2dConfig{.window = 3, .padding = one}},
        {{3, 4, 4, 1}, Pool2dConfig{.window = 1, .stride = 1}},
        {{1, 6, 5, 3}, Pool2dConfig{.window = {3, 2}, .stride = {1, 3}, .padding = same}}};
    for (const auto& [shape, config] : pools) {
        rows[T::max_pool2d].push_back(row<MaxPool2d>({shape}, config));
        rows[T::avg_pool2d].push_back(row<AvgPool2d>({shape}, config, false));
        rows[T::avg_pool2d].push_back(row<AvgPool2d>({shape}, config, true));
    }
    for (const Shape& shape :
         std::vector<Shape>{{1, 1, 1, 1}, {1, 3, 5, 2}, {2, 7, 1, 3}, {3, 2, 2, 1}, {1, 4, 3, 5}}) {
        rows[T::global_avg_pool2d].push_back(row<GlobalAvgPool2d>({shape}));
        rows[T::global_max_pool2d].push_back(row<GlobalMaxPool2d>({shape}));
        rows[T::flatten].push_back(row<Flatten>({shape}));
        rows[T::dropout].push_back(training_row<Dropout>({shape}, 0.4));
        rows[T::drop_path].push_back(training_row<DropPath>({shape}, 0.3));
        rows[T::add].push_back(row<Add>({shape, shape}));
        rows[T::add].push_back(row<Add>({shape, shape, shape}));
        rows[T::multiply].push_back(row<Multiply>({shape, {shape[0], 1, 1, shape[3]}}));
        rows[T::concat].push_back(row<Concat>({shape, {shape[0], shape[1], shape[2], 3}}));
        rows[T::zero_pad2d].push_back(row<ZeroPad2d>({shape}, ops::Padding{1, 0, 2, 3}));
    }
    rows[T::option_a_shortcut] = {
        row<OptionAShortcut>({{1, 4, 4, 2}}, 2, 4, 2), row<OptionAShortcut>({{2, 5, 3, 4}}, 4, 8, 2),
        row<OptionAShortcut>({{1, 1, 1, 2}}, 2, 4, 2), row<OptionAShortcut>({{1, 3, 7, 4}}, 4, 8, 1),
        row<OptionAShortcut>({{3, 7, 5, 2}}, 2, 4, 3)};
    return rows;
}

/// Puts a variable of the check in a parameter's place: its gradient is then checked like an input's, and every layer
/// is seen to take its weights through its transforms.
class Substitute final : public WeightTransform {
   public:
    std::string_view name() const override { return "substitute"; }
    Var apply(Context&, Parameter&, const Var&) override { return variable; }
    bool cacheable() const override { return false; }
    bool replaces_master() const override { return true; }
    Var variable;
};

void check(const Row& row) {
    const std::unique_ptr<Layer> layer = row.make();
    layer->assign_paths();
    layer->to(DType::f64);
    layer->to(reference_device);
    initialize(*layer, 3);
    Rng rng(11, "layer inputs");
    std::vector<Tensor> inputs;
    for (const Shape& shape : row.inputs) {
        inputs.push_back(Tensor::empty(shape, DType::f64, reference_device));
        fill_uniform(inputs.back(), -1, 1, rng);
    }
    std::vector<std::shared_ptr<Substitute>> substitutes;
    for (const auto& [path, parameter] : layer->named_parameters()) {
        inputs.push_back(Tensor::empty(parameter->value.shape(), DType::f64, reference_device));
        fill_uniform(inputs.back(), -1, 1, rng);
        substitutes.push_back(std::make_shared<Substitute>());
        parameter->transforms.push_back(substitutes.back());
    }
    const std::size_t data_inputs = row.inputs.size();
    ops::test::gradcheck(
        [&](Tape& tape, std::span<const Var> vars) {
            for (std::size_t i = 0; i < substitutes.size(); ++i) substitutes[i]->variable = vars[data_inputs + i];
            Context context{tape};
            context.training = row.training;
            context.seed = 5;
            if (data_inputs == 1) return (*layer)(context, vars[0]);
            if (data_inputs == 2) return (*layer)(context, {vars[0], vars[1]});
            return (*layer)(context, {vars[0], vars[1], vars[2]});
        },
        inputs);
}

class LayerGradient : public testing::TestWithParam<int> {};

TEST_P(LayerGradient, AgreesWithCentralDifferences) {
    static const std::map<LayerType, std::vector<Row>> rows = make_rows();
    const auto type = static_cast<LayerType>(GetParam());
    const auto found = rows.find(type);
    ASSERT_NE(found, rows.end()) << "the layer has no row here";
    EXPECT_GE(found->second.size(), 5u);
    for (std::size_t i = 0; i < found->second.size(); ++i) {
        SCOPED_TRACE(cat("row ", i));
        EXPECT_EQ(found->second[i].make()->layer_type(), type);
        check(found->second[i]);
    }
}

INSTANTIATE_TEST_SUITE_P(EveryLayer, LayerGradient, testing::Range(0, static_cast<int>(LayerType::count)),
                         [](const auto& info) {
                             return std::string(layer_type_names[static_cast<std::size_t>(info.param)]);
                         });

}  // namespace
}  // namespace bitloom::layers
