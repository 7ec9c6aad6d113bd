#pragma once
// Training of one candidate network of a search.

#include <atomic>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "apps/common/progress_board.h"
#include "engine/data/loader.h"
#include "engine/train/callbacks.h"
#include "models/options.h"

namespace bitloom {

struct TrialTraining {
    ModelOptions network;
    std::string schemes{};          ///< what SchemeList::configuration writes; empty: none
    std::string initial_weights{};  ///< checkpoint, with or without schemes; empty: random ones
    bool other_widths = false;  ///< its layers may be wider or narrower (search::transferred_widths); else it must fit
    /// Adapts weights to their quantizers (Scheme::adapt_initial_weights), drawn and transferred ones alike, but those of
    /// these layers, which have been trained with theirs. Nothing: none.
    std::optional<std::set<std::string>> adapt_except{};
    std::string optimizer = "keras-adam";  ///< a name of make_optimizer
    double learning_rate = 2e-3;
    std::int64_t epochs = 1;
    std::uint64_t seed = 1;
    std::string metric = "val_accuracy";       ///< decides which weights are the best
    std::string stop_metric = "val_accuracy";  ///< of early stopping
    std::int64_t patience = 0;                 ///< of early stopping; 0: none
    std::string schedule = "constant";    ///< parse_schedule
    LoaderOptions training, evaluation;
    std::string configuration = "{}";  ///< JSON, into the checkpoints
};

struct TrialResult {
    double best = 0;  ///< of the metric
    double loss = 0, accuracy = 0, validation_loss = 0, validation_accuracy = 0;  ///< of that epoch
    std::int64_t best_epoch = 0;                                                    ///< from 1
    std::int64_t epochs = 0;                                                        ///< run
};

/// Trains into `folder`: best.h5 (by the metric), last.h5, history.csv. A last.h5 that is there is continued from when
/// `resume` is set. Nothing where the stop flag was raised; nothing is lost then. Throws Error, DivergedError where the
/// training diverged.
std::optional<TrialResult> train_trial(const TrialTraining& training, const std::string& folder,
                                       std::shared_ptr<const Dataset> train, std::shared_ptr<const Dataset> validation,
                                       bool resume, const std::atomic<bool>* stop, ProgressBoard& board, int row);

}  // namespace bitloom
