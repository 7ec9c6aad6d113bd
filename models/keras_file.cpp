#include "models/keras_file.h"

#include <nlohmann/json.hpp>
#include <set>

#include "engine/error.h"
#include "engine/io/json_values.h"
#include "models/layers/convolution.h"
#include "models/layers/dense.h"
#include "models/layers/normalization.h"

namespace bitloom {

using namespace layers;

namespace {

using Json = nlohmann::json;

constexpr std::string_view pruning_prefix = "prune_low_magnitude_";

std::string without_prefix(const std::string& name) {
    return name.starts_with(pruning_prefix) ? name.substr(pruning_prefix.size()) : name;
}

/// Group of the layers: `model_weights` of a whole model, the root of a file of weights; none otherwise.
const char* group_of_layers(const hdf5::File& file) {
    const auto lists_layers = [&](const char* group) {
        return file.has_attribute(group, "layer_names") || file.has_attribute(group, "layer_names0");
    };
    if (lists_layers("")) return "";
    return file.has("model_weights") && lists_layers("model_weights") ? "model_weights" : nullptr;
}

/// A list of names, split or not. Keras writes an empty list as numbers.
std::vector<std::string> names_of(const hdf5::File& file, const std::string& object, const std::string& attribute) {
    const auto read = [&](const std::string& name) {
        if (file.attribute_is_text(object, name)) return file.attribute_strings(object, name);
        require(file.attribute_f64(object, name).empty(), file.path(), ": '", object, "': attribute '", name,
                "' holds numbers, not names");
        return std::vector<std::string>{};
    };
    if (file.has_attribute(object, attribute)) return read(attribute);
    require(file.has_attribute(object, attribute + "0"), file.path(), ": '", object, "' has no attribute '", attribute,
            "'");
    std::vector<std::string> all;
    for (int part = 0; file.has_attribute(object, cat(attribute, part)); ++part)
        for (std::string& name : read(cat(attribute, part))) all.push_back(std::move(name));
    return all;
}

/// "conv_0/kernel:0" -> "kernel".
std::string last_name(const std::string& weight) {
    const std::string last = weight.substr(weight.rfind('/') + 1);
    return last.substr(0, last.find(':'));
}

struct Architecture {
    std::string class_name, config;
};

/// Class and settings of each layer by name, wrappers taken off.
std::map<std::string, Architecture> read_architecture(const hdf5::File& file) {
    std::map<std::string, Architecture> found;
    try {
        const Json model = json_from_text<Json>(file.attribute_string("", "model_config"));
        const Json& config = model.at("config");
        for (const Json& layer : config.is_array() ? config : config.at("layers")) {
            const Json* inner = &layer;
            const auto name = layer.at("config").at("name").get<std::string>();
            if (layer.at("class_name") == "PruneLowMagnitude") inner = &layer.at("config").at("layer");
            found[without_prefix(name)] = {inner->at("class_name").get<std::string>(), inner->at("config").dump()};
        }
    } catch (const std::exception& error) {
        fail(file.path(), ": attribute 'model_config' is no description of a Keras model: ", error.what());
    }
    return found;
}

/// Weights that no layer of a network holds.
bool is_bookkeeping(const std::string& weight) {
    return weight == "mask" || weight == "threshold" || weight == "pruning_step" || weight == "iteration";
}

std::string described(const KerasLayer& layer) {
    std::string names;
    for (const auto& [name, dataset] : layer.weights)
        if (!is_bookkeeping(name)) names += (names.empty() ? "" : ", ") + name;
    return cat("'", layer.name, "' (", names, ")");
}

/// The layers that hold weights, one after the other, and of the present one what is still to be taken.
class Queue {
   public:
    explicit Queue(const KerasFile& file) : file_(file) {
        for (const KerasLayer& layer : file.layers)
            if (!layer.weights.empty()) layers_.push_back(&layer);
    }

    /// Whether the layer under way still has this weight to give.
    bool holds(const std::string& name) const { return rest_.contains(name); }

    /// The weights of `names` for a layer of the network.
    void take(const Module& module, const std::vector<std::string>& names, KerasMatch& match) {
        if (rest_.empty()) {
            require(next_ < layers_.size(), file_.path, ": has ", layers_.size(),
                    " layers with weights, the network more: nothing is left for '", module.path(), "'");
            layer_ = layers_[next_++];
            for (const auto& [name, dataset] : layer_->weights)
                if (!is_bookkeeping(name)) rest_.insert(name);
            match.paths[layer_->name] = module.path();
        }
        for (const std::string& name : names) {
            require(rest_.erase(name) == 1, file_.path, ": layer ", described(*layer_), " does not fit the network's '",
                    module.path(), "', which needs ", name);
            const std::string& dataset = layer_->weights.at(name);
            match.datasets[{&module, name}] = dataset;
            if (const auto mask = layer_->weights.find("mask"); mask != layer_->weights.end() && name == "kernel")
                match.masks[dataset] = mask->second;
        }
    }

    void finish() const {
        if (!rest_.empty())
            fail(file_.path, ": layer ", described(*layer_), " holds ", *rest_.begin(), ", which the network has not");
        if (next_ < layers_.size())
            fail(file_.path, ": layer ", described(*layers_[next_]), " belongs to no layer of the network");
    }

