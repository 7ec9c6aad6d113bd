#include "apps/common/scheme_flags.h"

#include "engine/error.h"
#include "engine/io/atomic_file.h"

namespace bitloom {

void add_scheme_flags(Flags& flags, SchemeFlags& values) {
    std::string help = "what compresses the network, in order of attachment:";
    for (const std::string& name : quant::scheme_names())
        help += cat(help.back() == ':' ? " " : "; ", name, " (", quant::scheme_summary(name), ")");
    flags.group("Compression");
    flags.add("scheme", values.schemes, help);
    flags.add("scheme-config", values.config,
              "JSON file with the scheme's keys; for several schemes, an object with a member each");
}

quant::SchemeList make_schemes(const SchemeFlags& values) {
    if (values.schemes.empty()) {
        if (!values.config.empty()) throw UsageError("--scheme-config needs --scheme");
        return {};
    }
    std::string json;
    if (!values.config.empty()) {
        try {
            json = read_file(values.config, std::size_t{16} << 20);
        } catch (const Error& error) {
            throw UsageError(cat("--scheme-config: ", error.what()));
        }
    }
    try {
        return quant::SchemeList(values.schemes, json);
    } catch (const UsageError& error) {
        throw UsageError(values.config.empty() ? error.what() : cat(values.config, ": ", error.what()));
    }
}

}  // namespace bitloom
