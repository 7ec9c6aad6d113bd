#pragma once
// The tuners whose states are read, each over a space with a hyperparameter of every kind.

#include "quant/search/tuner.h"

namespace bitloom::fuzz {

inline search::Space small_space() {
    search::Space space;
    space.choice("activation", {std::string("relu"), std::string("tanh")});
    space.integer("units", 8, 64, 8);
    space.real("rate", 1e-4, 1e-1, 0, search::Sampling::logarithmic);
    space.boolean("bias");
    space.real("dropout", 0, 0.5, 0.1).conditions = {{"activation", {std::string("relu")}}};
    return space;
}

struct Tuners {
    std::unique_ptr<search::Tuner> random = search::make_random_tuner(small_space(), {}),
                                   hyperband = search::make_hyperband_tuner(small_space(), {}, {9, 3, 1}),
                                   bayesian = search::make_bayesian_tuner(small_space(), {}, {.starts = 2});
};

}  // namespace bitloom::fuzz
