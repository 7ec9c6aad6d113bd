#pragma once
// Which networks a k-fold run trains, and what each starts from (svhn-qkeras.md, sections 1, 5.1, 6 and 9).

#include <string>
#include <vector>

#include "apps/common/fold_run.h"
#include "models/options.h"

namespace bitloom {

struct KfoldChoice {
    std::string out_dir;
    ModelOptions network;  ///< of the folds that load no model
    bool quantize = false, prune = false;
    std::vector<std::int64_t> widths;       ///< of the scan, from wide to narrow: 1 is binary, 2 ternary
    std::string qkeras_compat = "current";  ///< the release of QKeras whose numbers the scan follows, or 0.8
    std::string pruning;                    ///< JSON of the pruning options
    std::string load_from;                  ///< --lmodel; empty: none
    bool last_epoch = false;                ///< hand over weights_best.h5 (the last epoch) instead of model_best.h5
    bool second_1bit = false;               ///< train the last width once more from its result
};

/// The name of the run as a whole, under which its summary stands: full, pruned_full, quant, pruned_quant, and NAME or
/// pruned_NAME for loaded models.
std::string family_of(const KfoldChoice& choice);

/// Networks of one fold in the order in which they are trained; those of `chains` wait for the ones before them.
struct FoldPlan {
    std::vector<FoldModel> models;
    bool chain = false;  ///< each starts from the one before
};
/// Throws Error where the file that the first network starts from, or one that no network of the plan makes, is not
/// there, naming the run that would make it.
FoldPlan plan_fold(const KfoldChoice& choice, int fold);

/// What the published program warns of, a line each: poolings of 1, which do nothing, and kernels of more than 4096 weights,
/// the most that the synthesis for FPGAs takes.
std::vector<std::string> network_warnings(const ModelOptions& network);

/// The schemes of the scan at a width, as SchemeList::configuration writes them (section 5.2): kernels and biases of
/// all convolutions and dense layers, ReLUs; the rest stays float.
std::string scan_schemes(std::int64_t width, const std::string& compat = "current");
/// 1, 2 or more bits of the scan. Throws UsageError for widths that are not falling.
void check_widths(const std::vector<std::int64_t>& widths);

}  // namespace bitloom
