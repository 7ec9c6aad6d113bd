// svhn/*: the SVHN network, its folds and its flops.

#include <algorithm>
#include <cmath>
#include <functional>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>

#include "apps/golden/families.h"
#include "engine/data/kfold.h"
#include "models/registry.h"
#include "ops/loss.h"
#include "ops/pointwise.h"
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

/// Values that normalisations are to yield in place of their own, by path and index: of activations at a rounding's tie.
using Replaced = std::map<std::string, std::map<std::size_t, float>>;

/// Outputs of the named layers.
class Outputs final : public CallObserver {
   public:
    Outputs(Tape& tape, const Replaced& replaced) : tape_(tape), replaced_(replaced) {}
    void after_call(Module& module, std::span<const Var>, Var& output) override {
        if (const auto found = replaced_.find(module.path()); found != replaced_.end()) {
            Tensor shift = Tensor::zeros(output.shape());
            for (const auto& [index, value] : found->second)
                shift.write<float>()[index] = value - output.value().read<float>()[index];
            output = ops::add(output, tape_.constant(shift));
        }
        values[module.path()] = output.value();
    }
    std::map<std::string, Tensor> values;

   private:
    Tape& tape_;
    const Replaced& replaced_;
};

/// How far a run is from the file, and its first disagreement.
struct Agreement {
    double distance = 0;  ///< sum of differences in units of what is tolerated
    std::string failure;  ///< empty: none
    std::map<std::string, Tensor> normalized;  ///< outputs of the normalisations

    void add(const std::string& what, const Tensor& got, const Tensor& want, double tolerance) {
        try {
            expect_close(what, got, want, tolerance);
        } catch (const Error& error) {
            if (failure.empty()) failure = error.what();
        }
        if (got.numel() != want.numel()) return;
        const std::vector<double> g = got.values<double>(), w = want.values<double>();
        for (std::size_t i = 0; i < g.size(); ++i)
            distance += std::abs(g[i] - w[i]) / (tolerance * std::max(1.0, std::abs(w[i])));
    }
    void add(const std::string& what, double got, double want, double tolerance) {
        add(what, Tensor::from({1}, std::vector<double>{got}), Tensor::from({1}, std::vector<double>{want}), tolerance);
    }
    void take(Outputs& outputs) {
        for (auto& [path, value] : outputs.values)
            if (path.starts_with("batch_normalization_")) normalized[path] = value;
    }
};

/// Inputs of quantized_relu(bits, 0) that lie at a tie but for the error of a sum in single precision, and the nearest
/// value on the tie's other side.
std::map<std::size_t, float> other_side_of_ties(const Tensor& x, std::int64_t bits) {
    constexpr double error_of_a_sum = 3e-6;
    const double levels = std::ldexp(1.0, static_cast<int>(bits));
    std::map<std::size_t, float> found;
    const std::vector<float> values = x.values<float>();
    for (std::size_t i = 0; i < values.size(); ++i) {
        const double v = static_cast<double>(values[i]), code = v * levels, tie = std::floor(code) + 0.5;
        if (tie < 0 || tie > levels || std::abs(code - tie) > levels * error_of_a_sum * std::max(1.0, std::abs(v))) continue;
        const auto at = static_cast<float>(tie / levels);
        const bool rounded_up = std::nearbyint(code) > tie;
        found[i] = std::nextafter(at, rounded_up ? -1.0F : 2.0F * at + 1.0F);
    }
    return found;
}

/// Runs the case, and where a quantized network disagrees, again with single activations rounded to the other side of a tie:
/// a sum in another order puts them there, and one code more or less is seen far behind it. Those that bring the run nearer
/// to the file are kept, the ones that do most first; in the end all must agree.
void expect_agreement(const Case& c, const std::function<Agreement(const Replaced&)>& run) {
    constexpr int most_runs = 600;
    constexpr double worth_keeping = 0.98;  // of the distance before
    Replaced replaced;
    Agreement best = run(replaced);
    int runs = 0, kept = 0, kept_before = -1;
    while (!best.failure.empty() && c.given("bits") && kept > kept_before) {
        kept_before = kept;
        struct Candidate {
            double distance;
            std::string path;
            std::size_t index;
            float value;
        };
        std::vector<Candidate> candidates;
        for (const auto& [path, x] : best.normalized)
            for (const auto& [index, value] : other_side_of_ties(x, c.integer("bits"))) {
                if (replaced[path].contains(index) || ++runs > most_runs) continue;
                replaced[path][index] = value;
                const double distance = run(replaced).distance;
                replaced[path].erase(index);
                if (distance < best.distance) candidates.push_back({distance, path, index, value});
            }
        std::sort(candidates.begin(), candidates.end(), [](const Candidate& x, const Candidate& y) { return x.distance < y.distance; });
        for (const Candidate& candidate : candidates) {
            if (best.failure.empty()) break;
            replaced[candidate.path][candidate.index] = candidate.value;
            if (Agreement next = run(replaced); next.distance < worth_keeping * best.distance)
                best = std::move(next), ++kept;
            else
                replaced[candidate.path].erase(candidate.index);
        }
    }
    require(best.failure.empty(), best.failure);
    if (kept > 0)
        std::cout << "informative " << c.path() << ": agrees with " << kept << " activations rounded to the other side of a tie" << std::endl;
}

