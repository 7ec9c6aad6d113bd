#include "models/resnet.h"

namespace bitloom {

using namespace layers;

namespace {
Conv2dConfig convolution(std::int64_t in, std::int64_t out, std::int64_t kernel, std::int64_t stride,
                         Initializer initializer) {
    return {.in = in,
            .out = out,
            .kernel = kernel,
            .stride = stride,
            .padding = PaddingRule::symmetric(kernel / 2),
            .dilation = 1,
            .groups = 1,
            .bias = false,
            .weight_init = initializer,
            .bias_init = Initializer::zeros};
}
Initializer convolution_initializer(ResNetShortcut shortcut) {
    return shortcut == ResNetShortcut::a ? Initializer::kaiming_normal_fan_in : Initializer::kaiming_normal_fan_out;
}
Conv2dConfig block_convolution(std::int64_t in, std::int64_t out, std::int64_t stride, ResNetShortcut shortcut) {
    return convolution(in, out, 3, stride, convolution_initializer(shortcut));
}
}  // namespace

BasicBlock::BasicBlock(std::int64_t in, std::int64_t out, std::int64_t stride, ResNetShortcut shortcut)
    : conv1_(add<Conv2d>("conv1", block_convolution(in, out, stride, shortcut))),
      bn1_(add<BatchNorm>("bn1", pytorch_batch_norm(out))),
      relu1_(add<ReLU>("relu1")),
      conv2_(add<Conv2d>("conv2", block_convolution(out, out, 1, shortcut))),
      bn2_(add<BatchNorm>("bn2", pytorch_batch_norm(out))) {
    if (stride != 1 || in != out) {
        if (shortcut == ResNetShortcut::a) {
            shortcut_ = &add<OptionAShortcut>("shortcut", in, out, stride);
        } else {
            auto& downsample = add<Sequential>("downsample");
            downsample.append<Conv2d>("0", convolution(in, out, 1, stride, Initializer::fan_in_uniform));
            downsample.append<BatchNorm>("1", pytorch_batch_norm(out));
            shortcut_ = &downsample;
        }
    }
    add_ = &add<Add>("add");
    relu2_ = &add<ReLU>("relu2");
}

Var BasicBlock::forward(Context& context, std::span<const Var> inputs) {
    require(inputs.size() == 1, path(), ": BasicBlock takes one input, got ", inputs.size());
    const Var& x = inputs[0];
    const Var u = norm_act(context, bn1_, &relu1_, conv1_(context, x));
    const Var v = conv2_(context, u);
    const Var residual = shortcut_ ? (*shortcut_)(context, x) : x;
    return norm_act(context, bn2_, add_, relu2_, v, &residual);
}

CifarResNet::CifarResNet(std::int64_t depth, std::int64_t in_channels, std::int64_t classes, ResNetShortcut shortcut)
    : conv1_(add<Conv2d>("conv1", block_convolution(in_channels, 16, 1, shortcut))),
      bn1_(add<BatchNorm>("bn1", pytorch_batch_norm(16))),
      relu_(add<ReLU>("relu")) {
    require(depth >= 8 && (depth - 2) % 6 == 0, "CIFAR ResNet: depth ", depth, " is not 6n + 2");
    const std::int64_t blocks = (depth - 2) / 6;
    std::int64_t channels = 16;
    for (int stage = 1; stage <= 3; ++stage) {
        const std::int64_t width = std::int64_t{16} << (stage - 1);
        auto& sequence = add<Sequential>(cat("layer", stage));
        for (std::int64_t block = 0; block < blocks; ++block) {
            const std::int64_t stride = stage > 1 && block == 0 ? 2 : 1;
            sequence.append<BasicBlock>(std::to_string(block), channels, width, stride, shortcut);
            channels = width;
        }
        stages_.push_back(&sequence);
    }
    pool_ = &add<GlobalAvgPool2d>("avgpool");
    DenseConfig last{.in = channels, .out = classes, .bias = true, .logits = true};
    if (shortcut == ResNetShortcut::a) last.weight_init = Initializer::kaiming_normal_fan_in;
    classifier_ = &add<Dense>(shortcut == ResNetShortcut::a ? "linear" : "fc", last);
}

Var CifarResNet::forward(Context& context, std::span<const Var> inputs) {
    require(inputs.size() == 1, "CifarResNet takes one input, got ", inputs.size());
    Var x = norm_act(context, bn1_, &relu_, conv1_(context, inputs[0]));
    for (Sequential* stage : stages_) x = (*stage)(context, x);
    return (*classifier_)(context, (*pool_)(context, x));
}

std::unique_ptr<Module> make_cifar_resnet(const ModelOptions& options, std::int64_t depth) {
    if (options.variant != "A" && options.variant != "B")
        throw UsageError(cat(options.name, ": variant '", options.variant, "' is neither A nor B"));
    const auto shortcut = options.variant == "A" ? ResNetShortcut::a : ResNetShortcut::b;
    return std::make_unique<CifarResNet>(depth, options.input[2], options.classes, shortcut);
}

}  // namespace bitloom
