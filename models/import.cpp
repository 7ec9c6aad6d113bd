#include "models/import.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "engine/io/checkpoint.h"
#include "engine/io/hdf5.h"
#include "models/keras_file.h"
#include "models/layers/convolution.h"
#include "models/layers/dense.h"
#include "models/layers/normalization.h"
#include "models/registry.h"
#include "ops/shaping.h"

namespace bitloom {

using namespace layers;

namespace {

bool is_code_of_kernel(const hdf5::File& file, const std::string& name) {
    return name.ends_with("/code") && file.has(name.substr(0, name.size() - 4) + "kernel");
}

/// Fills one network from one plain file and keeps account of what was used.
class PlainImport {
   public:
    PlainImport(const hdf5::File& file, WeightFile& result) : file_(file), result_(result) {
        for (std::string& name : file.datasets()) {
            if (name == "_names" || name == "__order__" || name.starts_with("v0/") || is_code_of_kernel(file, name))
                result_.ignored.push_back(std::move(name));
            else
                unused_.insert(std::move(name));
        }
        const bool keras =
            std::any_of(unused_.begin(), unused_.end(), [](const std::string& n) { return n.ends_with("/kernel"); });
        result_.format = keras ? WeightFormat::keras : WeightFormat::pytorch;
    }

    /// For a file of Keras' own: layers are found by their order.
    void match(Module& network) {
        const KerasFile keras = read_keras_file(file_);
        match_ = match_keras_layers(network, keras);
        result_.format = WeightFormat::keras_model;
        result_.layer_paths = match_.paths;
        if (keras.has_architecture) result_.keras_layers = keras.layers;
        for (const std::string& name : unused_) result_.ignored.push_back(name);
        unused_.clear();
        for (const auto& [use, name] : match_.datasets) {
            unused_.insert(name);
            std::erase(result_.ignored, name);
        }
    }

    void run(Module& network, const ModuleImport& first) {
        for (Module* module : network.modules()) {
            if (first) {
                const std::vector<std::string> used = first(*module, file_);
                for (const std::string& name : used) unused_.erase(name);
                if (!used.empty()) continue;
            }
            if (auto* dense = dynamic_cast<Dense*>(module))
                fill(*dense);
            else if (auto* transposed = dynamic_cast<ConvTranspose2d*>(module))
                fill(*transposed);
            else if (auto* convolution = dynamic_cast<Conv2d*>(module))
                fill(*convolution);
            else if (auto* norm = dynamic_cast<BatchNorm*>(module))
                fill(*norm);
        }
        require(unused_.empty(), file_.path(), ": dataset '", *unused_.begin(),
                "' belongs to no layer of this network");
    }

   private:
    bool keras() const { return result_.format != WeightFormat::pytorch; }

    /// `<layer>.<torch>` or `<layer>/<keras>`, or the dataset that a Keras file has for it.
    std::string name_of(const Module& layer, const char* torch_name, const char* keras_name) const {
        if (result_.format == WeightFormat::keras_model) {
            auto found = match_.datasets.find({&layer, keras_name});
            if (found == match_.datasets.end()) found = match_.datasets.find({&layer, "pointwise_kernel"});
            return found->second;
        }
        return keras() ? layer.path() + "/" + keras_name : layer.path() + "." + torch_name;
    }

    void check_shape(const std::string& name, const Shape& wanted) const {
        require(file_.has(name), file_.path(), ": no dataset '", name, "', which the network needs");
        const Shape found = file_.shape(name);
        require(found == wanted, file_.path(), ": dataset '", name, "' has shape ", found, ", the network needs ",
                wanted);
    }

    Tensor read(const std::string& name, const Shape& wanted) {
        check_shape(name, wanted);
        unused_.erase(name);
        const Tensor value = file_.read(name);
        const auto mask = match_.masks.find(name);
        if (mask == match_.masks.end()) return value;
        // What was pruned is zero whatever the kernel of the last step says.
        check_shape(mask->second, wanted);
        std::vector<float> values = value.values<float>();
        const std::vector<float> kept = file_.read(mask->second).values<float>();
        for (std::size_t i = 0; i < values.size(); ++i) values[i] = kept[i] == 0 ? 0.0F : values[i];
        return Tensor::from(wanted, values);
    }

