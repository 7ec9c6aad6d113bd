#include "apps/common/fold_run.h"

#include <algorithm>
#include <filesystem>

#include "apps/common/history.h"
#include "apps/common/losses.h"
#include "apps/common/run_folder.h"
#include "apps/common/text.h"
#include "engine/data/loader.h"
#include "engine/error.h"
#include "engine/io/checkpoint.h"
#include "engine/io/npz.h"
#include "engine/random.h"
#include "engine/threads.h"
#include "engine/train/callbacks.h"
#include "engine/train/evaluator.h"
#include "engine/train/trainer.h"
#include "models/registry.h"

namespace bitloom {
namespace {

// Every fold draws its own initial values and its own order of images.
std::uint64_t seed_of(const FoldSettings& settings, int fold) { return stream_key(settings.seed, cat("fold ", fold)); }

LoaderOptions loader_options(const FoldSettings& settings, std::uint64_t seed) {
    LoaderOptions options;
    options.batch_size = settings.batch_size;
    options.seed = seed;
    options.normalization = settings.normalization;
    options.dtype = settings.activations;
    options.device = settings.device;
    return options;
}

// What an earlier run left must not be taken for this one's when it is resumed.
void remove_old_files(const std::string& folder) {
    for (const char* name :
         {"last.h5", "model_best.h5", "weights_best.h5", "history_dict.csv", "scores.npz", "scores.json"})
        std::filesystem::remove(folder + "/" + name);
}

void add_callbacks(Trainer& trainer, const FoldSettings& settings, const std::string& folder, ProgressBoard& board,
                   int row) {
    EarlyStoppingOptions stopping;
    stopping.metric = "val_loss";
    stopping.patience = 10;
    PlateauOptions plateau;
    plateau.factor = 0.1;
    plateau.patience = 5;
    plateau.min_delta = 1e-4;
    plateau.cooldown = 2;
    plateau.min_lr = 1e-6;
    trainer.add(std::make_shared<EarlyStopping>(stopping));
    trainer.add(ModelCheckpoint::best(folder + "/model_best.h5"));
    trainer.add(ModelCheckpoint::last(folder + "/weights_best.h5"));
    trainer.add(std::make_shared<LearningRateSchedule>(plateau_schedule(settings.adam.learning_rate, plateau)));
    trainer.add(std::make_shared<CsvHistory>(folder + "/history_dict.csv"));
    trainer.add(std::make_shared<BoardProgress>(board, row));
}

FoldScore score_of(const TrainResult& result, int fold, bool last_epoch, const ClassificationMetrics& test) {
    std::vector<double> losses;
    for (const EpochRecord& record : result.history) losses.push_back(record.validation_loss);
    const int tested = last_epoch ? static_cast<int>(losses.size()) - 1 : index_of_smallest(losses);
    require(tested >= 0, "no epoch gave a finite validation loss");
    const EpochRecord& record = result.history[static_cast<std::size_t>(tested)];
    FoldScore score;
    score.fold = fold;
    score.val_loss = record.validation_loss;
    score.val_accuracy = record.validation_accuracy;
    score.test_loss = test.cross_entropy();
    score.test_accuracy = test.accuracy();
    score.epochs = static_cast<std::int64_t>(result.history.size());
    score.tested_epoch = record.epoch + 1;
    score.stop_reason = result.stop_reason;
    score.classes = test.classes();
    for (int t = 0; t < score.classes; ++t)
        for (int p = 0; p < score.classes; ++p) score.confusion.push_back(test.confusion(t, p));
    return score;
}

}  // namespace

std::optional<FoldScore> run_fold(const FoldSettings& settings, int fold, const std::string& folder, const Fold& data,
                                  std::shared_ptr<const Dataset> test, ProgressBoard& board, int row) {
    set_threads(settings.threads);
    make_folder(folder);
    const std::string scores = folder + "/scores.json", last = folder + "/last.h5";
    if (!settings.resume) remove_old_files(folder);
    if (std::filesystem::exists(scores)) return read_score(scores);

    const std::uint64_t seed = seed_of(settings, fold);
    const std::unique_ptr<Module> model = make_model(settings.model, seed);
    if (!settings.initial_weights.empty()) restore(*model, load_checkpoint(settings.initial_weights));
    model->to(settings.device);
    const std::unique_ptr<Optimizer> optimizer = make_adam(model->named_parameters(), settings.adam);

    LoaderOptions training_options = loader_options(settings, seed);
    training_options.shuffle = Shuffle::reservoir;
    training_options.reservoir = settings.buffer_size;
    training_options.augmentation = settings.augmentation;
    Loader training(data.train, training_options);
    Loader validation(data.validation, loader_options(settings, seed));

    TrainerOptions options;
    options.epochs = settings.epochs;
    options.seed = seed;
    options.checkpoint = last;
    options.checkpoint_every_steps = settings.checkpoint_every_steps;
    options.stop = settings.stop;
    options.model_description = describe(settings.model);
    options.configuration = settings.configuration;
    Trainer trainer(*model, *optimizer, cross_entropy_loss(), options);
    add_callbacks(trainer, settings, folder, board, row);
    if (settings.resume && std::filesystem::exists(last)) trainer.resume(last);
    const TrainResult result = trainer.fit(training, &validation);
    if (result.interrupted) return std::nullopt;

    const Checkpoint tested =
        load_checkpoint(folder + (settings.test_last_epoch ? "/weights_best.h5" : "/model_best.h5"));
    restore(*model, tested);
    Loader testing(std::move(test), loader_options(settings, seed));
    const FoldScore score = score_of(result, fold, settings.test_last_epoch, evaluate(*model, testing));
    save_checkpoint(cat(folder, "/", std::filesystem::path(folder).filename().string(), ".h5"), tested);
    write_npz(folder + "/scores.npz", {{"arr_0", {score.test_loss, score.test_accuracy}}});
    // Written last: its presence says that the fold is finished.
    write_score(scores, score);
    board.report(row, cat("test_loss ", fixed(score.test_loss, 4), "  test_acc ", fixed(score.test_accuracy, 4),
                          " (weights of epoch ", score.tested_epoch, ")"));
    return score;
}

}  // namespace bitloom
