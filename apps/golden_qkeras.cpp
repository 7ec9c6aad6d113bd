// golden_qkeras: evaluates every case of a golden file of the QKeras experiments.

#include "apps/golden/families.h"

int main(int argc, char** argv) {
    using namespace bitloom::golden;
    Families families;
    add_qkeras_quantizers(families);
    add_qkeras_third_party(families);
    add_qkeras_svhn(families);
    add_qkeras_pruning(families);
    add_qkeras_training(families);
    add_qkeras_qtools(families);
    add_qkeras_search(families);
    return golden_main(argc, argv, "golden_qkeras",
                       "Evaluates golden files of QKeras quantization, pruning, search and cost models.", "quantizers/binary,stochastic",
                       families);
}
