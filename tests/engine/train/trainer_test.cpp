#include "engine/train/trainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "engine/train/callbacks.h"
#include "engine/train/evaluator.h"
#include "tests/engine/train/toy.h"

namespace bitloom {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

/// Notes the events, without repeats of whole steps.
class Recorder final : public Callback {
   public:
    explicit Recorder(std::vector<std::string>& events, std::string tag = "") : events_(events), tag_(std::move(tag)) {}
    std::string name() const override { return "recorder" + tag_; }
    void on_load(Trainer&) override { note("on_load"); }
    void before_epoch(Trainer&) override { note("before_epoch"); }
    void before_forward(Trainer&) override { note("before_forward"); }
    void after_backward(Trainer& t) override {
        EXPECT_TRUE(t.optimizer().parameters()[0].second->grad.defined());
        note("after_backward");
    }
    void after_step(Trainer&) override { note("after_step"); }
    void before_evaluate_or_save(Trainer&) override { note("before_evaluate_or_save"); }
    void after_epoch(Trainer&) override { note("after_epoch"); }
    void after_training(Trainer&) override { note("after_training"); }

   private:
    void note(const std::string& event) { events_.push_back(event + tag_); }
    std::vector<std::string>& events_;
    std::string tag_;
};

LoaderOptions batches_of(std::int64_t size, bool shuffle = false) {
    LoaderOptions options;
    options.batch_size = size;
    options.shuffle = shuffle ? Shuffle::full : Shuffle::none;
    options.workers = 0;
    options.seed = 5;
    return options;
}

TEST(Callbacks, EpochsThatDoNotCountAreNeitherBestNorWaitedFor) {
    const toy::Folder folder("counts");
    toy::Linear model;
    const auto optimizer = make_optimizer("sgd", model.named_parameters(), 0.0);  // val_loss never improves
    Trainer trainer(model, *optimizer, toy::cross_entropy, {.epochs = 20});
    const auto counts = [&trainer] { return trainer.state().epoch >= 6; };
    trainer.add(std::make_shared<EarlyStopping>(EarlyStoppingOptions{.patience = 3, .counts = counts}));
    trainer.add(ModelCheckpoint::best(folder.file("best.h5"), "val_loss", counts));
    Loader train(toy::dataset(60, 1), batches_of(16)), validation(toy::dataset(40, 2), batches_of(32));
    EXPECT_EQ(trainer.fit(train, &validation).history.size(), 10u);  // 6 is the best, 7 to 9 improve on nothing
    EXPECT_EQ(load_checkpoint(folder.file("best.h5")).integers.at("epoch"), 6);
}

TEST(Trainer, LearnsAndReportsWhatEvaluationFinds) {
    toy::Linear model;
    const auto optimizer = make_optimizer("sgd", model.named_parameters(), 1.0);
    Trainer trainer(model, *optimizer, toy::cross_entropy, {.epochs = 15});
    Loader train(toy::dataset(300, 1), batches_of(16, true)), validation(toy::dataset(100, 2), batches_of(32));
    const TrainResult result = trainer.fit(train, &validation);
    EXPECT_FALSE(result.interrupted);
    ASSERT_EQ(result.history.size(), 15u);
    EXPECT_GT(result.history.back().validation_accuracy, 0.9);
    EXPECT_LT(result.history.back().loss, result.history.front().loss);
    const ClassificationMetrics again = evaluate(model, validation);
    EXPECT_EQ(result.history.back().validation_accuracy, again.accuracy());
    EXPECT_EQ(result.history.back().validation_loss, again.cross_entropy());
    EXPECT_EQ(optimizer->steps(), 15 * 19);
    EXPECT_EQ(model.passes(), 15 * 19);
    EXPECT_FALSE(optimizer->parameters()[0].second->grad.defined());
}

TEST(Trainer, TrainingMeansAreWeightedByBatchSize) {
    // A rate of 0 leaves the weights: the running means must then equal an evaluation of the same data.
    for (const bool by_sample : {true, false}) {
        toy::Linear model;
        const auto optimizer = make_optimizer("sgd", model.named_parameters(), 0);
        Trainer trainer(model, *optimizer, toy::cross_entropy, {.epochs = 1, .average_by_sample = by_sample});
        const auto data = toy::dataset(10, 1);
        Loader train(data, batches_of(7)), all(data, batches_of(10));  // batches of 7 and 3
        const EpochRecord record = trainer.fit(train).history[0];
        const ClassificationMetrics whole = evaluate(model, all);
        double plain_loss = 0, plain_accuracy = 0;
        evaluate(model, train, {.sink = [&](const Tensor& logits, const Batch& batch) {
                     ClassificationMetrics m;
                     m.add(logits, batch.labels);
                     plain_loss += m.cross_entropy() / 2;
                     plain_accuracy += m.accuracy() / 2;
                 }});
        ASSERT_GT(std::abs(plain_loss - whole.cross_entropy()), 1e-4);
        EXPECT_NEAR(record.loss, by_sample ? whole.cross_entropy() : plain_loss, 1e-6);
        EXPECT_NEAR(record.accuracy, by_sample ? whole.accuracy() : plain_accuracy, 1e-12);
        EXPECT_TRUE(std::isnan(record.validation_loss));
    }
}

TEST(Trainer, EventsComeInTheFixedOrder) {
    toy::Linear model;
    const auto optimizer = make_optimizer("sgd", model.named_parameters(), 0.1);
    std::vector<std::string> events;
    optimizer->parameters()[1].second->projection = [&](Parameter&) { events.push_back("projection"); };
    Trainer trainer(model, *optimizer, toy::cross_entropy, {.epochs = 1});
    trainer.add(std::make_shared<Recorder>(events));
    trainer.add(std::make_shared<Recorder>(events, "2"));
    EXPECT_THAT([&] { trainer.add(std::make_shared<Recorder>(events)); },
                ThrowsMessage<Error>(HasSubstr("'recorder'")));
    Loader train(toy::dataset(4, 1), batches_of(2));
    trainer.fit(train);
    std::vector<std::string> expected;
    const auto both = [&](const std::string& event) { expected.insert(expected.end(), {event, event + "2"}); };
    both("on_load");
    both("before_epoch");
    for (int step = 0; step < 2; ++step) {
        both("before_forward");
        both("after_backward");
        expected.push_back("projection");
        both("after_step");
    }
    both("before_evaluate_or_save");
    both("after_epoch");
    both("after_training");
    EXPECT_EQ(events, expected);
}

TEST(Trainer, LossTermsAddTheirGradient) {
    // loss + 3 * sum(bias): the bias' gradient grows by 3.
    const auto bias_after = [](bool with_term) {
        toy::Linear model;
        const auto optimizer = make_optimizer("sgd", model.named_parameters(), 0.5, 0, 0);
        Trainer trainer(model, *optimizer, toy::cross_entropy, {.epochs = 1});
        Parameter& bias = *optimizer->parameters()[1].second;
        if (with_term) {
            trainer.add_loss_term([&](Context& context) {
                const Var b = bias.effective(context);
                double sum = 0;
                for (const double v : b.value().values<double>()) sum += 3 * v;
                return context.tape.record("sum", {b}, Tensor::full({1}, sum), [](BackwardContext& c) {
                    c.give(0, Tensor::full({toy::classes}, 3 * c.grad().item()));
                });
            });
        }
        Loader train(toy::dataset(6, 1), batches_of(6));
        const TrainResult result = trainer.fit(train);
        EXPECT_EQ(result.history[0].regularization, 0);  // the bias starts at 0
        return bias.value.values<double>();
    };
    const std::vector<double> with = bias_after(true), without = bias_after(false);
    for (std::size_t i = 0; i < with.size(); ++i) EXPECT_NEAR(with[i], without[i] - 1.5, 1e-6);
}

TEST(Trainer, StopsAtALossThatIsNotFiniteBeforeAnyWeightMoves) {
    const toy::Folder folder("nan");
    toy::Linear model;
    const auto optimizer = make_optimizer("sgd", model.named_parameters(), 0.1);
    const auto exploding = [](Context& context, const Var& logits, const Batch& batch) {
        Var loss = toy::cross_entropy(context, logits, batch);
        if (context.step != 6) return loss;
        return context.tape.record("explode", {loss}, Tensor::full({1}, std::numeric_limits<double>::quiet_NaN()),
                                   [](BackwardContext& c) { c.give(0, c.grad()); });
    };
    Trainer trainer(model, *optimizer, exploding, {.epochs = 3, .checkpoint = folder.file("run.h5")});
    Loader train(toy::dataset(10, 1), batches_of(2));
    EXPECT_THAT(
        [&] { trainer.fit(train); },
        ThrowsMessage<Error>("training: the loss is nan in epoch 2, batch 2 (step 7); the last good checkpoint is " +
                             folder.file("run.h5")));
    for (const float w : model.weight().values<float>()) EXPECT_TRUE(std::isfinite(w));
    EXPECT_EQ(optimizer->steps(), 6);
    EXPECT_EQ(load_checkpoint(folder.file("run.h5")).integers.at("trainer.epoch"), 1);
}

TEST(Trainer, WeightsThatAreNotFiniteReplaceNoCheckpoint) {
    // The loss of the poisoned weights is never computed: the step is the last of the run.
    class Poison final : public Callback {
       public:
        std::string name() const override { return "poison"; }
        void after_step(Trainer& trainer) override {
            if (trainer.state().step == 10) static_cast<toy::Linear&>(trainer.model()).weight().fill(INFINITY);
        }
    };
    const toy::Folder folder("poison");
    toy::Linear model;
    const auto optimizer = make_optimizer("sgd", model.named_parameters(), 0.1);
    Trainer trainer(model, *optimizer, toy::cross_entropy, {.epochs = 2, .checkpoint = folder.file("run.h5")});
    trainer.add(std::make_shared<Poison>());
    Loader train(toy::dataset(10, 1), batches_of(2));
    EXPECT_THAT([&] { trainer.fit(train); },
                ThrowsMessage<Error>("training: 'weight' is not finite after step 10; the last good checkpoint is " +
                                     folder.file("run.h5")));
    EXPECT_EQ(load_checkpoint(folder.file("run.h5")).integers.at("trainer.epoch"), 1);
}

TEST(Trainer, RefusesCheckpointsOfOtherRuns) {
    const toy::Folder folder("foreign");
    const std::string file = folder.file("run.h5");
    Loader train(toy::dataset(10, 1), batches_of(2)), other_batches(toy::dataset(10, 1), batches_of(5));
    const auto run = [&](Module& model, const char* optimizer_name, TrainerOptions options, Loader& loader,
                         bool resume) {
        const auto optimizer = make_optimizer(optimizer_name, model.named_parameters(), 0.1);
        Trainer trainer(model, *optimizer, toy::cross_entropy, std::move(options));
        if (resume) trainer.resume(file);
        trainer.fit(loader);
    };
    const TrainerOptions options{.epochs = 1, .checkpoint = file, .model_description = R"({"name": "toy"})"};
    toy::Linear model, wider(5);
    run(model, "sgd", options, train, false);
    TrainerOptions changed = options;
    const auto refusal = [&](Module& m, const char* optimizer, const TrainerOptions& o, Loader& loader) {
        try {
            run(m, optimizer, o, loader, true);
        } catch (const Error& error) {
            return std::string(error.what());
        }
        return std::string("accepted");
    };
    EXPECT_EQ(refusal(model, "sgd", options, train), "accepted");
    EXPECT_THAT(refusal(wider, "sgd", options, train),
                HasSubstr("'weight' has shape [3, 4] in the checkpoint, [5, 4]"));
    EXPECT_THAT(refusal(wider, "sgd", options, train), HasSubstr(file));
    EXPECT_THAT(refusal(model, "adam", options, train), HasSubstr("the optimizer was sgd, not adam"));
    EXPECT_THAT(refusal(model, "sgd", options, other_batches), HasSubstr("5 batches an epoch, this one has 2"));
    changed.seed = 9;
    EXPECT_THAT(refusal(model, "sgd", changed, train), HasSubstr("seed 1, not 9"));
    changed = options;
    changed.model_description = R"({"name": "resnet20"})";
    EXPECT_THAT(refusal(model, "sgd", changed, train),
                HasSubstr("checkpoint of the model {\"name\": \"toy\"}, not of"));
    Checkpoint weights;
    weights.model = options.model_description;
    gather(model, weights);
    save_checkpoint(file, weights);
    EXPECT_THAT(refusal(model, "sgd", options, train), HasSubstr("holds weights only"));
}

TEST(Trainer, CallbacksOnValidationNeedValidation) {
    toy::Linear model;
    const auto optimizer = make_optimizer("sgd", model.named_parameters(), 0.1);
    Trainer trainer(model, *optimizer, toy::cross_entropy, {.epochs = 1});
    trainer.add(std::make_shared<EarlyStopping>(EarlyStoppingOptions{}));
    Loader train(toy::dataset(10, 1), batches_of(2));
    EXPECT_THAT([&] { trainer.fit(train); },
                ThrowsMessage<Error>("early stopping watches val_loss, but the run has no validation data"));
}

}  // namespace
}  // namespace bitloom
