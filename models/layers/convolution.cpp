#include "models/layers/convolution.h"

namespace bitloom::layers {

namespace {
/// A bias that may not exist, as ops take it.
Var optional(Context& context, Parameter& bias) { return bias.value.defined() ? bias.effective(context) : Var(); }

template <class Config>
void check(const Config& c, std::string_view type) {
    require(c.in > 0 && c.out > 0, type, ": needs positive channel counts, got ", c.in, " and ", c.out);
    require(
        c.kernel.h > 0 && c.kernel.w > 0 && c.stride.h > 0 && c.stride.w > 0 && c.dilation.h > 0 && c.dilation.w > 0,
        type, ": kernel, stride and dilation must be positive");
    require(c.groups > 0 && c.in % c.groups == 0 && c.out % c.groups == 0, type, ": ", c.groups,
            " groups do not divide ", c.in, " input and ", c.out, " output channels");
}
}  // namespace

Conv2d::Conv2d(LayerType type, const Conv2dConfig& config) : Layer(type), config_(config) {
    check(config, this->type());
    weight.value = Tensor::zeros({config.out, config.kernel.h, config.kernel.w, config.in / config.groups});
    if (config.bias) bias.value = Tensor::zeros({config.out});
    register_parameter("weight", weight);
    register_parameter("bias", bias);
}

Fans Conv2d::fans() const {
    const std::int64_t cells = config_.kernel.h * config_.kernel.w;
    return {cells * config_.in / config_.groups, cells * config_.out};
}

void Conv2d::initialize(std::uint64_t seed) {
    bitloom::initialize(weight, config_.weight_init, fans(), seed);
    if (config_.bias) bitloom::initialize(bias, config_.bias_init, fans(), seed);
}

void Conv2d::add_bias() {
    if (config_.bias) return;
    config_.bias = true;
    bias.value = Tensor::zeros({config_.out}, weight.value.dtype(), weight.value.device());
    bias.path = path().empty() ? "bias" : path() + ".bias";
    register_parameter("bias", bias);
}

ops::Conv2dOptions Conv2d::options_for(std::int64_t in_h, std::int64_t in_w) const {
    ops::Conv2dOptions options;
    options.stride_h = config_.stride.h, options.stride_w = config_.stride.w;
    options.padding = config_.padding.resolve({in_h, in_w}, config_.kernel, config_.stride, config_.dilation);
    options.dilation_h = config_.dilation.h, options.dilation_w = config_.dilation.w;
    options.groups = config_.groups;
    return options;
}

Var Conv2d::forward(Context& context, std::span<const Var> inputs) {
    const Var& x = only(inputs);
    require(x.shape().rank() == 4, path(), ": ", type(), " needs [batch, height, width, channels], got ", x.shape());
    return ops::conv2d(x, weight.effective(context), optional(context, bias), options_for(x.dim(1), x.dim(2)));
}

namespace {
Conv2dConfig depthwise(Conv2dConfig config, std::int64_t multiplier) {
    config.out = config.in * multiplier;
    config.groups = config.in;
    return config;
}
}  // namespace

DepthwiseConv2d::DepthwiseConv2d(Conv2dConfig config, std::int64_t multiplier)
    : Conv2d(LayerType::depthwise_conv2d, depthwise(config, multiplier)) {}

ConvTranspose2d::ConvTranspose2d(const ConvTranspose2dConfig& config)
    : Layer(LayerType::conv_transpose2d), config_(config) {
    check(config, type());
    weight.value = Tensor::zeros({config.in, config.kernel.h, config.kernel.w, config.out / config.groups});
    if (config.bias) bias.value = Tensor::zeros({config.out});
    register_parameter("weight", weight);
    register_parameter("bias", bias);
}

Fans ConvTranspose2d::fans() const {
    const std::int64_t cells = config_.kernel.h * config_.kernel.w;
    return {cells * config_.out / config_.groups, cells * config_.in};
}

void ConvTranspose2d::initialize(std::uint64_t seed) {
    bitloom::initialize(weight, config_.weight_init, fans(), seed);
    if (config_.bias) bitloom::initialize(bias, config_.bias_init, fans(), seed);
}

Var ConvTranspose2d::forward(Context& context, std::span<const Var> inputs) {
    ops::Conv2dOptions options;
    options.stride_h = config_.stride.h, options.stride_w = config_.stride.w;
    options.padding = config_.pads;
    options.dilation_h = config_.dilation.h, options.dilation_w = config_.dilation.w;
    options.groups = config_.groups;
    return ops::conv2d_transpose(only(inputs), weight.effective(context), optional(context, bias), options,
                                 config_.output_padding.h, config_.output_padding.w);
}

}  // namespace bitloom::layers
