// bsq_finetune: training under the precision scheme that bsq_train found.

#include "apps/bsq/program.h"

namespace bitloom {
namespace {

int run(int argc, char** argv) {
    bsq::Settings settings;
    settings.epochs = 300;
    Flags flags("bsq_finetune",
                "Fine-tunes a network in bits with the precision of every layer fixed: weights are quantized in the forward pass "
                "and train straight through the rounding. Leaves checkpoint.h5, model_best.h5, best_bin.h5 (bit planes), "
                "best_float.h5, log.txt and a report. --evaluate prints accuracy, precisions and compression only.");
    bsq::add_network_flags(flags, settings);
    bsq::add_training_flags(flags, settings);
    flags.group("Fine-tuning");
    flags.add("reference-no-ft-bias", settings.reference_ft_bias,
              "leave biases out of the forward pass, as the published program does");
    flags.example("--model runs/bsq/checkpoint.h5 --bin --epochs 300 --lr 0.01 --schedule 150,250 --wd 1e-4 --data-dir data "
                  "--out-dir runs/bsq-ft",
                  "the published recipe");
    flags.example("--model runs/bsq/checkpoint.h5 --bin --evaluate --data-dir data", "what a scheme is worth");
    return bsq::run_as_program("bsq_finetune", flags, settings, argc, argv, bsq::run_finetuning);
}

}  // namespace
}  // namespace bitloom

int main(int argc, char** argv) {
    bitloom::ensure_passive_waiting(argv);
    return bitloom::run_program(argc, argv, bitloom::run);
}