   private:
    const KerasFile& file_;
    std::vector<const KerasLayer*> layers_;
    std::size_t next_ = 0;
    const KerasLayer* layer_ = nullptr;
    std::set<std::string> rest_;
};

}  // namespace

bool is_keras_file(const hdf5::File& file) { return group_of_layers(file) != nullptr; }

KerasFile read_keras_file(const hdf5::File& file) {
    const char* root = group_of_layers(file);
    require(root != nullptr, file.path(), ": is no Keras file: it has no attribute 'layer_names'");
    KerasFile result;
    result.path = file.path();
    std::map<std::string, Architecture> architecture;
    if (file.has_attribute("", "model_config")) {
        architecture = read_architecture(file);
        result.has_architecture = true;
    }
    for (const std::string& name : names_of(file, root, "layer_names")) {
        const std::string group = *root ? cat(root, "/", name) : name;
        require(file.has(group), file.path(), ": no group '", group, "', which 'layer_names' lists");
        KerasLayer layer{.name = without_prefix(name), .class_name = {}, .config = {}, .weights = {}};
        if (const auto known = architecture.find(layer.name); known != architecture.end()) {
            layer.class_name = known->second.class_name;
            layer.config = known->second.config;
        }
        for (const std::string& weight : names_of(file, group, "weight_names")) {
            const std::string dataset = cat(group, "/", weight);
            require(file.has(dataset), file.path(), ": no dataset '", dataset, "', which 'weight_names' lists");
            require(layer.weights.emplace(last_name(weight), dataset).second, file.path(), ": layer '", name,
                    "' lists two weights '", last_name(weight), "'");
        }
        result.layers.push_back(std::move(layer));
    }
    return result;
}

KerasMatch match_keras_layers(Module& network, const KerasFile& file) {
    KerasMatch match;
    Queue queue(file);
    for (Module* module : network.modules()) {
        std::vector<std::string> names;
        if (auto* dense = dynamic_cast<Dense*>(module)) {
            names = {"kernel"};
            if (dense->bias.value.defined()) names.push_back("bias");
        } else if (auto* transposed = dynamic_cast<ConvTranspose2d*>(module)) {
            names = {"kernel"};
            if (transposed->bias.value.defined()) names.push_back("bias");
        } else if (auto* convolution = dynamic_cast<Conv2d*>(module)) {
            // Of a separable convolution, the pointwise part is what its layer still holds.
            const bool depthwise = convolution->layer_type() == LayerType::depthwise_conv2d;
            names = {depthwise ? "depthwise_kernel" : queue.holds("pointwise_kernel") ? "pointwise_kernel" : "kernel"};
            if (convolution->bias.value.defined()) names.push_back("bias");
        } else if (dynamic_cast<BatchNorm*>(module)) {
            names = {"gamma", "beta", "moving_mean", "moving_variance"};
        }
        if (!names.empty()) queue.take(*module, names, match);
    }
    queue.finish();
    return match;
}

ModelOptions with_svhn_traits(ModelOptions options, const KerasFile& keras, const hdf5::File& file) {
    ModelOptions found;
    for (const KerasLayer& layer : keras.layers) {
        const bool pooling = layer.class_name.ends_with("MaxPooling2D") || layer.class_name.ends_with("AveragePooling2D");
        try {
            const Json config = layer.config.empty() ? Json::object() : Json::parse(layer.config);
            // [null, height, width, channels]; height and width may be open too.
            if (const Json shape = config.value("batch_input_shape", Json()); shape.is_array() && shape.size() == 4 &&
                                                                              shape[1].is_number() && shape[2].is_number())
                found.input = {integer_from_json(shape[1]), integer_from_json(shape[2]), integer_from_json(shape[3])};
            if (pooling && !found.pooling.empty())
                found.pooling.back() = layer.class_name.ends_with("MaxPooling2D") ? integer_from_json(config.at("pool_size").at(0)) : 1;
            const auto kernel = layer.weights.find("kernel");
            if (kernel == layer.weights.end()) continue;
            const Shape shape = file.shape(kernel->second);
            if (shape.rank() == 4) {
                found.kernels.push_back(shape[0]);
                found.filters.push_back(shape[3]);
                if (!config.contains("strides")) continue;
                found.strides.push_back(integer_from_json(config["strides"].at(0)));
                found.pooling.push_back(0);
            } else if (shape.rank() == 2) {
                found.dense_units.push_back(shape[1]);
            }
        } catch (const std::exception& error) {
            fail(file.path(), ": the settings of layer '", layer.name, "' cannot be read: ", error.what());
        }
    }
    if (!found.dense_units.empty()) {
        found.classes = found.dense_units.back();
        found.dense_units.pop_back();
    }
    if (options.input.rank() == 0) options.input = found.input;
    if (options.classes == 0) options.classes = found.classes;
    for (auto member : {&ModelOptions::filters, &ModelOptions::kernels, &ModelOptions::strides, &ModelOptions::pooling,
                        &ModelOptions::dense_units})
        if ((options.*member).empty()) options.*member = found.*member;
    return options;
}

}  // namespace bitloom
