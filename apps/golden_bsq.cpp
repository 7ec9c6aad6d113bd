// golden_bsq: evaluates every case of a golden file of the BSQ experiments.

#include "apps/golden/families.h"

int main(int argc, char** argv) {
    using namespace bitloom::golden;
    Families families;
    add_bsq_tensors(families);
    add_bsq_layers(families);
    add_bsq_network(families);
    add_bsq_training(families);
    return golden_main(argc, argv, "golden_bsq",
                       "Evaluates golden files of bit-level sparsity quantization. The trained networks that some cases start "
                       "from (bsq_resnet20_fp.h5, bsq_resnet20_8bit.h5) are looked for in the folder that the environment "
                       "variable BITLOOM_MODELS names, else in models/ beside the golden file's folder.",
                       "requant,network/logits100_fp_act0", families);
}
