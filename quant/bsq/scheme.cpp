#include "quant/bsq/scheme.h"

#include <algorithm>
#include <cmath>
#include <iostream>
#include <nlohmann/json.hpp>

#include "engine/io/flag_values.h"
#include "engine/io/json_values.h"

namespace bitloom::bsq {

namespace {

using Json = nlohmann::ordered_json;

/// Takes members out of an object, with their bounds.
class Reader {
   public:
    explicit Reader(const std::string& text) {
        try {
            json_ = json_from_text<Json>(text);
        } catch (const std::exception&) {
            throw UsageError(cat("bsq: the configuration is no JSON: ", in_quotes(text)));
        }
        if (!json_.is_object()) throw UsageError("bsq: the configuration is no JSON object");
    }
    void number(const char* key, double& value, double least) {
        if (const Json* found = find(key)) {
            if (!found->is_number() || !(found->get<double>() >= least)) fail_at(key, cat("must be a number of at least ", least));
            value = found->get<double>();
        }
    }
    template <class T>
    void integer(const char* key, T& value, std::int64_t least, std::int64_t most) {
        if (const Json* found = find(key)) {
            if (!found->is_number_integer() || found->get<double>() < static_cast<double>(least) ||
                found->get<double>() > static_cast<double>(most))
                fail_at(key, cat("must be an integer in ", least, "..", most));
            value = found->get<T>();
        }
    }
    void flag(const char* key, bool& value) {
        if (const Json* found = find(key)) {
            if (!found->is_boolean()) fail_at(key, "must be true or false");
            value = found->get<bool>();
        }
    }
    void text(const char* key, std::string& value) {
        if (const Json* found = find(key)) {
            if (!found->is_string()) fail_at(key, "must be a text");
            value = found->get<std::string>();
        }
    }
    void finish() const {
        for (const auto& [key, value] : json_.items())
            if (std::find(known_.begin(), known_.end(), key) == known_.end())
                throw UsageError(cat("bsq: unknown key ", in_quotes(key)));
    }

   private:
    const Json* find(const char* key) {
        known_.push_back(key);
        return json_.contains(key) ? &json_[key] : nullptr;
    }
    [[noreturn]] void fail_at(const char* key, const std::string& what) const {
        throw UsageError(cat("bsq: ", key, ": ", what, ", got ", in_quotes(json_[key].dump())));
    }
    Json json_;
    std::vector<std::string> known_;
};

constexpr std::int64_t many_epochs = 1'000'000'000;

}  // namespace

SchemeOptions scheme_options_from_json(const std::string& text) {
    SchemeOptions o;
    Reader reader(text);
    reader.integer("bits", o.bits, 0, max_bits);
    reader.number("alpha", o.alpha, 0);
    reader.flag("reweigh", o.reweigh);
    reader.integer("interval", o.interval, 1, many_epochs);
    reader.number("threshold", o.threshold, 0);
    reader.flag("keep_momentum", o.keep_momentum);
    reader.integer("activation_bits", o.activation_bits, 0, max_bits);
    reader.text("activation", o.activation);
    reader.flag("quantize_shortcut", o.quantize_shortcut);
    reader.flag("grow", o.grow);
    reader.flag("forward_clamp", o.forward_clamp);
    reader.finish();
    activation_kind(o.activation);
    return o;
}

std::string to_json(const SchemeOptions& o) {
    return Json{{"bits", o.bits},
                {"alpha", o.alpha},
                {"reweigh", o.reweigh},
                {"interval", o.interval},
                {"threshold", o.threshold},
                {"keep_momentum", o.keep_momentum},
                {"activation_bits", o.activation_bits},
                {"activation", o.activation},
                {"quantize_shortcut", o.quantize_shortcut},
                {"grow", o.grow},
                {"forward_clamp", o.forward_clamp}}
        .dump();
}

void BsqScheme::attach(Module& network) {
    BitNetworkOptions options;
    options.quantize_shortcut = options_.quantize_shortcut;
    options.grow = options_.grow;
    options.forward_clamp = options_.forward_clamp;
    bits_ = std::make_unique<BitNetwork>(network, options);
    attach_activations(network, {{activation_kind(options_.activation), options_.activation_bits}, {}});
    bits_->to_bits(options_.bits);
}

void BsqScheme::fit_to(const Checkpoint& checkpoint) {
    for (const auto& tensor : bits_->tensors()) {
        const std::string name = tensor->parameter().path + ".bsq.planes";
        for (const auto& [path, planes] : checkpoint.parameters) {
            if (path != name) continue;
            require(planes.rank() >= 2 && planes.dim(0) >= 1 && planes.dim(0) <= max_bits, "'", name, "' has shape ",
                    planes.shape(), ", which no bit planes have");
            tensor->reshape_for(Representation::bits, static_cast<int>(planes.dim(0)), false);
        }
    }
}

std::vector<std::shared_ptr<Callback>> BsqScheme::callbacks() {
    PrecisionScheduleOptions options;
    options.interval = options_.interval;
    options.threshold = options_.threshold;
    options.keep_momentum = options_.keep_momentum;
    options.strength = options_.alpha;
    const auto say = [this](Trainer&, std::optional<std::int64_t> epoch) {
        const BitSizes sizes = bits_->sizes();
        const std::string words = cat(epoch ? cat("before epoch ", *epoch + 1) : std::string("at the end"), ": ",
                                      sizes.bits_per_parameter(), " bits per parameter, compression ", sizes.compression());
        if (log_)
            log_(words);
        else
            std::cerr << "bsq: " << words << "\n";
    };
    return {std::make_shared<PrecisionSchedule>(*bits_, options, say)};
}

std::vector<LossTerm> BsqScheme::loss_terms() {
    if (options_.alpha == 0) return {};
    return {bits_->group_lasso(options_.reweigh)->term(options_.alpha)};
}

std::string BsqScheme::report(Module&) const {
    const BitSizes sizes = bits_->sizes();
    const auto number = [](double value) { return std::isfinite(value) ? Json(value) : Json(); };
    return Json{{"precision", Json::parse(to_json(bits_->table()))},
                {"parameters", sizes.parameters},
                {"bits", sizes.bits},
                {"bits_per_parameter", sizes.bits_per_parameter()},
                {"compression", number(sizes.compression())},
                {"nonzero_bits", sizes.nonzero_bits},
                {"nonzero_bits_per_parameter", sizes.nonzero_bits_per_parameter()},
                {"nonzero_compression", number(sizes.nonzero_compression())}}
        .dump();
}

quant::SchemeEntry scheme_entry() {
    return {"bsq",
            "mixed precision by bit-level sparsity: bits, alpha, reweigh, interval, threshold, keep_momentum, activation_bits, "
            "activation (relu, relu6, pact), quantize_shortcut, grow, forward_clamp",
            [](const std::string& json) { return std::make_unique<BsqScheme>(scheme_options_from_json(json)); }};
}

}  // namespace bitloom::bsq