Tensor softmax_of(const Tensor& logits) {
    Tape tape(Tape::Mode::inference);
    return ops::softmax(tape.constant(logits)).value();
}

constexpr double output_tolerance = 1e-4, gradient_tolerance = 1e-3;

void inference(const Case& c) {
    const auto network = network_of(c, "keras_fused");
    quantize_as(c, *network);
    const Tensor x = c.at("../../input").tensor("x");
    expect_agreement(c, [&](const Replaced& replaced) {
        Tape tape(Tape::Mode::inference);
        Outputs outputs(tape, replaced);
        Context context{tape};
        context.observer = &outputs;
        const Tensor logits = (*network)(context, tape.constant(x)).value();
        outputs.values["output_softmax"] = softmax_of(logits);
        // Without anyone looking on, normalisations run fused with their activations: the same bits.
        context.observer = nullptr;
        if (replaced.empty()) expect_equal("logits of the fused pass", (*network)(context, tape.constant(x)).value(), logits);
        Agreement agreement;
        for (const std::string& name : c.file().datasets(c.path())) {
            const std::string layer = name.substr(name.rfind('/') + 1);
            require(outputs.values.contains(layer), "the network has no layer '", layer, "'");
            agreement.add(layer, outputs.values[layer], c.tensor(layer), output_tolerance);
        }
        agreement.take(outputs);
        return agreement;
    });
}

/// One step forward and backward; `moving_variance` as the network's option of that name.
void train_once(const Case& c, const std::string& moving_variance, const Replaced& replaced, Agreement& agreement) {
    const auto network = network_of(c, moving_variance);
    quantize_as(c, *network);
    const Case input = c.at("../../input");
    Tape tape;
    Outputs outputs(tape, replaced);
    Context context{tape};
    context.training = true;
    context.observer = &outputs;
    const Var logits = (*network)(context, tape.constant(input.tensor("x")));
    const Var loss = ops::reduce_mean(ops::cross_entropy(logits, input.tensor("label", DType::i32)));
    const double loss_value = loss.value().item();
    const Tensor softmax = softmax_of(logits.value());
    agreement.take(outputs);
    tape.backward(loss);
    std::map<std::string, Parameter*> parameters;
    for (auto& [path, parameter] : network->named_parameters()) parameters[path] = parameter;
    std::map<std::string, Tensor*> buffers;
    for (auto& [path, buffer] : network->named_buffers()) buffers[path] = buffer;
    const bool biased = moving_variance == "biased";
    if (!biased) {
        agreement.add("loss", loss_value, c.number("loss"), output_tolerance);
        agreement.add("softmax", softmax, c.tensor("softmax"), output_tolerance);
    }
    for (const std::string& full : c.file().datasets(c.path())) {
        std::string name = full.substr(full.rfind('/') + 1);
        if (name == "softmax") continue;
        const bool of_biased = name.ends_with("_biased");
        if (of_biased != biased) continue;
        const Tensor want = c.tensor(name);
        const std::string whole = name;
        if (of_biased) name.resize(name.size() - std::string_view("_biased").size());
        if (name.starts_with("grad_")) {
            const std::size_t last = name.rfind('_');
            const std::string path = name.substr(5, last - 5) + "." + engine_name(name.substr(last + 1));
            require(parameters.contains(path), whole, ": the network has no ", path);
            agreement.add(whole, rearranged(parameters[path]->grad, true), want, gradient_tolerance);
        } else {
            const std::size_t moving = name.rfind("_moving_");
            require(name.starts_with("upd_") && moving != std::string::npos, "unknown dataset ", whole);
            const std::string path = name.substr(4, moving - 4) + "." + engine_name(name.substr(moving + 1));
            require(buffers.contains(path), whole, ": the network has no ", path);
            agreement.add(whole, *buffers[path], want, output_tolerance);
        }
    }
}

void train_step(const Case& c) {
    expect_agreement(c, [&](const Replaced& replaced) {
        Agreement agreement;
        train_once(c, "keras_fused", replaced, agreement);
        train_once(c, "biased", replaced, agreement);
        return agreement;
    });
}

/// A list, or one integer for all of the fallback's places.
std::vector<std::int64_t> integers_in(const Case& c, const std::string& attribute, std::vector<std::int64_t> fallback) {
    if (!c.given(attribute)) return fallback;
    const nlohmann::json list = nlohmann::json::parse(c.text(attribute), nullptr, false);
    if (list.is_number_integer()) return std::vector<std::int64_t>(fallback.size(), list.get<std::int64_t>());
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
