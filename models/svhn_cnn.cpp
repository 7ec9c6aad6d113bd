#include "models/layers/activation.h"
#include "models/layers/convolution.h"
#include "models/layers/dense.h"
#include "models/layers/dropout.h"
#include "models/layers/normalization.h"
#include "models/layers/pooling.h"
#include "models/layers/sequential.h"
#include "models/layers/shaping.h"
#include "models/small_networks.h"

namespace bitloom {

using namespace layers;

namespace {
MovingVariance moving_variance_named(const std::string& name) {
    if (name == "keras_fused") return MovingVariance::keras_fused;
    if (name == "biased") return MovingVariance::biased;
    if (name == "unbiased") return MovingVariance::unbiased;
    throw UsageError(cat("unknown moving variance '", name, "' (keras_fused, biased, unbiased)"));
}

/// Keras numbers the layers of a class: name, name_1, name_2, ...
class KerasNames {
   public:
    std::string next(const std::string& base) {
        for (auto& [name, count] : counts_)
            if (name == base) return cat(base, "_", count++);
        counts_.emplace_back(base, 1);
        return base;
    }

   private:
    std::vector<std::pair<std::string, int>> counts_;
};

/// What the builders of the source's family differ in.
struct Form {
    bool padded = false;           ///< a row and column of zeros around each convolution's input
    bool always_max_pool = false;  ///< pooling 1 pools by the maximum of 2x2 too
    std::string output = "output_dense";
};

void check_lists(const ModelOptions& o) {
    const std::size_t n = o.filters.size();
    if (o.kernels.size() != n || o.strides.size() != n || o.pooling.size() != n)
        throw UsageError(cat(o.name, ": filters, kernels, strides and pooling must have one value a convolution, got ",
                             n, ", ", o.kernels.size(), ", ", o.strides.size(), " and ", o.pooling.size()));
    for (std::size_t i = 0; i < n; ++i) {
        if (o.filters[i] < 1 || o.kernels[i] < 1 || o.strides[i] < 1)
            throw UsageError(cat(o.name, ": filters, kernels and strides must be positive (convolution ", i, ")"));
        if (o.pooling[i] < 0 || o.pooling[i] > 2)
            throw UsageError(
                cat(o.name, ": pooling is 0 (none), 1 (average over one cell) or 2 (max 2x2), got ", o.pooling[i]));
    }
    if (!o.dropout.empty() && o.dropout.size() != n)
        throw UsageError(cat(o.name, ": dropout must have one rate a convolution, got ", o.dropout.size(), " for ", n));
    for (const double rate : o.dropout)
        if (!(rate >= 0 && rate < 1)) throw UsageError(cat(o.name, ": a dropout rate is at least 0 and below 1, got ", rate));
    for (const std::int64_t units : o.dense_units)
        if (units < 1) throw UsageError(cat(o.name, ": a dense layer needs a positive number of units, got ", units));
}

std::unique_ptr<Module> build(const ModelOptions& o, const Form& form) {
    check_lists(o);
    auto network = std::make_unique<Sequential>();
    KerasNames names;
    std::int64_t h = o.input[0], w = o.input[1], channels = o.input[2];
    const auto normalize = [&](std::int64_t width) {
        BatchNormConfig config = keras_batch_norm(width);
        config.moving_variance = moving_variance_named(o.moving_variance);
        network->append<BatchNorm>(names.next("batch_normalization"), config);
    };
    normalize(channels);
    for (std::size_t i = 0; i < o.filters.size(); ++i) {
        const std::string name = cat("conv_", i);
        if (form.padded) {
            network->append<ZeroPad2d>(names.next("zero_padding2d"), ops::Padding{1, 1, 1, 1});
            h += 2, w += 2;
        }
        if (h < o.kernels[i] || w < o.kernels[i])
            throw UsageError(
                cat(o.name, ": ", name, " has a ", o.kernels[i], "x", o.kernels[i], " kernel on a map of ", h, "x", w));
        network->append<Conv2d>(name, Conv2dConfig{.in = channels,
                                                   .out = o.filters[i],
                                                   .kernel = o.kernels[i],
                                                   .stride = o.strides[i],
                                                   .padding = PaddingRule::valid(),
                                                   .bias = false,
                                                   .weight_init = Initializer::lecun_uniform});
        channels = o.filters[i];
        h = (h - o.kernels[i]) / o.strides[i] + 1, w = (w - o.kernels[i]) / o.strides[i] + 1;
        if (o.pooling[i] == 2 || (form.always_max_pool && o.pooling[i] != 0)) {
            network->append<MaxPool2d>(names.next("max_pooling2d"));
            h /= 2, w /= 2;
            if (h == 0 || w == 0) throw UsageError(cat(o.name, ": nothing is left of the map after pooling ", name));
        } else if (o.pooling[i] == 1) {
            network->append<AvgPool2d>(names.next("average_pooling2d"), Pool2dConfig{.window = 1, .stride = 1});
        }
        normalize(channels);
        network->append(cat("conv_act_", i), make_activation(o.activation));
        if (!o.dropout.empty() && o.dropout[i] > 0) network->append<Dropout>(names.next("dropout"), o.dropout[i]);
    }
    network->append<Flatten>("flatten");
    Shape map{h, w, channels};
    std::int64_t width = h * w * channels;
    for (std::size_t i = 0; i < o.dense_units.size(); ++i) {
        network->append<Dense>(cat("dense_", i), DenseConfig{.in = width,
                                                             .out = o.dense_units[i],
                                                             .bias = false,
                                                             .weight_init = Initializer::lecun_uniform,
                                                             .flattened_from = map});
        width = o.dense_units[i];
        map = Shape();
        normalize(width);
        network->append(cat("dense_act_", i), make_activation(o.activation));
    }
    network->append<Dense>(form.output, DenseConfig{.in = width,
                                                       .out = o.classes,
                                                       .weight_init = Initializer::glorot_uniform,
                                                       .bias_init = Initializer::zeros,
                                                       .flattened_from = map,
                                                       .logits = true});
    return network;
}

}  // namespace

std::unique_ptr<Module> make_svhn_cnn(const ModelOptions& o) { return build(o, {}); }

std::unique_ptr<Module> make_svhn_cnn_128(const ModelOptions& options) {
    ModelOptions o = options;
    o.dense_units = {128};
    return build(o, {.padded = true, .always_max_pool = true, .output = "output"});
}

}  // namespace bitloom
