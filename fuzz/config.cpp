// JSON: configuration files, model descriptions of checkpoints, scores of finished folds.
#include "apps/common/fold_scores.h"
#include "engine/error.h"
#include "fuzz/flags.h"
#include "fuzz/harness.h"
#include "models/registry.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace bitloom;
    const fuzz::InputFile file(data, size);
    fuzz::check_reader(size, [&] {
        fuzz::EveryFlag flags;
        const std::string argument = "--config=" + file.path();
        const char* arguments[] = {"fuzz", argument.c_str()};
        flags.flags.parse(2, arguments);
        flags.flags.to_json();
    });
    const std::string text(reinterpret_cast<const char*>(data), size);
    fuzz::check_reader(size, [&] { describe(model_options_from_json(text)); });
    fuzz::check_reader(size, [&] { fold_table({read_score(file.path())}); });
    return 0;
}
