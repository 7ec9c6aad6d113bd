#include "models/layers/pooling.h"

namespace bitloom::layers {

ops::Pool2dOptions pool_options(const Pool2dConfig& config, std::int64_t in_h, std::int64_t in_w) {
    ops::Pool2dOptions options;
    options.window_h = config.window.h, options.window_w = config.window.w;
    options.stride_h = config.stride.h, options.stride_w = config.stride.w;
    options.padding = config.padding.resolve({in_h, in_w}, config.window, config.stride);
    return options;
}

Var MaxPool2d::forward(Context&, std::span<const Var> inputs) {
    const Var& x = only(inputs);
    require(x.shape().rank() == 4, path(), ": ", type(), " needs [batch, height, width, channels], got ", x.shape());
    return ops::max_pool2d(x, pool_options(config_, x.dim(1), x.dim(2)));
}

Var AvgPool2d::forward(Context&, std::span<const Var> inputs) {
    const Var& x = only(inputs);
    require(x.shape().rank() == 4, path(), ": ", type(), " needs [batch, height, width, channels], got ", x.shape());
    return ops::avg_pool2d(x, pool_options(config_, x.dim(1), x.dim(2)), include_pad_);
}

Var GlobalAvgPool2d::forward(Context&, std::span<const Var> inputs) { return ops::global_avg_pool2d(only(inputs)); }
Var GlobalMaxPool2d::forward(Context&, std::span<const Var> inputs) { return ops::global_max_pool2d(only(inputs)); }

}  // namespace bitloom::layers