    /// value = scale (code / (2^n - 1)), float32, in this order.
    Tensor read_coded(const std::string& code_name, const std::string& scale_name, const Shape& wanted) {
        check_shape(code_name, wanted);
        require(file_.has(scale_name), file_.path(), ": '", code_name, "' has no scale '", scale_name, "'");
        require(file_.has_attribute(code_name, "n"), file_.path(), ": '", code_name, "' has no attribute n (bits)");
        const std::vector<double> n = file_.attribute_f64(code_name, "n");
        require(n.size() == 1, file_.path(), ": '", code_name, "' has ", n.size(), " values in its attribute n, not one");
        const double bits = n[0];
        require(bits >= 1 && bits <= 16, file_.path(), ": '", code_name, "' has ", bits, " bits");
        const std::int64_t top = (std::int64_t{1} << static_cast<int>(bits)) - 1;
        const float scale = static_cast<float>(file_.read(scale_name).item());
        const std::vector<std::int64_t> codes = file_.read_i64(code_name);
        std::vector<float> values(codes.size());
        for (std::size_t i = 0; i < codes.size(); ++i) {
            require(codes[i] >= -top && codes[i] <= top, file_.path(), ": '", code_name, "' holds code ", codes[i], ", beyond ",
                    top);
            values[i] = scale * (static_cast<float>(codes[i]) / static_cast<float>(top));
        }
        unused_.erase(code_name);
        unused_.erase(scale_name);
        return Tensor::from(wanted, values);
    }

    void put(Tensor& target, const Tensor& value, const std::string& name) const {
        const std::vector<float> values = value.values<float>();
        require(std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); }), file_.path(),
                ": dataset '", name, "' holds values that are not finite");
        target.copy_from(value.reshape(target.shape()));
    }

    Tensor read_weight(const Module& layer, const char* keras_name, const Shape& wanted) {
        const std::string code = layer.path() + ".code";
        if (!keras() && file_.has(code)) return read_coded(code, layer.path() + ".scale", wanted);
        return read(name_of(layer, "weight", keras_name), wanted);
    }

    void fill_bias(const Module& layer, Parameter& bias) {
        if (!bias.value.defined()) return;
        const std::string code = layer.path() + ".biascode";
        const bool coded = !keras() && file_.has(code);
        const std::string name = coded ? code : name_of(layer, "bias", "bias");
        put(bias.value,
            coded ? read_coded(code, layer.path() + ".biasscale", bias.value.shape()) : read(name, bias.value.shape()),
            name);
    }

    void fill(Dense& layer) {
        const std::int64_t out = layer.config().out, in = layer.config().in;
        Tensor weight = read_weight(layer, "kernel", keras() ? Shape{in, out} : Shape{out, in});
        if (keras())
            weight = ops::transposed(weight, {1, 0});
        else if (const Shape& map = layer.config().flattened_from; map.rank() == 3)
            weight = ops::transposed(weight.reshape({out, map[2], map[0], map[1]}), {0, 2, 3, 1});
        put(layer.weight.value, weight, layer.weight.path);
        fill_bias(layer, layer.bias);
    }

    void fill(Conv2d& layer) {
        const Conv2dConfig& c = layer.config();
        const std::int64_t h = c.kernel.h, w = c.kernel.w, depth = c.in / c.groups;
        Tensor weight;
        if (!keras()) {
            weight = ops::transposed(read_weight(layer, "", {c.out, depth, h, w}), {0, 2, 3, 1});
        } else if (layer.layer_type() == LayerType::depthwise_conv2d) {
            weight = ops::transposed(read_weight(layer, "depthwise_kernel", {h, w, c.in, c.out / c.in}), {2, 3, 0, 1});
        } else {
            weight = ops::transposed(read_weight(layer, "kernel", {h, w, depth, c.out}), {3, 0, 1, 2});
        }
        put(layer.weight.value, weight, layer.weight.path);
        fill_bias(layer, layer.bias);
    }

    void fill(ConvTranspose2d& layer) {
        const ConvTranspose2dConfig& c = layer.config();
        const std::int64_t h = c.kernel.h, w = c.kernel.w, depth = c.out / c.groups;
        const Tensor weight = keras() ? ops::transposed(read_weight(layer, "kernel", {h, w, depth, c.in}), {3, 0, 1, 2})
                                      : ops::transposed(read_weight(layer, "", {c.in, depth, h, w}), {0, 2, 3, 1});
        put(layer.weight.value, weight, layer.weight.path);
        fill_bias(layer, layer.bias);
    }

    void fill(BatchNorm& layer) {
        const auto one = [&](Tensor& target, const char* torch_name, const char* keras_name) {
            const std::string name = name_of(layer, torch_name, keras_name);
            put(target, read(name, target.shape()), name);
        };
        one(layer.weight.value, "weight", "gamma");
        one(layer.bias.value, "bias", "beta");
        one(layer.running_mean, "running_mean", "moving_mean");
        one(layer.running_var, "running_var", "moving_variance");
        const std::vector<float> variances = layer.running_var.values<float>();
        require(std::all_of(variances.begin(), variances.end(), [](float v) { return v >= 0; }), file_.path(),
                ": a moving variance of '", layer.path(), "' is negative");
        layer.num_batches_tracked.fill(0);
        const std::string counter = layer.path() + ".num_batches_tracked";
        if (keras() || !file_.has(counter)) return;
        const std::vector<std::int64_t> count = file_.read_i64(counter);
        require(count.size() == 1, file_.path(), ": dataset '", counter, "' holds ", count.size(),
                " values instead of one");
        layer.num_batches_tracked.fill(static_cast<double>(count[0]));
        unused_.erase(counter);
    }

    const hdf5::File& file_;
    WeightFile& result_;
    std::set<std::string> unused_;
    KerasMatch match_;
};

