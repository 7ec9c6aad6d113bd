#pragma once
// The flags that put compression schemes on a network.

#include <string>
#include <vector>

#include "engine/io/flags.h"
#include "quant/scheme.h"

namespace bitloom {

struct SchemeFlags {
    std::vector<std::string> schemes;
    std::string config;  ///< a file
    std::vector<std::int64_t> bits;  ///< of weights and, where they differ, of activations: scheme qkeras
    std::string qkeras_compat = "current";
};
/// --scheme NAME,..., --scheme-config FILE, --bits W[,A] and --qkeras-compat, in a group of their own.
void add_scheme_flags(Flags& flags, SchemeFlags& values);

/// The schemes that were asked for. Throws UsageError for unknown names, a file that cannot be read and a configuration
/// that does not fit.
quant::SchemeList make_schemes(const SchemeFlags& values);

}  // namespace bitloom
