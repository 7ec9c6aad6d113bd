#include "quant/bsq/files.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>

#include "engine/io/checkpoint.h"
#include "models/layers/convolution.h"
#include "models/layers/dense.h"
#include "models/layers/normalization.h"
#include "ops/shaping.h"
#include "quant/bsq/activation.h"

namespace bitloom::bsq {

namespace {

const char* const names_of_representations[] = {"floating", "bits", "fixed"};

/// [out, h, w, in] where the two layouts differ, rank 0 where they agree.
Shape map_of(const Module& layer, const Shape& weight) {
    if (weight.rank() == 4) return weight;
    const auto* dense = dynamic_cast<const layers::Dense*>(&layer);
    if (!dense || dense->config().flattened_from.rank() != 3) return {};
    const Shape& map = dense->config().flattened_from;
    return {weight[0], map[0], map[1], map[2]};
}

Tensor bit(const Tensor& planes, int b, int sign, const Shape& shape) {
    return planes.rows(b, 1).reshape({2, shape.numel()}).rows(sign, 1).reshape(shape);
}

void require_finite(const std::string& what, const Tensor& tensor) {
    const std::vector<float> values = tensor.values<float>();
    require(std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); }), what,
            " holds values that are not finite");
}

/// Reads the bit layers of one file.
class BitImport {
   public:
    BitImport(const hdf5::File& file, BitNetwork& network, const PrecisionTable& table)
        : file_(file), network_(network), table_(table) {}

    /// The datasets that it took for this module.
    std::vector<std::string> operator()(Module& module) {
        used_.clear();
        if (auto* activation = dynamic_cast<BsqActivation*>(module.activation_transform.get()))
            read_alpha(module, *activation);
        for (const BitLayer& layer : network_.layers())
            if (layer.module == &module) read_layer(layer);
        return std::move(used_);
    }

   private:
    bool has(const std::string& name) const { return file_.has(name); }
    Tensor take(const std::string& name) {
        require(has(name), file_.path(), ": no dataset '", name, "', which its bit planes need");
        used_.push_back(name);
        Tensor value = file_.read(name);
        require_finite(cat(file_.path(), ": dataset '", name, "'"), value);
        return value;
    }
    float take_scale(const std::string& name) {
        const Tensor value = take(name);
        require(value.numel() == 1, file_.path(), ": dataset '", name, "' holds ", value.numel(), " values, not one");
        return static_cast<float>(value.item());
    }

    void read_alpha(Module& module, BsqActivation& activation) {
        const std::string name = module.path() + ".alpha";
        if (activation.rule().kind != ActivationKind::pact || !has(name)) return;
        activation.alpha().value.fill(static_cast<double>(take_scale(name)));
    }

    void read_layer(const BitLayer& layer) {
        const std::string& path = layer.path;
        const std::string coded = layer.shortcut && has("v0/" + path + ".code") ? "v0/" + path : path;
        if (has(path + ".pweight")) {
            read_planes(*layer.weight, layer.module, path + ".pweight", path + ".nweight", path + ".scale");
            if (layer.bias) read_planes(*layer.bias, nullptr, path + ".pbias", path + ".nbias", path + ".biasscale");
        } else if (has(coded + ".code")) {
            read_codes(*layer.weight, layer.module, coded + ".code", coded + ".scale");
            if (layer.bias) read_codes(*layer.bias, nullptr, coded + ".biascode", coded + ".biasscale");
            if (coded != path) used_.push_back(path + ".weight");
        } else if (has(path + ".scale") && has(path + ".weight")) {
            read_fixed(layer);
        }
    }

    void check_shape(const std::string& name, const Shape& found, const Shape& wanted) const {
        require(found == wanted, file_.path(), ": dataset '", name, "' has shape ", found, ", the network needs ", wanted);
    }

    void read_planes(BitWeight& tensor, const Module* layer, const std::string& positive, const std::string& negative,
                     const std::string& scale) {
        const Tensor p = take(positive), n = take(negative);
        check_shape(negative, n.shape(), p.shape());
        const int bits = p.rank() > 0 ? static_cast<int>(p.dim(-1)) : 0;
        require(bits >= 1 && bits <= max_bits, file_.path(), ": dataset '", positive, "' has ", bits, " planes");
        Shape wanted = file_shape(tensor, layer);
        wanted.append(bits);
        check_shape(positive, p.shape(), wanted);
        for (const auto& [name, values] : {std::pair{&positive, &p}, std::pair{&negative, &n}}) {
            const float* v = values->read<float>();
            require(std::all_of(v, v + values->numel(), [](float x) { return x >= 0 && x <= 2; }), file_.path(),
                    ": dataset '", *name, "' holds values outside [0, 2], which are no bits");
        }
        tensor.set({planes_from_file(layer, p, n), take_scale(scale), false});
    }

