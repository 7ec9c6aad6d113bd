// svhn/*: the SVHN network, its folds and its flops.

#include <map>
#include <nlohmann/json.hpp>

#include "apps/golden/families.h"
#include "engine/data/kfold.h"
#include "models/registry.h"
#include "ops/loss.h"
#include "ops/reduction.h"
#include "ops/shaping.h"
#include "quant/cost/flops.h"
#include "quant/qkeras/model_quantize.h"

namespace bitloom::golden {

namespace {

constexpr int fold_count = 10;
constexpr std::int64_t train_images = 73257, extra_images = 531131;

Tensor fold_bounds(std::int64_t count, int folds) {
    std::vector<std::int32_t> bounds;
    for (int fold = 0; fold <= folds; ++fold)
        bounds.push_back(static_cast<std::int32_t>(fold_boundary(fold, folds, count)));
    return Tensor::from({folds + 1}, bounds);
}

void kfold(const Case& c) {
    const int folds = static_cast<int>(c.integer_or("folds", fold_count));
    expect_equal("train_bounds", fold_bounds(c.integer("train"), folds), c.tensor("train_bounds", DType::f64));
    expect_equal("extra_bounds", fold_bounds(c.integer("extra"), folds), c.tensor("extra_bounds", DType::f64));
}

/// Images of the training and the validation part of every fold, extra ones included.
void kfold_sizes(const Case& c) {
    std::vector<std::int32_t> train, validation;
    for (int fold = 0; fold < fold_count; ++fold) {
        std::int64_t held_out = 0;
        for (const std::int64_t count : {train_images, extra_images})
            held_out += fold_boundary(fold + 1, fold_count, count) - fold_boundary(fold, fold_count, count);
        validation.push_back(static_cast<std::int32_t>(held_out));
        train.push_back(static_cast<std::int32_t>(train_images + extra_images - held_out));
    }
    expect_equal("train", Tensor::from({fold_count}, train), c.tensor("train", DType::f64));
    expect_equal("val", Tensor::from({fold_count}, validation), c.tensor("val", DType::f64));
}

// The network --------------------------------------------------------------------------------------------------------

/// A weight of the source's layout in the engine's: HWIO as OHWI, [in, out] as [out, in]; with `back` the other way.
Tensor rearranged(const Tensor& t, bool back) {
    Tape tape(Tape::Mode::inference);
    const Var x = tape.constant(t);
    if (t.rank() == 4) return ops::transpose(x, back ? std::vector<int>{1, 2, 3, 0} : std::vector<int>{3, 0, 1, 2}).value();
    return t.rank() == 2 ? ops::transpose(x, std::vector<int>{1, 0}).value() : t;
}

/// Names of the engine by those of Keras.
std::string engine_name(const std::string& name) {
    static const std::map<std::string, std::string> names{{"kernel", "weight"}, {"gamma", "weight"}, {"beta", "bias"},
                                                          {"moving_mean", "running_mean"}, {"moving_variance", "running_var"}};
    const auto found = names.find(name);
    return found == names.end() ? name : found->second;
}

/// The network with the file's weights, built as wide as these are.
std::unique_ptr<Module> network_of(const Case& c, const std::string& moving_variance) {
    const Case weights = c.at("../../weights");
    const Case input = c.at("../../input");
    ModelOptions options;
    options.name = "svhn_cnn";
    const Shape image = input.tensor("x").shape();
    options.input = Shape{image[1], image[2], image[3]};
    options.filters.clear(), options.kernels.clear(), options.strides.clear(), options.pooling.clear(), options.dense_units.clear();
    for (int i = 0; weights.has(cat("conv_", i, "/kernel")); ++i) {
        const Shape kernel = weights.tensor(cat("conv_", i, "/kernel")).shape();
        options.filters.push_back(kernel[3]);
        options.kernels.push_back(kernel[0]);
        options.strides.push_back(1);
        options.pooling.push_back(2);
    }
    for (int i = 0; weights.has(cat("dense_", i, "/kernel")); ++i)
        options.dense_units.push_back(weights.tensor(cat("dense_", i, "/kernel")).dim(1));
    options.classes = weights.tensor("output_dense/bias").dim(0);
    options.moving_variance = moving_variance;
    auto network = make_model(options);

    std::map<std::string, Tensor*> places;
    for (auto& [path, parameter] : network->named_parameters()) places[path] = &parameter->value;
    for (auto& [path, buffer] : network->named_buffers()) places[path] = buffer;
    std::size_t filled = 0;
    for (const std::string& name : c.file().datasets(weights.path())) {
        const std::size_t slash = name.rfind('/'), before = name.rfind('/', slash - 1);
        const std::string layer = name.substr(before + 1, slash - before - 1), path = layer + "." + engine_name(name.substr(slash + 1));
        require(places.contains(path), "the network has no ", path);
        places[path]->copy_from(rearranged(c.file().read(name), false));
        ++filled;
    }
    std::size_t counters = 0;
    for (const auto& [path, place] : places) counters += path.ends_with("num_batches_tracked");
    require(filled + counters == places.size(), "the file fills ", filled, " of ", places.size() - counters, " tensors of the network");
    return network;
}

/// Attaches the scan's quantizers where the case names a width.
void quantize_as(const Case& c, Module& network) {
    if (!c.given("bits")) return;
    const std::int64_t bits = c.integer("bits");
    quant::qkeras::model_quantize(network, quant::qkeras::scan_dictionary(bits, bits));
}

/// Outputs of the named layers.
class Outputs final : public CallObserver {
   public:
    void after_call(Module& module, std::span<const Var>, Var& output) override { values[module.path()] = output.value(); }
    std::map<std::string, Tensor> values;
};

Tensor softmax_of(const Tensor& logits) {
    Tape tape(Tape::Mode::inference);
    return ops::softmax(tape.constant(logits)).value();
}

constexpr double output_tolerance = 1e-4, gradient_tolerance = 1e-3;

void inference(const Case& c) {
    const auto network = network_of(c, "keras_fused");
    quantize_as(c, *network);
    const Tensor x = c.at("../../input").tensor("x");
    Tape tape(Tape::Mode::inference);
    Outputs outputs;
    Context context{tape};
    context.observer = &outputs;
    const Tensor logits = (*network)(context, tape.constant(x)).value();
    outputs.values["output_softmax"] = softmax_of(logits);
    // Without anyone looking on, normalisations run fused with their activations: the same bits.
    context.observer = nullptr;
    expect_equal("logits of the fused pass", (*network)(context, tape.constant(x)).value(), logits);
    for (const std::string& name : c.file().datasets(c.path())) {
        const std::string layer = name.substr(name.rfind('/') + 1);
        require(outputs.values.contains(layer), "the network has no layer '", layer, "'");
        expect_close(layer, outputs.values[layer], c.file().read(name), output_tolerance);
    }
}

/// One step forward and backward; `moving_variance` as the network's option of that name.
void train_once(const Case& c, const std::string& moving_variance) {
    const auto network = network_of(c, moving_variance);
    quantize_as(c, *network);
    const Case input = c.at("../../input");
    Tape tape;
    Context context{tape};
    context.training = true;
    const Var logits = (*network)(context, tape.constant(input.tensor("x")));
    const Var loss = ops::reduce_mean(ops::cross_entropy(logits, input.tensor("label", DType::i32)));
    tape.backward(loss);
    std::map<std::string, Parameter*> parameters;
    for (auto& [path, parameter] : network->named_parameters()) parameters[path] = parameter;
    std::map<std::string, Tensor*> buffers;
    for (auto& [path, buffer] : network->named_buffers()) buffers[path] = buffer;
    const bool biased = moving_variance == "biased";
    if (!biased) {
        expect_close("loss", loss.value().item(), c.number("loss"), output_tolerance);
        expect_close("softmax", softmax_of(logits.value()), c.tensor("softmax"), output_tolerance);
    }
    for (const std::string& full : c.file().datasets(c.path())) {
        std::string name = full.substr(full.rfind('/') + 1);
        if (name == "softmax") continue;
        const bool of_biased = name.ends_with("_biased");
        if (of_biased != biased) continue;
        const Tensor want = c.file().read(full);
        const std::string whole = name;
        if (of_biased) name.resize(name.size() - std::string_view("_biased").size());
        if (name.starts_with("grad_")) {
            const std::size_t last = name.rfind('_');
            const std::string path = name.substr(5, last - 5) + "." + engine_name(name.substr(last + 1));
            require(parameters.contains(path), whole, ": the network has no ", path);
            expect_close(whole, rearranged(parameters[path]->grad, true), want, gradient_tolerance);
        } else {
            const std::size_t moving = name.rfind("_moving_");
            require(name.starts_with("upd_") && moving != std::string::npos, "unknown dataset ", whole);
            const std::string path = name.substr(4, moving - 4) + "." + engine_name(name.substr(moving + 1));
            require(buffers.contains(path), whole, ": the network has no ", path);
            expect_close(whole, *buffers[path], want, output_tolerance);
        }
    }
}

void train_step(const Case& c) {
    train_once(c, "keras_fused");
    train_once(c, "biased");
}

std::vector<std::int64_t> integers_in(const Case& c, const std::string& attribute, std::vector<std::int64_t> fallback) {
    if (!c.given(attribute)) return fallback;
    const nlohmann::json list = nlohmann::json::parse(c.text(attribute), nullptr, false);
    require(list.is_array(), attribute, " is no list: ", c.text(attribute));
    return list.get<std::vector<std::int64_t>>();
}

void flops(const Case& c) {
    ModelOptions options;
    options.name = "svhn_cnn";
    options.filters = integers_in(c, "filters", {16, 16, 24});
    const std::size_t n = options.filters.size();
    options.kernels = integers_in(c, "kernel", std::vector<std::int64_t>(n, 3));
    options.strides = integers_in(c, "strides", std::vector<std::int64_t>(n, 1));
    options.pooling = integers_in(c, "pooling", std::vector<std::int64_t>(n, 2));
    options.dense_units = integers_in(c, "dense", {42, 64});
    const auto network = make_model(options);
    const auto layers = cost::count_flops(cost::describe_network(*network, resolve(options).input), cost::FlopRule::by_name);
    std::vector<std::string> names;
    if (c.given("layers")) names = nlohmann::json::parse(c.text("layers")).get<std::vector<std::string>>();
    std::vector<double> count, weights;
    for (std::size_t i = 0; i < layers.size(); ++i) {
        if (!names.empty()) expect_equal(cat("layer ", i), layers[i].name, i < names.size() ? names[i] : "");
        count.push_back(static_cast<double>(layers[i].flops));
        weights.push_back(static_cast<double>(layers[i].weights));
    }
    const Shape shape{static_cast<std::int64_t>(layers.size())};
    expect_equal("flops", Tensor::from(shape, count), c.tensor("flops", DType::f64));
    expect_equal("weights", Tensor::from(shape, weights), c.tensor("weights", DType::f64));
}

}  // namespace

void add_qkeras_svhn(Families& families) {
    families.add("svhn/kfold", kfold);
    families.add("svhn/kfold_sizes", kfold_sizes);
    families.add("svhn/flops/*", flops);
    families.add_data("svhn/model/weights");
    families.add_data("svhn/model/input");
    families.add("svhn/model/inference/*", inference);
    families.add("svhn/model/train_step/*", train_step);
}

}  // namespace bitloom::golden
