// bsq_convert: floating-point weights into bit planes.

#include "apps/bsq/program.h"

namespace bitloom {
namespace {

int run(int argc, char** argv) {
    bsq::Settings settings;
    Flags flags("bsq_convert",
                "Writes the weights of a trained network in bits: --Nbits for every layer, or the precision of every layer that "
                "another file's table (--dict) holds, which transfers a scheme to weights that were not trained with it. Leaves "
                "checkpoint.h5, model_best.h5 and a report with the bits of every layer.");
    bsq::add_network_flags(flags, settings);
    flags.group("Conversion");
    flags.add("dict", settings.dict, "file whose precision table is imposed");
    flags.example("--depth 20 --model bsq_resnet20_fp.h5 --Nbits 8 --data-dir data --out-dir runs/8bit", "eight bits everywhere");
    flags.example("--model bsq_resnet20_fp.h5 --dict runs/bsq/checkpoint.h5 --data-dir data --out-dir runs/scratch",
                  "the scheme of a BSQ run, to be trained from scratch by bsq_finetune");
    return bsq::run_as_program("bsq_convert", flags, settings, argc, argv, [](const bsq::Settings& s) {
        if (s.model_file.empty()) throw UsageError("--model is missing: the file with the floating-point weights");
        return bsq::run_conversion(s);
    });
}

}  // namespace
}  // namespace bitloom

int main(int argc, char** argv) {
    bitloom::ensure_passive_waiting(argv);
    return bitloom::run_program(argc, argv, bitloom::run);
}
