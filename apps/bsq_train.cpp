// bsq_train: mixed precision by training bits (Yang et al., 2021).

#include <iostream>

#include "apps/bsq/program.h"

namespace bitloom {
namespace {

int run(int argc, char** argv) {
    bsq::Settings settings;
    settings.epochs = 350;
    Flags flags("bsq_train",
                "BSQ: every weight is written in bits that train as numbers in [0, 2]; a group Lasso over bit positions "
                "empties some, and every --Prun-Int epochs the network is rounded to exact bits and empty outer positions are "
                "dropped. One number, --decay, trades size for accuracy. Leaves checkpoint.h5 (exact bits at the end), "
                "model_best.h5, log.txt and a report.");
    bsq::add_network_flags(flags, settings);
    bsq::add_training_flags(flags, settings);
    bsq::add_sparsity_flags(flags, settings);
    flags.example("--depth 20 --model bsq_resnet20_8bit.h5 --bin --L1 --decay 5e-3 --Prun-Int 50 --epochs 350 --lr 0.1 "
                  "--schedule 250 --wd 1e-4 --data-dir data --out-dir runs/bsq",
                  "the published recipe on CIFAR-10");
    flags.example("--model bsq_resnet20_8bit.h5 --act 0 --block-activation relu --evaluate --data-dir data",
                  "the test set, plain ReLUs");
    flags.example("--arch svhn_cnn --dataset digits --Nbits 8 --act 8 --L1 --decay 2e-2 --Prun-Int 2 --epochs 6 --lr 0.05 "
                  "--out-dir runs/digits",
                  "another network on built-in images");
    flags.example("--resume --out-dir runs/bsq", "continue after an interruption");
    return bsq::run_as_program("bsq_train", flags, settings, argc, argv, bsq::run_training);
}

}  // namespace
}  // namespace bitloom

int main(int argc, char** argv) {
    bitloom::ensure_passive_waiting(argv);
    return bitloom::run_program(argc, argv, bitloom::run);
}
