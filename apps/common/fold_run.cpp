#include "apps/common/fold_run.h"

#include <algorithm>
#include <filesystem>

#include "apps/common/losses.h"
#include "apps/common/predictions.h"
#include "apps/common/run_folder.h"
#include "apps/common/text.h"
#include "engine/data/loader.h"
#include "engine/error.h"
#include "engine/io/atomic_file.h"
#include "engine/io/checkpoint.h"
#include "engine/io/npz.h"
#include "engine/random.h"
#include "engine/threads.h"
#include "engine/train/callbacks.h"
#include "engine/train/evaluator.h"
#include "engine/train/trainer.h"
#include "engine/training_kernels.h"
#include "models/registry.h"
#include "quant/checkpoints.h"
#include "quant/pruning/pruner.h"

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
    options.data_on_device = settings.data_on_device;
    return options;
}

void add_callbacks(Trainer& trainer, const FoldSettings& settings, const quant::SchemeList& schemes,
                   const std::string& folder) {
    // The epochs after which the network is what its schemes shall make of it; the last one is taken as it comes.
    const auto settled = [&settings, &schemes] { return settings.count_unsettled_epochs || schemes.settled(); };
    const auto candidate = [&trainer, settled] {
        return settled() || trainer.state().epoch + 1 == trainer.options().epochs;
    };
    EarlyStoppingOptions stopping;
    stopping.metric = "val_loss";
    stopping.patience = 10;
    stopping.counts = settled;
    PlateauOptions plateau;
    plateau.factor = 0.1;
    plateau.patience = 5;
    plateau.min_delta = 1e-4;
    plateau.cooldown = 2;
    plateau.min_lr = 1e-6;
    trainer.add(std::make_shared<EarlyStopping>(stopping));
    trainer.add(ModelCheckpoint::best(folder + "/model_best.h5", "val_loss", candidate));
    trainer.add(ModelCheckpoint::last(folder + "/weights_best.h5"));
    trainer.add(std::make_shared<LearningRateSchedule>(plateau_schedule(settings.adam.learning_rate, plateau)));
    trainer.add(std::make_shared<CsvHistory>(folder + "/history_dict.csv"));
}

FoldScore score_of(const TrainResult& result, int fold, std::int64_t tested, const ClassificationMetrics& test) {
    require(tested >= 0 && tested < std::ssize(result.history), "the tested weights are of epoch ", tested + 1, " of ",
            result.history.size());
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
    score.confusion = confusion_of(test);
    return score;
}

/// The network with its initial values and its schemes. The schemes' words go to the board.
std::unique_ptr<Module> build(const FoldSettings& settings, const FoldModel& what, std::uint64_t seed,
                              const quant::SchemeList& schemes) {
    std::unique_ptr<Module> network = make_model(what.network, seed);
    if (!what.initial_weights.empty()) quant::load_latent_weights(*network, what.initial_weights);
    schemes.attach(*network, what.network.input);
    if (what.initial_weights.empty()) schemes.adapt_initial_weights(*network);
    network->to(settings.device);
    return network;
}

/// Of all layers that a mask prunes; NaN where there is none.
double share_of_zeros(Module& network) {
    double zeros = 0, weights = 0;
    for (const auto& layer : quant::pruning::sparsity_of(network)) {
        zeros += static_cast<double>(layer.zeros);
        weights += static_cast<double>(layer.weights);
    }
    return zeros / weights;
}

}  // namespace