std::vector<float> root_numbers(const hdf5::File& file, const char* name) {
    if (!file.has_attribute("", name)) return {};
    const std::vector<double> values = file.attribute_f64("", name);
    return {values.begin(), values.end()};
}

WeightFile load_from_checkpoint(Module& network, const Checkpoint& checkpoint, const std::string& path) {
    try {
        restore(network, checkpoint);
    } catch (const Error& error) {
        fail(path, ": ", error.what());
    }
    WeightFile result;
    result.config = checkpoint.config;
    return result;
}

/// What a plain file tells of a ResNet: its shortcut by the names, its classes by the last layer.
ModelOptions with_resnet_traits(ModelOptions options, const hdf5::File& file) {
    bool a = false, b = false;
    for (const std::string& name : file.datasets()) {
        a = a || name.starts_with("linear.");
        b = b || name.starts_with("fc.") || name.find(".downsample.") != std::string::npos;
    }
    require(a != b, file.path(),
            ": cannot tell the ResNet's variant (names with 'linear': A; 'downsample' and 'fc': B)");
    const std::string found = a ? "A" : "B";
    require(options.variant.empty() || options.variant == found, file.path(), ": holds a ResNet of variant ", found,
            ", not ", options.variant);
    options.variant = found;
    const std::string last = a ? "linear.weight" : file.has("fc.code") ? "fc.code" : "fc.weight";
    if (options.classes == 0 && file.has(last) && file.shape(last).rank() == 2) options.classes = file.shape(last)[0];
    return options;
}

ModelOptions with_traits(const ModelOptions& options, const hdf5::File& file) {
    if (options.name.starts_with("resnet")) return with_resnet_traits(options, file);
    if (options.name == "svhn_cnn" && is_keras_file(file)) return with_svhn_traits(options, read_keras_file(file), file);
    return options;
}

}  // namespace

WeightFile load_plain_weights(Module& network, const hdf5::File& file, const ModuleImport& first) {
    WeightFile result;
    PlainImport import(file, result);
    if (is_keras_file(file)) import.match(network);
    import.run(network, first);
    result.mean_rgb = root_numbers(file, "mean_rgb");
    result.std_rgb = root_numbers(file, "std_rgb");
    require(result.mean_rgb.size() == result.std_rgb.size(), file.path(), ": mean_rgb and std_rgb differ in length");
    return result;
}

WeightFile load_weights(Module& network, const std::string& path) {
    if (is_checkpoint(path)) return load_from_checkpoint(network, load_checkpoint(path), path);
    return load_plain_weights(network, hdf5::File::open(path));
}

LoadedModel load_model(const ModelOptions& options, const std::string& path) {
    LoadedModel loaded;
    if (is_checkpoint(path)) {
        const Checkpoint checkpoint = load_checkpoint(path);
        loaded.options = model_options_from_json(checkpoint.model);
        require(options.name.empty() || options.name == loaded.options.name, path, ": is a checkpoint of '",
                loaded.options.name, "', not of '", options.name, "'");
        require(options.variant.empty() || options.variant == loaded.options.variant, path, ": holds variant ",
                loaded.options.variant, ", not ", options.variant);
        loaded.network = make_model(loaded.options);
        loaded.file = load_from_checkpoint(*loaded.network, checkpoint, path);
        return loaded;
    }
    if (options.name.empty()) throw UsageError(cat(path, ": is no bitloom checkpoint; name the model"));
    const hdf5::File file = hdf5::File::open(path);
    loaded.options = resolve(with_traits(options, file));
    loaded.network = make_model(loaded.options);
    loaded.file = load_plain_weights(*loaded.network, file);
    return loaded;
}

}  // namespace bitloom
