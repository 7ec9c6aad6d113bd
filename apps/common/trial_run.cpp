#include "apps/common/trial_run.h"

#include <filesystem>

#include "apps/common/losses.h"
#include "apps/common/run_folder.h"
#include "engine/error.h"
#include "engine/io/checkpoint.h"
#include "engine/train/trainer.h"
#include "engine/training_kernels.h"
#include "models/registry.h"
#include "quant/checkpoints.h"
#include "quant/search/width_transfer.h"

namespace bitloom {

namespace {

void add_callbacks(Trainer& trainer, const TrialTraining& training, const std::string& folder, ProgressBoard& board,
                   int row) {
    if (training.patience > 0)
        trainer.add(std::make_shared<EarlyStopping>(
            EarlyStoppingOptions{.metric = training.stop_metric, .patience = training.patience}));
    trainer.add(ModelCheckpoint::best(folder + "/best.h5", training.metric));
    trainer.add(std::make_shared<LearningRateSchedule>(
        parse_schedule(training.schedule, training.learning_rate, training.epochs)));
    trainer.add(std::make_shared<CsvHistory>(folder + "/history.csv"));
    trainer.add(std::make_shared<BoardProgress>(board, row));
}

void adapt_weights(Module& model, const quant::SchemeList& schemes, const std::set<std::string>& except) {
    std::vector<std::pair<Parameter*, Tensor>> kept;
    for (const auto& [path, parameter] : model.named_parameters())
        if (except.contains(path.substr(0, path.rfind('.')))) kept.emplace_back(parameter, parameter->value.clone());
    schemes.adapt_initial_weights(model);
    for (auto& [parameter, value] : kept) parameter->value.copy_from(value);
}

TrialResult best_of(const std::vector<EpochRecord>& history, const std::string& metric) {
    TrialResult result;
    BestValue best(metric);
    for (const EpochRecord& record : history) {
        if (!best.update(record.metric(metric))) continue;
        result.best = best.best;
        result.loss = record.loss;
        result.accuracy = record.accuracy;
        result.validation_loss = record.validation_loss;
        result.validation_accuracy = record.validation_accuracy;
        result.best_epoch = record.epoch + 1;
    }
    result.epochs = std::ssize(history);
    if (result.best_epoch == 0) throw DivergedError(cat("no epoch gave a ", metric, " that is a number"));
    return result;
}

}  // namespace

std::optional<TrialResult> train_trial(const TrialTraining& training, const std::string& folder,
                                       std::shared_ptr<const Dataset> train, std::shared_ptr<const Dataset> validation,
                                       bool resume, const std::atomic<bool>* stop, ProgressBoard& board, int row) {
    make_folder(folder);
    const std::string last = folder + "/last.h5";
    if (!resume)
        for (const char* name : {"last.h5", "best.h5", "history.csv"}) std::filesystem::remove(folder + "/" + name);

    const std::unique_ptr<DeviceLane> lane = open_lane(training.evaluation.device);  // trials side by side share a GPU
    const std::unique_ptr<Module> model = make_model(training.network, training.seed);
    if (!training.initial_weights.empty()) {
        const Checkpoint source = load_checkpoint(training.initial_weights);
        quant::transfer(*model, training.other_widths ? search::transferred_widths(*model, source) : source);
    }
    const quant::SchemeList schemes =
        training.schemes.empty() ? quant::SchemeList() : quant::SchemeList::from_configuration(training.schemes);
    schemes.set_log([&](const std::string& line) { board.report(row, line); });
    schemes.attach(*model);
    if (training.adapt_except) adapt_weights(*model, schemes, *training.adapt_except);
    model->to(training.evaluation.device);
    const std::unique_ptr<Optimizer> optimizer =
        make_optimizer(training.optimizer, model->named_parameters(), training.learning_rate);
    Loader batches(std::move(train), training.training), held_out(std::move(validation), training.evaluation);

    TrainerOptions options;
    options.epochs = training.epochs;
    options.seed = training.seed;
    options.checkpoint = last;
    options.stop = stop;
    options.model_description = describe(training.network);
    options.configuration = quant::with_schemes(training.configuration, schemes);
    Trainer trainer(*model, *optimizer, cross_entropy_loss(), options);
    schemes.add_to(trainer);
    add_callbacks(trainer, training, folder, board, row);
    if (resume && std::filesystem::exists(last)) trainer.resume(last);
    const TrainResult result = trainer.fit(batches, &held_out);
    if (result.interrupted) return std::nullopt;
    return best_of(result.history, training.metric);
}

}  // namespace bitloom
