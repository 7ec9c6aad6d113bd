#include "models/layers/convolution.h"
#include "models/layers/dense.h"
#include "models/layers/activation.h"
#include "models/layers/dropout.h"
#include "models/layers/normalization.h"
#include "models/layers/pooling.h"
#include "models/layers/sequential.h"
#include "models/layers/shaping.h"
#include "models/small_networks.h"

namespace bitloom {

using namespace layers;

namespace {

struct TunedVariant {
    std::string reduction;
    bool separable = false;
};

TunedVariant variant_named(const std::string& name) {
    TunedVariant variant{name, false};
    if (const std::size_t dash = name.find('-'); dash != std::string::npos) {
        variant.reduction = name.substr(0, dash);
        variant.separable = name.substr(dash + 1) == "separable";
        if (!variant.separable) variant.reduction.clear();
    }
    if (variant.reduction != "max" && variant.reduction != "avg" && variant.reduction != "flatten")
        throw UsageError(cat("tuned_cnn: the variant is max, avg or flatten, also with -separable; got '", name, "'"));
    return variant;
}

void check_options(const ModelOptions& o) {
    if (o.kernels.size() != o.filters.size() || o.pooling.size() != o.filters.size())
        throw UsageError(cat("tuned_cnn: filters, kernels and pooling must have one value a convolution, got ",
                             o.filters.size(), ", ", o.kernels.size(), " and ", o.pooling.size()));
    for (std::size_t i = 0; i < o.filters.size(); ++i) {
        if (o.filters[i] < 1 || o.kernels[i] < 1) throw UsageError("tuned_cnn: filters and kernels must be positive");
        if (o.pooling[i] != 1 && o.pooling[i] != 2)
            throw UsageError(cat("tuned_cnn: pooling is 1 (average 2x2) or 2 (max 2x2), got ", o.pooling[i]));
    }
    if (o.dropout.size() > 1 || o.dropout[0] < 0 || o.dropout[0] >= 1)
        throw UsageError("tuned_cnn: dropout is one rate, at least 0 and below 1");
}

}  // namespace

std::unique_ptr<Module> make_tuned_cnn(const ModelOptions& o) {
    check_options(o);
    const TunedVariant variant = variant_named(o.variant);
    auto network = std::make_unique<Sequential>();
    std::int64_t h = o.input[0], w = o.input[1], channels = o.input[2];
    network->append<BatchNorm>("input_norm", keras_batch_norm(channels));
    for (std::size_t i = 0; i < o.filters.size(); ++i) {
        const auto convolution = [&](std::int64_t out, Extent2d kernel) {
            return Conv2dConfig{.in = channels,
                                .out = out,
                                .kernel = kernel,
                                .padding = PaddingRule::same(),
                                .weight_init = Initializer::glorot_uniform,
                                .bias_init = Initializer::zeros};
        };
        if (variant.separable) {
            Conv2dConfig depthwise = convolution(channels, o.kernels[i]);
            depthwise.bias = false;
            network->append<DepthwiseConv2d>(cat("depthwise_", i), depthwise);
            network->append<Conv2d>(cat("conv_", i), convolution(o.filters[i], 1));
        } else {
            network->append<Conv2d>(cat("conv_", i), convolution(o.filters[i], o.kernels[i]));
        }
        channels = o.filters[i];
        if (h < 2 || w < 2) throw UsageError(cat("tuned_cnn: nothing is left of the map to pool after conv_", i));
        if (o.pooling[i] == 2)
            network->append<MaxPool2d>(cat("pooling_", i));
        else
            network->append<AvgPool2d>(cat("pooling_", i), Pool2dConfig{});
        h /= 2, w /= 2;
        network->append<BatchNorm>(cat("conv_norm_", i), keras_batch_norm(channels));
        network->append<ReLU>(cat("conv_act_", i));
    }
    Shape map;
    std::int64_t width = channels;
    if (variant.reduction == "max") {
        network->append<GlobalMaxPool2d>("global_max");
    } else if (variant.reduction == "avg") {
        network->append<GlobalAvgPool2d>("global_avg");
    } else {
        network->append<Flatten>("flatten");
        map = {h, w, channels};
        width = h * w * channels;
    }
    const auto dense = [&](const std::string& name, std::int64_t units, bool logits) {
        network->append<Dense>(name, DenseConfig{.in = width,
                                                 .out = units,
                                                 .weight_init = Initializer::glorot_uniform,
                                                 .bias_init = Initializer::zeros,
                                                 .flattened_from = map,
                                                 .logits = logits});
        width = units;
        map = Shape();
    };
    int index = 0;
    for (const std::int64_t units : o.dense_units) {
        if (units == 0) continue;
        if (units < 0) throw UsageError(cat("tuned_cnn: a dense layer of ", units, " units"));
        dense(cat("dense_", index), units, false);
        network->append<BatchNorm>(cat("dense_norm_", index), keras_batch_norm(units));
        network->append<ReLU>(cat("dense_act_", index));
        network->append<Dropout>(cat("dropout_", index), o.dropout[0]);
        ++index;
    }
    dense("output_dense", o.classes, true);
    return network;
}

}  // namespace bitloom
