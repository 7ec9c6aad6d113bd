#pragma once
// A small network for the readers that need one to read into.

#include "models/registry.h"

namespace bitloom::fuzz {

inline ModelOptions small_options() {
    return {.name = "svhn_cnn", .input = {32, 32, 3}, .filters = {2, 2, 2}, .dense_units = {3, 2}};
}

inline std::unique_ptr<Module> small_network() { return make_model(small_options()); }

}  // namespace bitloom::fuzz
