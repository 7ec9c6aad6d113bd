// What searches read: limits of AutoQ, regular expressions of layers and blocks, hyperparameters, and the states of tuners,
// which go on with what they read. The first byte chooses.
#include <cstdlib>

#include "engine/error.h"
#include "engine/io/flag_values.h"
#include "fuzz/harness.h"
#include "fuzz/search_space.h"
#include "fuzz/small_network.h"
#include "quant/search/autoq.h"

namespace {

using namespace bitloom;
using namespace bitloom::search;

const cost::CostNetwork& network() {
    static const cost::CostNetwork described = cost::describe_network(*fuzz::small_network(), {32, 32, 3});
    return described;
}

void plan(const AutoqOptions& options) {
    const Space space = autoq_space(network(), options);
    dictionary_of(plan_of(network(), options, space.defaults()));
}

void resume(Tuner& tuner, const std::string& state) {
    tuner.load(state);
    for (int i = 0; i < 2; ++i)
        if (const auto trial = tuner.ask()) tuner.tell(trial->id, 0.25 * i);
    const std::string saved = tuner.save();
    tuner.load(saved);
    if (tuner.save() != saved) std::abort();
}

void hyperparameters(const std::string& text) {
    const std::string written = values_to_json(values_from_json(text));
    if (values_to_json(values_from_json(written)) != written) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    const std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
    fuzz::check_reader(size, [&] {
        AutoqOptions options;
        const fuzz::Tuners tuners;
        switch (data[0] % 8) {
            case 0:
                options.limits = limits_from_json(text);
                return plan(options);
            case 1:
                options.layers = text;
                return plan(options);
            case 2:
                options.filter_exceptions = text;
                return plan(options);
            case 3:
                make_blocks(network(), options, split_list(text), true, 100);
                return;
            case 4:
                return resume(*tuners.random, text);
            case 5:
                return resume(*tuners.hyperband, text);
            case 6:
                return resume(*tuners.bayesian, text);
            default:
                return hyperparameters(text);
        }
    });
    return 0;
}
