#include "apps/plots/layer_values.h"

#include <algorithm>
#include <cctype>
#include <cmath>

#include "engine/error.h"
#include "models/layers/layer.h"
#include "quant/pruning/weight_mask.h"

namespace bitloom {
namespace {

std::vector<float> effective_values(Parameter& parameter) {
    Tape tape(Tape::Mode::inference);
    Context context{tape};
    return parameter.effective(context).value().values<float>();
}

/// A module's own parameters, without those of its transforms.
std::vector<std::pair<std::string, Parameter*>> own_parameters(Module& layer) {
    std::vector<std::pair<std::string, Parameter*>> own;
    if (!layer.is_leaf()) return own;
    for (auto& [name, parameter] : layer.named_parameters())
        if (name.find('.') == std::string::npos) own.emplace_back(name, parameter);
    return own;
}

bool is_of(const Module& module, layers::LayerType type) {
    const auto* layer = dynamic_cast<const layers::Layer*>(&module);
    return layer && layer->layer_type() == type;
}

/// Keeps what every layer gives, in the order of the calls.
class OutputCollector final : public CallObserver {
   public:
    void after_call(Module& module, std::span<const Var>, Var& output) override {
        auto found = std::find_if(outputs.begin(), outputs.end(), [&](const auto& o) { return o.first == &module; });
        if (found == outputs.end()) found = outputs.insert(outputs.end(), {&module, {}});
        const std::vector<float> values = output.value().values<float>();
        found->second.insert(found->second.end(), values.begin(), values.end());
        shapes.push_back({&module, output.shape()});
    }
    std::vector<std::pair<Module*, std::vector<float>>> outputs;
    std::vector<std::pair<Module*, Shape>> shapes;
};

void run(Module& network, const Tensor& images, CallObserver& observer) {
    Tape tape(Tape::Mode::inference);
    Context context{tape};
    context.observer = &observer;
    network(context, tape.constant(images));
}

/// The value a share q of the way, linear between neighbours; reorders the values.
double selected_quantile(std::vector<float>& values, double q) {
    const double position = q * static_cast<double>(values.size() - 1);
    const auto below = values.begin() + static_cast<std::ptrdiff_t>(position);
    std::nth_element(values.begin(), below, values.end());
    const double low = *below;
    if (below + 1 == values.end()) return low;
    const double high = *std::min_element(below + 1, values.end());
    return low + (position - std::floor(position)) * (high - low);
}

}  // namespace

std::string prettified(const std::string& layer, bool pruned) {
    std::string name = layer;
    bool begins = true;
    for (char& c : name) {
        if (c == '_' || c == '.') c = ' ';
        if (begins) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
        begins = c == ' ';
    }
    return pruned ? name + " (Pruned)" : name;
}

std::vector<LayerWeights> first_weights(Module& network) {
    std::vector<LayerWeights> layers;
    for (Module* module : network.modules()) {
        const auto own = own_parameters(*module);
        if (own.empty() || is_of(*module, layers::LayerType::batch_norm) ||
            module->path().find("batch") != std::string::npos)
            continue;
        Parameter& weight = *own.front().second;
        LayerWeights layer;
        layer.layer = module->path();
        layer.title = prettified(module->path(), quant::pruning::mask_of(weight) != nullptr);
        layer.stored = weight.value.values<float>();
        layer.effective = effective_values(weight);
        layers.push_back(std::move(layer));
    }
    return layers;
}

double share_of_zeros(const std::vector<float>& values) {
    if (values.empty()) return 0;
    return static_cast<double>(std::count(values.begin(), values.end(), 0.0f)) / static_cast<double>(values.size());
}

std::vector<std::int64_t> histogram(const std::vector<float>& values, const std::vector<double>& edges) {
    require(edges.size() >= 2, "histogram: needs two edges");
    std::vector<std::int64_t> counts(edges.size() - 1, 0);
    for (const double value : values) {
        if (!(value >= edges.front() && value <= edges.back())) continue;
        const auto above = std::upper_bound(edges.begin(), edges.end(), value);
        ++counts[above == edges.end() ? counts.size() - 1 : static_cast<std::size_t>(above - edges.begin()) - 1];
    }
    return counts;
}

std::vector<double> linspace(double first, double last, int points) {
    std::vector<double> values;
    for (int i = 0; i < points; ++i) values.push_back(first + (last - first) / (points - 1) * i);
    values.back() = last;
    return values;
}

Profile profile_of(std::string name, const std::vector<float>& values) {
    Profile profile;
    profile.name = std::move(name);
    profile.count = std::ssize(values);
    std::vector<float> magnitudes;
    magnitudes.reserve(values.size());
    for (const float value : values) {
        if (value == 0)
            ++profile.zeros;
        else if (std::isfinite(value))
            magnitudes.push_back(std::abs(value));
    }
    if (magnitudes.empty()) return profile;
    profile.least = selected_quantile(magnitudes, 0);
    profile.lower_quartile = selected_quantile(magnitudes, 0.25);
    profile.median = selected_quantile(magnitudes, 0.5);
    profile.upper_quartile = selected_quantile(magnitudes, 0.75);
    profile.largest = selected_quantile(magnitudes, 1);
    return profile;
}

std::vector<Profile> weight_profiles(Module& network) {
    std::vector<Profile> profiles;
    for (Module* module : network.modules())
        for (auto& [name, parameter] : own_parameters(*module))
            profiles.push_back(profile_of(module->path() + "/" + name, effective_values(*parameter)));
    return profiles;
}

std::vector<Profile> activation_profiles(Module& network, const Tensor& images, std::int64_t batch_size) {
    OutputCollector collector;
    for (std::int64_t first = 0; first < images.dim(0); first += batch_size)
        run(network, images.rows(first, std::min(batch_size, images.dim(0) - first)), collector);
    std::vector<Profile> profiles{profile_of("input", images.values<float>())};
    for (auto& [module, values] : collector.outputs) {
        profiles.push_back(profile_of(module->path(), values));
        values = {};
    }
    return profiles;
}

std::vector<FeatureMaps> convolution_outputs(Module& network, const Tensor& image) {
    OutputCollector collector;
    run(network, image, collector);
    std::vector<FeatureMaps> all;
    for (const auto& [module, shape] : collector.shapes) {
        if (!is_of(*module, layers::LayerType::conv2d)) continue;
        const auto same = [module = module](const auto& o) { return o.first == module; };
        all.push_back({module->path(), shape[1], shape[2], shape[3],
                       std::find_if(collector.outputs.begin(), collector.outputs.end(), same)->second});
    }
    return all;
}

}  // namespace bitloom