    void read_codes(BitWeight& tensor, const Module* layer, const std::string& code, const std::string& scale) {
        require(has(code), file_.path(), ": no dataset '", code, "', which its bit planes need");
        require(file_.has_attribute(code, "n"), file_.path(), ": '", code, "' has no attribute n (bits)");
        const std::vector<double> n = file_.attribute_f64(code, "n");
        require(n.size() == 1, file_.path(), ": '", code, "' has ", n.size(), " values in its attribute n, not one");
        const double bits = n[0];
        require(bits >= 1 && bits <= max_bits && bits == std::floor(bits), file_.path(), ": '", code, "' has ", bits,
                " bits");
        check_shape(code, file_.shape(code), file_shape(tensor, layer));
        used_.push_back(code);
        const Tensor values = file_.read(code);
        const std::vector<float> codes = (layer ? from_file_layout(*layer, values) : values).values<float>();
        require(std::all_of(codes.begin(), codes.end(), [=](float c) { return std::abs(c) < std::exp2(bits); }), file_.path(),
                ": dataset '", code, "' holds codes of more than ", bits, " bits");
        tensor.set(from_codes({codes.begin(), codes.end()}, tensor.shape(), take_scale(scale), static_cast<int>(bits)));
    }

    void read_fixed(const BitLayer& layer) {
        const auto entry =
            std::find_if(table_.begin(), table_.end(), [&](const auto& e) { return e.first == layer.path; });
        require(entry != table_.end(), file_.path(), ": holds fixed-precision weights, but its table has no entry for '",
                layer.path, "'");
        const auto read = [&](BitWeight& tensor, const Module* module, const std::string& name, const std::string& scale,
                              int bits) {
            const Tensor values = take(name);
            check_shape(name, values.shape(), file_shape(tensor, module));
            tensor.set_fixed(module ? from_file_layout(*module, values) : values, take_scale(scale), bits);
        };
        read(*layer.weight, layer.module, layer.path + ".weight", layer.path + ".scale", entry->second[0]);
        if (layer.bias)
            read(*layer.bias, nullptr, layer.path + ".bias", layer.path + ".biasscale", entry->second[1]);
    }

    static Shape file_shape(const BitWeight& tensor, const Module* layer) {
        const Shape& shape = tensor.shape();
        if (!layer || shape.rank() != 4) return shape;
        return {shape[0], shape[3], shape[1], shape[2]};
    }

    const hdf5::File& file_;
    BitNetwork& network_;
    const PrecisionTable& table_;
    std::vector<std::string> used_;
};

void write_tensor(hdf5::File& file, const BitLayer& layer, BitWeight& tensor, bool bias) {
    const std::string name = layer.path + (bias ? ".bias" : ".weight");
    const Module* module = bias ? nullptr : layer.module;
    const Tensor value = tensor.parameter().value.to(cpu_device);
    switch (tensor.representation()) {
        case Representation::floating:
            file.write(name, module ? to_file_layout(*module, value) : value);
            return;
        case Representation::fixed:
            file.write(name, module ? to_file_layout(*module, value) : value);
            break;
        case Representation::bits: {
            const auto [positive, negative] = planes_to_file(module, tensor.planes().value.to(cpu_device));
            file.write(layer.path + (bias ? ".pbias" : ".pweight"), positive);
            file.write(layer.path + (bias ? ".nbias" : ".nweight"), negative);
            break;
        }
    }
    file.write(layer.path + (bias ? ".biasscale" : ".scale"), tensor.scale().value.to(cpu_device));
}

