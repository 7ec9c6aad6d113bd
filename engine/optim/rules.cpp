// The optimizers by name: which slots each keeps, which kernel it calls.

#include <algorithm>

#include "engine/optim/optimizer.h"

namespace bitloom {

namespace {

std::string prefixed(Convention convention, const std::string& name) {
    return convention == Convention::keras ? "keras-" + name : name;
}

void check_fraction(const char* what, double value) {
    require(value >= 0 && value < 1, "optimizer: ", what, " = ", value, " is not in [0, 1)");
}

double default_epsilon(double given, Convention convention) {
    require(given >= 0, "optimizer: negative epsilon ", given);
    if (given != 0) return given;
    return convention == Convention::keras ? 1e-7 : 1e-8;
}

class Sgd final : public Optimizer {
public:
    Sgd(NamedParameters parameters, const SgdOptions& options)
        : Optimizer(std::move(parameters), {options.learning_rate, options.weight_decay}),
          settings_{options.momentum, options.nesterov, options.convention} {
        check_fraction("momentum", options.momentum);
        require(!options.nesterov || options.momentum > 0, "optimizer: Nesterov's form needs a momentum");
    }
    std::string name() const override {
        return prefixed(settings_.convention, settings_.nesterov ? "nesterov" : "sgd");
    }

protected:
    const std::vector<std::string>& slots() const override {
        static const std::vector<std::string> none, momentum{"momentum_buffer"};
        return settings_.momentum == 0 ? none : momentum;
    }
    void update(const OptimKernels& kernels, const OptimRows& rows) override { kernels.sgd(rows, settings_); }
    Convention convention() const override { return settings_.convention; }

private:
    SgdSettings settings_;
};

class Adam final : public Optimizer {
public:
    Adam(NamedParameters parameters, const AdamOptions& options)
        : Optimizer(std::move(parameters), {options.learning_rate, options.weight_decay}),
          settings_{options.beta1, options.beta2, default_epsilon(options.epsilon, options.convention), options.amsgrad,
                    options.convention} {
        check_fraction("beta1", options.beta1);
        check_fraction("beta2", options.beta2);
    }
    std::string name() const override { return prefixed(settings_.convention, settings_.amsgrad ? "amsgrad" : "adam"); }

protected:
    const std::vector<std::string>& slots() const override {
        static const std::vector<std::string> plain{"exp_avg", "exp_avg_sq"},
            amsgrad{"exp_avg", "exp_avg_sq", "max_exp_avg_sq"};
        return settings_.amsgrad ? amsgrad : plain;
    }
    void update(const OptimKernels& kernels, const OptimRows& rows) override { kernels.adam(rows, settings_); }
    Convention convention() const override { return settings_.convention; }

private:
    AdamSettings settings_;
};

class Rmsprop final : public Optimizer {
public:
    Rmsprop(NamedParameters parameters, const RmspropOptions& options)
        : Optimizer(std::move(parameters), {options.learning_rate, options.weight_decay}),
          settings_{options.rho, options.momentum, default_epsilon(options.epsilon, options.convention),
                    options.convention} {
        check_fraction("rho", options.rho);
        check_fraction("momentum", options.momentum);
    }
    std::string name() const override { return prefixed(settings_.convention, "rmsprop"); }

protected:
    const std::vector<std::string>& slots() const override {
        static const std::vector<std::string> plain{"square_avg"}, momentum{"square_avg", "momentum_buffer"};
        return settings_.momentum == 0 ? plain : momentum;
    }
    void update(const OptimKernels& kernels, const OptimRows& rows) override {
        kernels.rmsprop(rows, settings_);
    }
    Convention convention() const override { return settings_.convention; }

private:
    RmspropSettings settings_;
};

}  // namespace

std::unique_ptr<Optimizer> make_sgd(NamedParameters parameters, const SgdOptions& options) {
    return std::make_unique<Sgd>(std::move(parameters), options);
}
std::unique_ptr<Optimizer> make_adam(NamedParameters parameters, const AdamOptions& options) {
    return std::make_unique<Adam>(std::move(parameters), options);
}
std::unique_ptr<Optimizer> make_rmsprop(NamedParameters parameters, const RmspropOptions& options) {
    return std::make_unique<Rmsprop>(std::move(parameters), options);
}

const std::vector<std::string>& optimizer_names() {
    static const std::vector<std::string> names{"sgd",     "nesterov",     "keras-sgd",  "keras-nesterov",
                                                "adam",    "amsgrad",      "keras-adam", "keras-amsgrad",
                                                "rmsprop", "keras-rmsprop"};
    return names;
}

std::unique_ptr<Optimizer> make_optimizer(const std::string& name, NamedParameters parameters, double learning_rate,
                                          double weight_decay, double momentum) {
    const std::vector<std::string>& names = optimizer_names();
    if (std::find(names.begin(), names.end(), name) == names.end()) {
        std::string known;
        for (const std::string& n : names) known += (known.empty() ? "" : ", ") + n;
        throw UsageError(cat("unknown optimizer '", name, "'; known: ", known));
    }
    const bool keras = name.starts_with("keras-");
    const Convention convention = keras ? Convention::keras : Convention::pytorch;
    const std::string rule = keras ? name.substr(6) : name;
    if (rule == "sgd" || rule == "nesterov") {
        return make_sgd(std::move(parameters), {.learning_rate = learning_rate,
                                                .momentum = momentum,
                                                .weight_decay = weight_decay,
                                                .nesterov = rule == "nesterov",
                                                .convention = convention});
    }
    if (rule == "rmsprop") {
        return make_rmsprop(std::move(parameters), {.learning_rate = learning_rate,
                                                    .rho = keras ? 0.9 : 0.99,
                                                    .weight_decay = weight_decay,
                                                    .convention = convention});
    }
    return make_adam(std::move(parameters), {.learning_rate = learning_rate,
                                             .weight_decay = weight_decay,
                                             .amsgrad = rule == "amsgrad",
                                             .convention = convention});
}

}  // namespace bitloom