std::optional<FoldScore> run_fold(const FoldSettings& settings, const FoldModel& what, const std::string& folder,
                                  const Fold& data, std::shared_ptr<const Dataset> test, ProgressBoard& board,
                                  int row) {
    set_threads(settings.threads);
    make_folder(folder);
    const std::string scores = folder + "/scores.json", last = folder + "/last.h5";
    if (std::filesystem::exists(scores)) return read_score(scores);
    board.rename(row, what.name);
    const std::unique_ptr<DeviceLane> lane = open_lane(settings.device);  // folds side by side share a GPU

    const std::uint64_t seed = seed_of(settings, what.fold);
    const quant::SchemeList schemes =
        what.schemes.empty() ? quant::SchemeList() : quant::SchemeList::from_configuration(what.schemes);
    schemes.set_log([&](const std::string& words) { board.report(row, words); });
    const std::unique_ptr<Module> network = build(settings, what, seed, schemes);
    const std::unique_ptr<Optimizer> optimizer = make_adam(network->named_parameters(), settings.adam);

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
    options.step_graph = settings.step_graph;
    options.model_description = describe(what.network);
    options.configuration = quant::with_schemes(settings.configuration, schemes);
    Trainer trainer(*network, *optimizer, cross_entropy_loss(), options);
    schemes.add_to(trainer);
    add_callbacks(trainer, settings, schemes, folder);
    trainer.add(std::make_shared<BoardProgress>(board, row));
    if (std::filesystem::exists(last)) trainer.resume(last);
    const TrainResult result = trainer.fit(training, &validation);
    if (result.interrupted) return std::nullopt;

    const std::string tested_file = folder + (settings.test_last_epoch ? "/weights_best.h5" : "/model_best.h5");
    require(std::filesystem::exists(tested_file), "no epoch gave a finite validation loss");
    const Checkpoint tested = load_checkpoint(tested_file);
    schemes.fit_to(tested);
    restore(*network, tested);
    Loader testing(std::move(test), loader_options(settings, seed));
    FoldScore score = score_of(result, what.fold, integer_field(tested, "epoch"), evaluate(*network, testing));
    score.zeros = share_of_zeros(*network);
    save_checkpoint(cat(folder, "/", what.name, ".h5"), tested);
    write_npz(folder + "/scores.npz", {{"arr_0", {score.test_loss, score.test_accuracy}}});
    if (!schemes.empty()) write_file_atomically(folder + "/compression.json", schemes.report(*network) + "\n");
    // Written last: its presence says that the fold is finished.
    write_score(scores, score);
    board.report(row, cat("test_loss ", fixed(score.test_loss, 4), "  test_acc ", fixed(score.test_accuracy, 4),
                          " (weights of epoch ", score.tested_epoch, ")"));
    return score;
}

void forget_earlier_run(const FoldModel& model, const std::string& out_dir) {
    namespace fs = std::filesystem;
    const std::string folder = out_dir + "/" + model.name;
    // First what says that the fold is finished, then what says how far it is: cut short here, too, it is trained again.
    for (const char* name : {"scores.json", "last.h5", "model_best.h5", "weights_best.h5", "history_dict.csv", "scores.npz",
                             "compression.json"})
        fs::remove(folder + "/" + name);
    fs::remove(cat(folder, "/", model.name, ".h5"));
    for (const char* suffix : {"_first", "_second"}) fs::remove_all(folder + suffix);
}

std::optional<FoldScore> run_model(const FoldSettings& settings, const FoldModel& model, const std::string& out_dir,
                                   const Fold& data, std::shared_ptr<const Dataset> test, ProgressBoard& board,
                                   int row) {
    namespace fs = std::filesystem;
    const std::string folder = out_dir + "/" + model.name, first = folder + "_first", second = folder + "_second";
    if (!model.trained_twice) return run_fold(settings, model, folder, data, std::move(test), board, row);
    // Where the two renames below were cut in half.
    if (fs::exists(first) && !fs::exists(folder)) fs::rename(second, folder);
    const std::optional<FoldScore> score = run_fold(settings, model, folder, data, test, board, row);
    if (!score || fs::exists(first)) return score;
    FoldModel again = model;
    again.initial_weights = cat(folder, "/", model.name, ".h5");
    const std::optional<FoldScore> better = run_fold(settings, again, second, data, std::move(test), board, row);
    if (!better) return std::nullopt;
    fs::rename(folder, first);
    fs::rename(second, folder);
    return better;
}

}  // namespace bitloom