void write_module(hdf5::File& file, Module& module) {
    const auto put = [&](const std::string& name, const Tensor& tensor) {
        if (tensor.defined()) file.write(module.path() + "." + name, tensor.to(cpu_device));
    };
    const auto put_layer = [&](const Parameter& weight, const Parameter& bias) {
        put("weight", to_file_layout(module, weight.value.to(cpu_device)));
        put("bias", bias.value);
    };
    if (auto* norm = dynamic_cast<layers::BatchNorm*>(&module)) {
        put("weight", norm->weight.value);
        put("bias", norm->bias.value);
        put("running_mean", norm->running_mean);
        put("running_var", norm->running_var);
        put("num_batches_tracked", norm->num_batches_tracked);
    } else if (auto* dense = dynamic_cast<layers::Dense*>(&module)) {
        put_layer(dense->weight, dense->bias);
    } else if (auto* convolution = dynamic_cast<layers::Conv2d*>(&module)) {
        put_layer(convolution->weight, convolution->bias);
    } else if (auto* transposed = dynamic_cast<layers::ConvTranspose2d*>(&module)) {
        put_layer(transposed->weight, transposed->bias);
    } else if (auto* activation = dynamic_cast<BsqActivation*>(module.activation_transform.get())) {
        put("alpha", activation->alpha().value);
    }
}

/// The precision table of a file in bits says how many planes its layers have.
void require_planes_of(const PrecisionTable& table, const BitNetwork& network) {
    for (const auto& [path, bits] : table)
        for (const BitLayer& layer : network.layers()) {
            if (layer.path != path) continue;
            for (const auto& [tensor, wanted] : {std::pair{layer.weight, bits[0]}, std::pair{layer.bias, bits[1]}})
                require(!tensor || tensor->representation() != Representation::bits || tensor->bits() == wanted,
                        "its precision table says ", wanted, " bits of '", tensor ? tensor->parameter().path : path, "', there are ",
                        tensor ? tensor->bits() : 0, " planes");
        }
}

NetworkFile header_of(const hdf5::File& file) {
    NetworkFile header;
    for (const std::string& name : file.datasets()) {
        if (name.starts_with("v0/")) continue;
        if (name.ends_with(".pweight") || name.ends_with(".code"))
            header.representation = Representation::bits;
        else if (name.ends_with(".scale") && file.has(name.substr(0, name.size() - 6) + ".weight"))
            header.representation = Representation::fixed;
    }
    if (file.has_attribute("", "Nbit_dict"))
        header.table = precision_table_from_json(file.attribute_string("", "Nbit_dict"));
    const auto number = [&](const char* name) {
        if (!file.has_attribute("", name) || file.attribute_is_text("", name)) return 0.0;
        const std::vector<double> values = file.attribute_f64("", name);
        return values.size() == 1 && std::isfinite(values[0]) ? values[0] : 0.0;
    };
    if (file.has_attribute("", "model")) header.info.model = file.attribute_string("", "model");
    header.info.epoch = static_cast<std::int64_t>(std::clamp(number("epoch"), 0.0, 1e15));
    header.info.accuracy = number("acc");
    header.info.best_accuracy = number("best_acc");
    return header;
}

}  // namespace

Tensor to_file_layout(const Module& layer, const Tensor& weight) {
    const Shape map = map_of(layer, weight.shape());
    if (map.rank() == 0) return weight;
    const Tensor moved = ops::transposed(weight.reshape(map), {0, 3, 1, 2});
    return weight.rank() == 4 ? moved : moved.reshape(weight.shape());
}

Tensor from_file_layout(const Module& layer, const Tensor& weight) {
    if (weight.rank() == 4) return ops::transposed(weight, {0, 2, 3, 1});
    const Shape map = map_of(layer, weight.shape());
    if (map.rank() == 0) return weight;
    return ops::transposed(weight.reshape({map[0], map[3], map[1], map[2]}), {0, 2, 3, 1}).reshape(weight.shape());
}

Tensor planes_from_file(const Module* layer, const Tensor& positive, const Tensor& negative) {
    const auto bits = static_cast<int>(positive.dim(-1));
    Shape file_shape;
    for (int axis = 0; axis + 1 < positive.rank(); ++axis) file_shape.append(positive.dim(axis));
    const std::int64_t count = file_shape.numel();
    Tensor planes;
    for (int b = 0; b < bits; ++b) {
        for (int sign = 0; sign < 2; ++sign) {
            Tensor plane = Tensor::empty(file_shape);
            const float* source = (sign == 0 ? positive : negative).read<float>();
            float* target = plane.write<float>();
            for (std::int64_t i = 0; i < count; ++i) target[i] = source[i * bits + b];
            if (layer) plane = from_file_layout(*layer, plane);
            if (!planes.defined()) {
                Shape shape{bits, 2};
                for (const std::int64_t extent : plane.shape()) shape.append(extent);
                planes = Tensor::empty(shape);
            }
            std::copy_n(plane.read<float>(), count, planes.write<float>() + (2 * b + sign) * count);
        }
    }
    return planes;
}

