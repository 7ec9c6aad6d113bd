#include "models/initializers.h"

#include <cmath>

#include "engine/random.h"
#include "models/layers/layer.h"

namespace bitloom {

void initialize(Parameter& parameter, Initializer initializer, Fans fans, std::uint64_t seed) {
    require(!parameter.path.empty(), "initialize: a parameter has no path; call assign_paths on the network first");
    Tensor& value = parameter.value;
    Rng rng(seed, "init/" + parameter.path);
    const auto uniform = [&](double limit) { fill_uniform(value, -limit, limit, rng); };
    const double in = static_cast<double>(fans.in), out = static_cast<double>(fans.out);
    switch (initializer) {
        case Initializer::zeros:
            return value.fill(0);
        case Initializer::ones:
            return value.fill(1);
        case Initializer::lecun_uniform:
            return uniform(std::sqrt(3 / in));
        case Initializer::glorot_uniform:
            return uniform(std::sqrt(6 / (in + out)));
        case Initializer::he_uniform:
            return uniform(std::sqrt(6 / in));
        case Initializer::fan_in_uniform:
            return uniform(1 / std::sqrt(in));
        case Initializer::kaiming_normal_fan_in:
            return fill_normal(value, 0, std::sqrt(2 / in), rng);
        case Initializer::kaiming_normal_fan_out:
            return fill_normal(value, 0, std::sqrt(2 / out), rng);
    }
}

void initialize(Module& network, std::uint64_t seed) {
    for (Module* module : network.modules())
        if (auto* layer = dynamic_cast<layers::Layer*>(module)) layer->initialize(seed);
}

}  // namespace bitloom
