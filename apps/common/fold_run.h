#pragma once
// Training and testing of one fold (svhn-qkeras.md, sections 3, 5.1 and 6).

#include <atomic>
#include <memory>
#include <optional>
#include <string>

#include "apps/common/fold_scores.h"
#include "apps/common/progress_board.h"
#include "engine/data/augment.h"
#include "engine/data/kfold.h"
#include "engine/data/loader.h"
#include "engine/data/normalize.h"
#include "engine/optim/optimizer.h"
#include "models/options.h"

namespace bitloom {

/// One network of one fold.
struct FoldModel {
    std::string name;   ///< of its folder and of the file with the tested weights: "quant_8bit_0"
    std::string group;  ///< what it shares with the other folds' networks: "quant_8bit"
    int fold = 0;
    ModelOptions network;
    std::string schemes;  ///< what SchemeList::configuration wrote; empty: none
    std::string
        initial_weights;  ///< checkpoint whose latent weights it starts from; empty: random, other ones each fold
    /// Once trained, it is trained again from its result, which the second training replaces; the folder of the first
    /// is kept as "<name>_first" (the source trains its last width so).
    bool trained_twice = false;
};

struct FoldSettings {
    AdamOptions adam;
    std::int64_t epochs = 100;
    std::int64_t batch_size = 512;
    std::int64_t buffer_size = 1024;  ///< of the reservoir shuffle
    Normalization normalization;
    AugmentationPipeline augmentation;
    std::uint64_t seed = 1;
    Device device = cpu_device;
    DType activations = DType::f32;  ///< bf16: images and all between them and the last layer
    DataOnDevice data_on_device = DataOnDevice::automatic;
    bool step_graph = true;
    int threads = 1;  ///< of this fold
    bool test_last_epoch = false;  ///< upstream's behaviour; otherwise the weights of the smallest val_loss are tested
    /// Upstream's behaviour: an epoch may be the best, or count for early stopping, before the schemes have settled
    /// (before a pruning schedule has come to its final sparsity).
    bool count_unsettled_epochs = false;
    std::int64_t checkpoint_every_steps = 0;
    const std::atomic<bool>* stop = nullptr;
    std::string configuration;  ///< JSON, into the checkpoints
};

/// Cross-entropy on the logits, Adam; callbacks in the published order: early stopping (patience 10), model_best.h5
/// (smallest val_loss), weights_best.h5 (every epoch, despite its name), learning rate times 0.1 on a plateau;
/// history_dict.csv. Then the test set, scores.npz (loss and accuracy, as published), scores.json, compression.json
/// (what the schemes report of the tested weights; only where there are any), and `<model.name>.h5` with the tested
/// weights. Continues from last.h5 where it is there; a folder with scores.json is finished and only read. Nothing where
/// the run was stopped: last.h5 then holds all of it. The row of the board takes the model's name. Throws Error.
std::optional<FoldScore> run_fold(const FoldSettings& settings, const FoldModel& model, const std::string& folder,
                                  const Fold& data, std::shared_ptr<const Dataset> test, ProgressBoard& board, int row);

/// Removes what an earlier run left in the model's folders: a resumed run must not take it for its own.
void forget_earlier_run(const FoldModel& model, const std::string& out_dir);

/// run_fold in `<out_dir>/<model.name>`, twice where the model says so. Resumable at any moment.
std::optional<FoldScore> run_model(const FoldSettings& settings, const FoldModel& model, const std::string& out_dir,
                                   const Fold& data, std::shared_ptr<const Dataset> test, ProgressBoard& board,
                                   int row);

}  // namespace bitloom