std::array<Tensor, 2> planes_to_file(const Module* layer, const Tensor& planes) {
    const auto bits = static_cast<int>(planes.dim(0));
    Shape shape;
    for (int axis = 2; axis < planes.rank(); ++axis) shape.append(planes.dim(axis));
    std::array<Tensor, 2> files;
    for (int b = 0; b < bits; ++b) {
        for (std::size_t sign = 0; sign < 2; ++sign) {
            Tensor plane = bit(planes, b, static_cast<int>(sign), shape);
            if (layer) plane = to_file_layout(*layer, plane);
            if (!files[sign].defined()) {
                Shape extended = plane.shape();
                extended.append(bits);
                files[sign] = Tensor::empty(extended);
            }
            const float* source = plane.read<float>();
            float* target = files[sign].write<float>();
            for (std::int64_t i = 0; i < plane.numel(); ++i) target[i * bits + b] = source[i];
        }
    }
    return files;
}

void write_network(const std::string& path, BitNetwork& network, const FileInfo& info) {
    hdf5::File file = hdf5::File::create(path);
    for (Module* module : network.network().modules()) {
        const auto& layers = network.layers();
        const auto layer = std::find_if(layers.begin(), layers.end(), [&](const BitLayer& l) { return l.module == module; });
        if (layer == layers.end()) {
            write_module(file, *module);
            continue;
        }
        write_tensor(file, *layer, *layer->weight, false);
        if (layer->bias) write_tensor(file, *layer, *layer->bias, true);
    }
    file.write_attribute("", "Nbit_dict", to_json(network.table()));
    file.write_attribute("", "representation",
                         std::string(names_of_representations[static_cast<int>(network.representation())]));
    if (!info.model.empty()) file.write_attribute("", "model", info.model);
    file.write_attribute_i64("", "epoch", info.epoch);
    file.write_attribute("", "acc", info.accuracy);
    file.write_attribute("", "best_acc", info.best_accuracy);
    const Normalization& n = info.normalization;
    if (!n.mean.empty() && n.mean.size() == n.std.size() && n.mean.size() <= 4) {
        file.write_attribute("", "mean_rgb", std::vector<double>(n.mean.begin(), n.mean.end()));
        file.write_attribute("", "std_rgb", std::vector<double>(n.std.begin(), n.std.end()));
    }
    file.close();
}

NetworkFile read_header(const std::string& path) {
    if (!is_checkpoint(path)) return header_of(hdf5::File::open(path));
    NetworkFile header;
    header.info.model = load_checkpoint(path).model;
    return header;
}

namespace {

/// The bounds of PACT that a floating-point network does not have yet keep their values.
NetworkFile read_checkpoint(const std::string& path, Module& network) {
    Checkpoint checkpoint = load_checkpoint(path);
    std::set<std::string_view> present;
    for (const auto& [name, tensor] : checkpoint.parameters) present.insert(name);
    decltype(checkpoint.parameters) missing;
    for (const auto& [name, parameter] : network.named_parameters())
        if (name.ends_with(".pact.alpha") && !present.contains(name)) missing.emplace_back(name, parameter->value);
    checkpoint.parameters.insert(checkpoint.parameters.end(), missing.begin(), missing.end());
    try {
        restore(network, checkpoint);
    } catch (const Error& error) {
        fail(path, ": ", error.what());
    }
    NetworkFile header;
    header.info.model = checkpoint.model;
    return header;
}

}  // namespace

NetworkFile read_network(const std::string& path, BitNetwork& network) {
    if (is_checkpoint(path)) return read_checkpoint(path, network.network());
    const hdf5::File file = hdf5::File::open(path);
    NetworkFile header = header_of(file);
    require(header.representation != Representation::floating || network.representation() == Representation::floating, path,
            ": holds floating-point weights, the network is in bits already");
    BitImport import(file, network, header.table);
    load_plain_weights(network.network(), file,
                       [&](Module& module, const hdf5::File&) { return import(module); });
    try {
        if (header.representation == Representation::bits) require_planes_of(header.table, network);
        if (header.representation == Representation::floating && !header.table.empty())
            network.set_precision(header.table);
    } catch (const Error& error) {
        fail(path, ": ", error.what());
    }
    return header;
}

}  // namespace bitloom::bsq
