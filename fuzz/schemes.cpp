// Configurations of schemes and dictionaries of quantizers, attached to a small network. What a scheme records of itself must
// make it again. The first byte chooses.
#include <cstdlib>

#include "engine/error.h"
#include "fuzz/harness.h"
#include "fuzz/small_network.h"
#include "quant/checkpoints.h"
#include "quant/qkeras/model_quantize.h"

namespace {

using namespace bitloom;

void attach(const quant::SchemeList& schemes) {
    if (quant::SchemeList::from_configuration(schemes.configuration()).configuration() != schemes.configuration()) std::abort();
    const auto network = fuzz::small_network();
    schemes.set_log([](const std::string&) {});
    schemes.attach(*network, {32, 32, 3});
    schemes.adapt_initial_weights(*network);
    for (const auto& scheme : schemes.schemes()) {
        scheme->callbacks();
        scheme->loss_terms();
    }
    schemes.report(*network);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    const std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
    fuzz::check_reader(size, [&] {
        switch (data[0] % 6) {
            case 0:
                return attach(quant::SchemeList({"qkeras"}, text));
            case 1:
                return attach(quant::SchemeList({"pruning"}, text));
            case 2:
                return attach(quant::SchemeList({"bsq"}, text));
            case 3:
                return attach(quant::SchemeList({"pruning", "qkeras"}, text));
            case 4:
                return attach(quant::schemes_of(text));
            default:
                const auto network = fuzz::small_network();
                quant::qkeras::model_quantize(*network, text, {.allow_missing_layers = true});
                quant::qkeras::quantized_layers(*network);
        }
    });
    return 0;
}
