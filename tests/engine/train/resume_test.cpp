// A run that was stopped and resumed equals the uninterrupted one, bit for bit.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>

#include "engine/train/callbacks.h"
#include "engine/train/signals.h"
#include "engine/train/trainer.h"
#include "tests/engine/train/toy.h"

namespace bitloom {
namespace {

constexpr int epochs = 4, steps_per_epoch = 5;

/// Raises the stop flag after a number of steps, or kills the process there.
class StopAfter final : public Callback {
public:
    StopAfter(std::atomic<bool>& flag, std::int64_t step, bool kill) : flag_(flag), step_(step), kill_(kill) {}
    std::string name() const override { return "stop"; }
    void after_step(Trainer& trainer) override {
        if (trainer.state().step != step_) return;
        if (kill_) raise(SIGKILL);
        flag_ = true;
    }

private:
    std::atomic<bool>& flag_;
    std::int64_t step_;
    bool kill_;
};

/// Changes a weight at the start of each epoch (as precision adjustment does) and reports a metric of its own.
class Nudge final : public Callback {
public:
    std::string name() const override { return "nudge"; }
    void before_epoch(Trainer& trainer) override {
        Tensor& weight = trainer.optimizer().parameters()[0].second->value;
        weight.write<float>()[0] += 0.125f;
        ++nudges_;
        trainer.record().extra["nudges"] = static_cast<double>(nudges_);
    }
    void save(Checkpoint& checkpoint) const override { checkpoint.integers["nudge.count"] = nudges_; }
    void load(const Checkpoint& checkpoint) override { nudges_ = integer_field(checkpoint, "nudge.count"); }

private:
    std::int64_t nudges_ = 0;
};

struct Outcome {
    bool interrupted = false;
    std::string stop_reason;
    std::string checkpoint, best, history;  // bytes of the files
    std::vector<float> weight;
    double passes = 0;
};

/// One process' part of a run in `folder`: from its checkpoint if there is one, to `stop_at` (-1: to the end).
Outcome run(const toy::Folder& folder, const std::string& optimizer_name, std::int64_t stop_at, std::int64_t every = 0,
            bool kill = false) {
    toy::Linear model;
    const auto optimizer = make_optimizer(optimizer_name, model.named_parameters(), 0.3, 1e-3);
    std::atomic<bool> stop{false};
    const std::string file = folder.file("run.h5");
    Trainer trainer(model, *optimizer, toy::cross_entropy,
                    {.epochs = epochs, .seed = 7, .checkpoint = file, .checkpoint_every_steps = every, .stop = &stop});
    trainer.add(std::make_shared<Nudge>());
    trainer.add(std::make_shared<EarlyStopping>(EarlyStoppingOptions{.patience = 3}));
    trainer.add(ModelCheckpoint::best(folder.file("best.h5")));
    trainer.add(std::make_shared<LearningRateSchedule>(
        parse_schedule("plateau:patience=1,min_delta=0.5,cooldown=1", 0.3, epochs)));
    trainer.add(std::make_shared<CsvHistory>(
        folder.file("history_dict.csv"),
        std::vector<std::string>{"loss", "accuracy", "val_loss", "val_accuracy", "lr", "nudges"}));
    trainer.add(std::make_shared<StopAfter>(stop, stop_at, kill));
    LoaderOptions options;
    options.batch_size = 8;
    options.shuffle = Shuffle::full;
    options.seed = 11;
    options.workers = 1;
    Loader train(toy::dataset(37, 1), options);  // the last batch is partial
    options.shuffle = Shuffle::none;
    Loader validation(toy::dataset(20, 2), options);
    EXPECT_EQ(train.batches(), steps_per_epoch);
    if (std::filesystem::exists(file)) trainer.resume(file);
    const TrainResult result = trainer.fit(train, &validation);
    return {result.interrupted,
            result.stop_reason,
            toy::text_of(file),
            toy::text_of(folder.file("best.h5")),
            toy::text_of(folder.file("history_dict.csv")),
            model.weight().values<float>(),
            model.passes()};
}

void expect_same(const Outcome& got, const Outcome& expected) {
    EXPECT_FALSE(got.interrupted);
    EXPECT_EQ(got.history, expected.history);
    EXPECT_EQ(got.weight, expected.weight);
    EXPECT_EQ(got.passes, expected.passes);
    // Whole files: parameters, buffers, optimizer state, callbacks' state, history.
    EXPECT_TRUE(got.checkpoint == expected.checkpoint) << "checkpoints differ";
    EXPECT_TRUE(got.best == expected.best) << "best weights differ";
}

class Resume : public testing::TestWithParam<std::string> {};

TEST_P(Resume, EqualsTheUninterruptedRunAtEveryPosition) {
    const toy::Folder whole_folder("whole");
    const Outcome whole = run(whole_folder, GetParam(), -1);
    ASSERT_FALSE(whole.interrupted);
    ASSERT_EQ(std::count(whole.history.begin(), whole.history.end(), '\n'), epochs + 1) << whole.history;
    ASSERT_NE(whole.history.find(",0.03,"), std::string::npos) << "the rate must fall on the way:\n" << whole.history;
    // First step, within an epoch, its last batch but one, its end, a later epoch.
    for (const std::int64_t stop_at : {1, 3, 4, 5, 6, 12, 19}) {
        SCOPED_TRACE(stop_at);
        const toy::Folder folder("cut");
        const Outcome part = run(folder, GetParam(), stop_at);
        EXPECT_TRUE(part.interrupted);
        EXPECT_EQ(part.passes, static_cast<double>(stop_at));
        expect_same(run(folder, GetParam(), -1), whole);
    }
}

INSTANTIATE_TEST_SUITE_P(Optimizers, Resume, testing::Values("sgd", "amsgrad", "keras-adam"), [](const auto& info) {
    std::string name = info.param;
    std::replace(name.begin(), name.end(), '-', '_');
    return name;
});

TEST(ResumeTwice, StoppedAgainAndAgain) {
    const toy::Folder whole_folder("whole-steps"), folder("cut-steps");
    const Outcome whole = run(whole_folder, "adam", -1);
    for (std::int64_t step = 1; step < epochs * steps_per_epoch; ++step)
        EXPECT_TRUE(run(folder, "adam", step).interrupted);
    expect_same(run(folder, "adam", -1), whole);
}

TEST(ResumeAfterKill, ContinuesFromTheLastCheckpointWritten) {
    const toy::Folder whole_folder("whole-kill");
    const Outcome whole = run(whole_folder, "adam", -1, 2);
    for (const int kill_at : {1, 2, 8, 11, 17}) {
        SCOPED_TRACE(kill_at);
        const toy::Folder folder("killed");
        const pid_t child = fork();
        ASSERT_GE(child, 0);
        if (child == 0) {
            run(folder, "adam", kill_at, 2, true);
            _exit(1);
        }
        int status = 0;
        waitpid(child, &status, 0);
        ASSERT_TRUE(WIFSIGNALED(status));
        expect_same(run(folder, "adam", -1, 2), whole);
    }
}

TEST(ResumeFinished, TrainsOnOnlyWhereEpochsAreLeft) {
    const toy::Folder folder("finished");
    const Outcome first = run(folder, "sgd", -1);
    expect_same(run(folder, "sgd", -1), first);
}

TEST(EarlyStoppingRun, StopsWhenPatienceIsSpentAndStaysStoppedOnResume) {
    const toy::Folder folder("early");
    const auto train_on = [&](std::int64_t& done) {
        toy::Linear model;
        const auto optimizer = make_optimizer("sgd", model.named_parameters(), 0);  // nothing ever improves
        Trainer trainer(model, *optimizer, toy::cross_entropy, {.epochs = 50, .checkpoint = folder.file("run.h5")});
        trainer.add(std::make_shared<EarlyStopping>(EarlyStoppingOptions{.patience = 3}));
        LoaderOptions options;
        options.batch_size = 8;
        Loader train(toy::dataset(16, 1), options), validation(toy::dataset(16, 2), options);
        if (std::filesystem::exists(folder.file("run.h5"))) trainer.resume(folder.file("run.h5"));
        const TrainResult result = trainer.fit(train, &validation);
        done = optimizer->steps();
        return result;
    };
    std::int64_t steps = 0;
    const TrainResult result = train_on(steps);
    EXPECT_EQ(result.history.size(), 4u);  // the first epoch is the best, three more without improvement
    EXPECT_EQ(result.stop_reason, "val_loss has not improved for 3 epochs");
    EXPECT_EQ(steps, 8);
    const TrainResult again = train_on(steps);
    EXPECT_EQ(again.stop_reason, result.stop_reason);
    EXPECT_EQ(again.history.size(), 4u);
    EXPECT_EQ(steps, 8);
}

TEST(History, ColumnsAndNumbersReadBackExactly) {
    const toy::Folder folder("csv");
    toy::Linear model;
    const auto optimizer = make_optimizer("sgd", model.named_parameters(), 0.1);
    Trainer trainer(model, *optimizer, toy::cross_entropy, {.epochs = 2});
    trainer.add(std::make_shared<CsvHistory>(folder.file("h.csv")));
    LoaderOptions options;
    options.batch_size = 8;
    Loader train(toy::dataset(16, 1), options);
    const TrainResult result = trainer.fit(train);
    std::ifstream in(folder.file("h.csv"));
    std::string line;
    std::getline(in, line);
    EXPECT_EQ(line, "loss,accuracy,val_loss,val_accuracy,lr");
    for (const EpochRecord& record : result.history) {
        std::getline(in, line);
        EXPECT_EQ(std::stod(line), record.loss);
        EXPECT_THAT(line, testing::EndsWith(",,,0.1"));  // no validation
    }
    EXPECT_FALSE(std::getline(in, line));
}

TEST(Best, KeepsTheEpochWithTheLowestLoss) {
    const toy::Folder folder("best");
    toy::Linear model;
    const auto optimizer = make_optimizer("sgd", model.named_parameters(), 0.5);
    Trainer trainer(model, *optimizer, toy::cross_entropy, {.epochs = 6});
    // From epoch 3 on the rate is absurd, so the best epoch is an early one.
    trainer.add(std::make_shared<LearningRateSchedule>(parse_schedule("step:3:200", 0.5, 6)));
    trainer.add(ModelCheckpoint::best(folder.file("best.h5")));
    trainer.add(ModelCheckpoint::last(folder.file("last.h5")));
    LoaderOptions options;
    options.batch_size = 8;
    Loader train(toy::dataset(40, 1), options), validation(toy::dataset(40, 2), options);
    const TrainResult result = trainer.fit(train, &validation);
    std::int64_t best = 0;
    for (const EpochRecord& record : result.history)
        if (record.validation_loss < result.history[static_cast<std::size_t>(best)].validation_loss)
            best = record.epoch;
    ASSERT_LT(best, 5);
    const Checkpoint kept = load_checkpoint(folder.file("best.h5")), last = load_checkpoint(folder.file("last.h5"));
    EXPECT_EQ(kept.integers.at("epoch"), best);
    EXPECT_EQ(kept.doubles.at("val_loss")[0], result.history[static_cast<std::size_t>(best)].validation_loss);
    EXPECT_EQ(last.integers.at("epoch"), 5);
    toy::Linear other;
    restore(other, last);
    EXPECT_EQ(other.weight().values<float>(), model.weight().values<float>());
}

TEST(Signals, TheFirstSetsTheFlagTheSecondExits) {
    for (const int number : {SIGINT, SIGTERM}) {
        const pid_t child = fork();
        ASSERT_GE(child, 0);
        if (child == 0) {
            const std::atomic<bool>& stop = install_stop_handlers();
            if (stop) _exit(1);
            raise(number);
            if (!stop) _exit(2);
            raise(number);
            _exit(3);
        }
        int status = 0;
        waitpid(child, &status, 0);
        EXPECT_TRUE(WIFEXITED(status));
        EXPECT_EQ(WEXITSTATUS(status), interrupted_exit_status);
    }
}

}  // namespace
}  // namespace bitloom
