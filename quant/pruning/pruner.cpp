#include "quant/pruning/pruner.h"

#include <algorithm>
#include <cstdio>

#include "engine/error.h"
#include "engine/io/flag_values.h"

namespace bitloom::quant::pruning {

namespace {

std::string own_name(const std::string& path) { return path.substr(path.rfind('.') + 1); }

bool contains(const std::vector<std::string>& names, const std::string& name) {
    return std::find(names.begin(), names.end(), name) != names.end();
}

/// The kernel of a layer; null where it has none.
Parameter* kernel_of(Module& layer) {
    for (const auto& [name, parameter] : layer.named_parameters())
        if (name == "weight" && parameter->value.rank() >= 2) return parameter;
    return nullptr;
}

struct Layer {
    std::string path;
    Parameter* kernel;
    bool chosen_by_default;  ///< a convolution that is not depthwise, or a dense layer
};

std::vector<Layer> layers_with_kernels(Module& network) {
    std::vector<Layer> found;
    for (Module* module : network.modules()) {
        if (!module->is_leaf()) continue;
        const std::string_view type = module->type();
        if (Parameter* kernel = kernel_of(*module))
            found.push_back({module->path(), kernel, type == "Conv2d" || type == "Dense"});
    }
    return found;
}

[[noreturn]] void no_such_layer(const std::string& name, const std::vector<Layer>& layers) {
    std::vector<std::string> known;
    for (const Layer& layer : layers) known.push_back(layer.path);
    const std::string guess = closest(name, known);
    throw UsageError(cat("pruning: the network has no layer ", in_quotes(name), " with a kernel",
                         guess.empty() ? "" : cat(" (did you mean ", guess, "?)")));
}

/// Names that the options use must be there; "output" is what the published program leaves out where it exists.
void check_names(const PruningOptions& options, const std::vector<Layer>& layers) {
    const auto known = [&](const std::string& name, bool own_names) {
        return std::any_of(layers.begin(), layers.end(), [&](const Layer& layer) {
            return layer.path == name || (own_names && own_name(layer.path) == name);
        });
    };
    for (const std::string& name : options.layers)
        if (!known(name, false)) no_such_layer(name, layers);
    for (const std::string& name : options.exclude)
        if (name != "output" && !known(name, true)) no_such_layer(name, layers);
    for (const auto& [name, layer_options] : options.overrides)
        if (!known(name, false)) no_such_layer(name, layers);
}

bool chosen(const PruningOptions& options, const Layer& layer) {
    if (!options.layers.empty()) return contains(options.layers, layer.path);
    return layer.chosen_by_default && !contains(options.exclude, layer.path) &&
           !contains(options.exclude, own_name(layer.path));
}

/// N:M keeps what it keeps at once.
SparsitySchedule schedule_of(const LayerOptions& options) {
    SparsitySchedule schedule = options.schedule;
    if (options.rule.granularity == Granularity::n_of_m) {
        schedule.kind = SparsitySchedule::Kind::constant;
        schedule.final_sparsity = schedule.initial_sparsity =
            1 - static_cast<double>(options.rule.keep) / static_cast<double>(options.rule.of);
    }
    return schedule;
}

template <class T>
std::int64_t count_zeros(const T* values, std::int64_t n) {
    return std::count(values, values + n, T(0));
}
std::int64_t count_zeros(const Tensor& tensor) {
    const Tensor host = tensor.device().is_host() ? tensor : tensor.to(cpu_device);
    return host.dtype() == DType::f64 ? count_zeros(host.read<double>(), host.numel())
                                      : count_zeros(host.read<float>(), host.numel());
}

}  // namespace

std::shared_ptr<Pruner> Pruner::attach(Module& network, PruningOptions options,
                                       std::function<void(const std::string&)> log) {
    const std::vector<Layer> layers = layers_with_kernels(network);
    check_names(options, layers);
    auto pruner = std::make_shared<Pruner>();
    for (const Layer& layer : layers) {
        if (!chosen(options, layer)) continue;
        if (mask_of(*layer.kernel)) throw UsageError(cat("pruning: ", layer.path, " is masked already"));
        LayerOptions own = options.all;
        for (const auto& [name, layer_options] : options.overrides)
            if (name == layer.path) own = layer_options;
        auto mask = std::make_shared<WeightMask>(layer.kernel->value, own.rule, options.gradient);
        layer.kernel->transforms.push_back(mask);
        pruner->sites_.push_back({layer.path, layer.kernel, std::move(mask), schedule_of(own)});
    }
    if (pruner->sites_.empty()) throw UsageError("pruning: the network has no layer to prune");
    pruner->options_ = std::move(options);
    pruner->log_ = std::move(log);
    return pruner;
}

void Pruner::step() {
    ++counter_;
    for (Site& site : sites_) {
        if (site.schedule.due(counter_)) site.mask->refresh(site.weight->value, site.schedule.sparsity(counter_));
        site.mask->mask_in_place(site.weight->value);
    }
}

void Pruner::apply_masks() {
    for (Site& site : sites_) site.mask->mask_in_place(site.weight->value);
}

bool Pruner::settled() const {
    return std::all_of(sites_.begin(), sites_.end(),
                       [&](const Site& site) { return counter_ >= site.schedule.settled_at(); });
}

std::string Pruner::fit_to_run(std::int64_t steps) {
    const SparsitySchedule& before = sites_.front().schedule;
    const SparsitySchedule after = scaled_to_run(before, steps);
    std::string words =
        cat("prunes ", sites_.size(), sites_.size() == 1 ? " layer, " : " layers, ", describe(options_.all.rule), ": ");
    if (after == before)
        words += describe(before);
    else if (options_.scale_to_run)
        words += cat("the schedule (", describe(before), ") is too long for a run of ", steps, " steps; scaled to ",
                     describe(after));
    else
        words += cat(describe(before), "; the run of ", steps, " steps ends before");
    if (options_.scale_to_run)
        for (Site& site : sites_) site.schedule = scaled_to_run(site.schedule, steps);
    fitted_ = true;
    return words;
}

void Pruner::on_load(Trainer& trainer) {
    if (fitted_) return;
    const std::string words = fit_to_run(trainer.batches() * trainer.options().epochs);
    if (log_) log_(words);
}

void Pruner::before_forward(Trainer&) { step(); }

void Pruner::before_evaluate_or_save(Trainer&) { apply_masks(); }

void Pruner::after_epoch(Trainer& trainer) {
    std::int64_t pruned = 0, weights = 0;
    for (const Site& site : sites_) {
        pruned += count_zeros(site.mask->mask());
        weights += site.mask->mask().numel();
    }
    trainer.record().extra["sparsity"] = static_cast<double>(pruned) / static_cast<double>(weights);
}

void Pruner::save(Checkpoint& checkpoint) const {
    checkpoint.integers["pruning.step"] = counter_;
    std::vector<double> schedules;
    for (const Site& site : sites_)
        for (const std::int64_t value : {site.schedule.begin, site.schedule.end, site.schedule.frequency})
            schedules.push_back(static_cast<double>(value));
    checkpoint.doubles["pruning.schedules"] = std::move(schedules);
}

void Pruner::load(const Checkpoint& checkpoint) {
    const std::vector<double>& schedules = doubles_field(checkpoint, "pruning.schedules");
    require(schedules.size() == 3 * sites_.size(), "pruning: the checkpoint has ", schedules.size() / 3,
            " pruned layers, the network ", sites_.size());
    for (std::size_t i = 0; i < sites_.size(); ++i) {
        sites_[i].schedule.begin = static_cast<std::int64_t>(schedules[3 * i]);
        sites_[i].schedule.end = static_cast<std::int64_t>(schedules[3 * i + 1]);
        sites_[i].schedule.frequency = std::max<std::int64_t>(1, static_cast<std::int64_t>(schedules[3 * i + 2]));
    }
    counter_ = integer_field(checkpoint, "pruning.step");
    fitted_ = true;
}

std::vector<LayerSparsity> sparsity_of(Module& network) {
    std::vector<LayerSparsity> found;
    Tape tape(Tape::Mode::inference);
    Context context{tape};
    for (const Layer& layer : layers_with_kernels(network)) {
        const auto mask = mask_of(*layer.kernel);
        if (!mask) continue;
        LayerSparsity counted;
        counted.layer = layer.path;
        counted.weights = layer.kernel->value.numel();
        counted.zeros = count_zeros(layer.kernel->effective(context).value());
        counted.latent_zeros = count_zeros(layer.kernel->value);
        counted.pruned = count_zeros(mask->mask());
        counted.threshold = mask->threshold();
        found.push_back(std::move(counted));
    }
    return found;
}

std::string sparsity_text(const std::vector<LayerSparsity>& layers) {
    std::string text;
    std::int64_t zeros = 0, weights = 0;
    const auto line = [&](const std::string& name, std::int64_t part, std::int64_t whole) {
        char percent[32];
        std::snprintf(percent, sizeof percent, "%.2f", 100.0 * static_cast<double>(part) / static_cast<double>(whole));
        text += cat(name, ": ", part, " of ", whole, " weights are zero (", percent, " %)\n");
    };
    for (const LayerSparsity& layer : layers) {
        line(layer.layer, layer.zeros, layer.weights);
        zeros += layer.zeros;
        weights += layer.weights;
    }
    if (weights > 0) line("pruned layers", zeros, weights);
    return text;
}

int strip_pruning(Module& network) {
    int stripped = 0;
    for (const Layer& layer : layers_with_kernels(network)) {
        const auto mask = mask_of(*layer.kernel);
        if (!mask) continue;
        mask->mask_in_place(layer.kernel->value);
        std::erase(layer.kernel->transforms, std::static_pointer_cast<WeightTransform>(mask));
        ++stripped;
    }
    return stripped;
}

}  // namespace bitloom::quant::pruning
