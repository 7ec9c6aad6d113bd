#include "quant/search/tuner.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <set>

#include "engine/error.h"

namespace bitloom::search {
namespace {

Space small_space() {
    Space space;
    space.integer("layers", 1, 5, 1, 3);
    space.choice("filters", {std::int64_t{4}, std::int64_t{8}, std::int64_t{16}});
    space.real("rate", 1e-4, 1e-1, 0, Sampling::logarithmic);
    space.boolean("bias");
    space.choice("pool", {std::string("max"), std::string("avg")}).conditions = {
        {"layers", {std::int64_t{3}, std::int64_t{4}, std::int64_t{5}}}};
    space.fixed("seed", std::int64_t{7});
    return space;
}

double number(const Trial& trial, const std::string& name) {
    const Value& value = trial.values.at(name);
    if (const auto* real = std::get_if<double>(&value)) return *real;
    return static_cast<double>(std::get<std::int64_t>(value));
}

// svhn-qkeras.md, 5.7.
TEST(Space, Encodings) {
    Space space;
    const Hyperparameter choice = space.choice("c", {std::int64_t{1}, std::int64_t{2}, std::int64_t{3}, std::int64_t{4},
                                                     std::int64_t{5}});
    const Hyperparameter integer = space.integer("i", 1, 5);
    const Hyperparameter stepped = space.integer("s", 16, 256, 16);
    const Hyperparameter logarithmic = space.real("l", 0.01, 100, 0, Sampling::logarithmic);
    const Hyperparameter flag = space.boolean("b");
    EXPECT_DOUBLE_EQ(choice.encode(std::int64_t{1}), 0.1);
    EXPECT_EQ(choice.decode(1.0), Value(std::int64_t{5}));
    EXPECT_EQ(choice.decode(0.19), Value(std::int64_t{1}));
    EXPECT_EQ(integer.decode(0.19), Value(std::int64_t{2}));
    EXPECT_EQ(integer.decode(0.125), Value(std::int64_t{1}));  // halfway: the lower
    EXPECT_EQ(stepped.decode(0.5), Value(std::int64_t{128}));  // 136 lies between 128 and 144
    EXPECT_EQ(stepped.decode(1.0), Value(std::int64_t{256}));
    EXPECT_DOUBLE_EQ(stepped.encode(std::int64_t{32}), 16.0 / 240);
    EXPECT_DOUBLE_EQ(logarithmic.encode(1.0), 0.5);
    EXPECT_NEAR(std::get<double>(logarithmic.decode(0.75)), 10, 1e-12);
    EXPECT_DOUBLE_EQ(flag.encode(true), 0.75);
    EXPECT_EQ(flag.decode(0.5), Value(true));
    EXPECT_THROW(choice.encode(std::int64_t{9}), Error);
    EXPECT_THROW(space.boolean("i"), Error);
    EXPECT_THROW(space.choice("empty", {}), Error);
    EXPECT_THROW(space.integer("range", 5, 1), Error);
}

TEST(Space, DecodeInvertsEncode) {
    const Space space = small_space();
    EXPECT_EQ(space.dimensions(), 5);
    for (int i = 0; i < 200; ++i) {
        Rng rng(3, "values", static_cast<std::uint64_t>(i));
        const Values values = space.sample(rng);
        EXPECT_EQ(values.contains("pool"), std::get<std::int64_t>(values.at("layers")) >= 3);
        const Values back = space.decode(space.encode(values));
        for (const auto& [name, value] : values)
            if (const auto* real = std::get_if<double>(&value))
                EXPECT_NEAR(std::get<double>(back.at(name)), *real, 1e-12);
            else
                EXPECT_EQ(back.at(name), value);
        EXPECT_EQ(values_from_json(values_to_json(values)), values);
    }
    EXPECT_THROW(values_from_json("[1]"), Error);
    EXPECT_THROW(values_from_json(R"({"a": {}})"), Error);
}

TEST(RandomTuner, TriesEachCombinationOnceAndStops) {
    Space space;
    space.integer("a", 0, 2);
    space.boolean("b");
    const auto tuner = make_random_tuner(space, {.most_trials = 100});
    std::set<std::string> seen;
    while (const std::optional<Trial> trial = tuner->ask()) {
        EXPECT_TRUE(seen.insert(values_to_json(trial->values)).second);
        tuner->tell(trial->id, 0);
    }
    EXPECT_GE(seen.size(), 5u);  // the sixth may hide from twenty draws
    EXPECT_LE(seen.size(), 6u);
}

// svhn-qkeras.md, 5.6.
TEST(Hyperband, RoundsOfThePublishedSetting) {
    const std::vector<std::vector<std::int64_t>> sizes{{98, 33, 11, 4, 2}, {41, 14, 5, 2}, {18, 6, 2}, {9, 3}, {6}};
    const std::vector<std::vector<std::int64_t>> epochs{
        {2, 4, 12, 34, 100}, {4, 12, 34, 100}, {12, 34, 100}, {34, 100}, {100}};
    const std::vector<HyperbandRound> rounds = hyperband_rounds(100, 3);
    std::size_t i = 0;
    for (std::size_t b = 0; b < sizes.size(); ++b)
        for (std::size_t r = 0; r < sizes[b].size(); ++r, ++i) {
            ASSERT_LT(i, rounds.size());
            EXPECT_EQ(rounds[i].bracket, 4 - static_cast<std::int64_t>(b));
            EXPECT_EQ(rounds[i].size, sizes[b][r]);
            EXPECT_EQ(rounds[i].epochs, epochs[b][r]);
        }
    EXPECT_EQ(i, rounds.size());
    EXPECT_THROW(hyperband_rounds(0, 3), Error);
    EXPECT_THROW(hyperband_rounds(10, 1), Error);
}

TEST(Hyperband, FillsEveryRoundAndPromotesTheBest) {
    Space space;
    space.real("x", 0, 1);
    const auto tuner = make_hyperband_tuner(space, {.seed = 5}, {.most_epochs = 9, .factor = 3, .iterations = 2});
    while (const std::optional<Trial> trial = tuner->ask()) tuner->tell(trial->id, number(*trial, "x"));
    for (const HyperbandRound& round : hyperband_rounds(9, 3))
        for (int iteration = 0; iteration < 2; ++iteration) {
            std::vector<double> before, here;
            for (const Trial& trial : tuner->trials()) {
                if (trial.iteration != iteration || trial.bracket != round.bracket) continue;
                if (trial.round == round.round - 1) before.push_back(trial.score);
                if (trial.round != round.round) continue;
                here.push_back(trial.score);
                EXPECT_EQ(trial.epochs, round.epochs);
                if (round.round == 0) continue;
                const Trial& parent = tuner->trial(trial.parent);
                EXPECT_EQ(parent.round, round.round - 1);
                EXPECT_EQ(parent.values, trial.values);
                EXPECT_EQ(trial.initial_epoch, parent.epochs);
            }
            ASSERT_EQ(std::ssize(here), round.size);
            if (round.round == 0) continue;
            std::sort(before.rbegin(), before.rend());
            std::sort(here.rbegin(), here.rend());
            before.resize(here.size());
            EXPECT_EQ(here, before);  // told one by one, so the promoted ones are the very best
        }
}

TEST(Hyperband, FailedTrialsDoNotStopTheSearch) {
    Space space;
    space.integer("x", 0, 3);  // fewer configurations than trials
    const auto tuner = make_hyperband_tuner(space, {}, {.most_epochs = 4, .factor = 2});
    std::int64_t asked = 0;
    while (const std::optional<Trial> trial = tuner->ask()) {
        if (++asked % 3 == 0)
            tuner->fail(trial->id);
        else
            tuner->tell(trial->id, number(*trial, "x"));
    }
    std::int64_t planned = 0;
    for (const HyperbandRound& round : hyperband_rounds(4, 2)) planned += round.size;
    EXPECT_EQ(asked, planned);
    for (const Trial& trial : tuner->trials())
        if (trial.initial_epoch > 0) {
            EXPECT_EQ(tuner->trial(trial.parent).status, TrialStatus::completed);
        }
}

TEST(BayesianTuner, FindsTheMinimumWithFewerTrialsThanChance) {
    Space space;
    for (const char* name : {"a", "b", "c"}) space.real(name, -2, 2);
    const auto score = [](const Trial& trial) {
        return std::pow(number(trial, "a") - 0.5, 2) + std::pow(number(trial, "b") + 1, 2) +
               std::pow(number(trial, "c"), 2);
    };
    const auto search = [&](Tuner& tuner) {
        while (const std::optional<Trial> trial = tuner.ask()) tuner.tell(trial->id, score(*trial));
        return tuner.best()->score;
    };
    for (const bool fit : {false, true}) {
        BayesianOptions options;
        options.process.fit_length = fit;
        if (fit) options.process.kernel = Matern::half3;
        const TunerOptions common{.goal = Goal::minimize, .most_trials = 30, .seed = 2};
        const double found = search(*make_bayesian_tuner(space, common, options));
        EXPECT_LT(found, 0.02) << fit;
        EXPECT_LT(found, search(*make_random_tuner(space, common)));
    }
}

TEST(BayesianTuner, NeverRepeatsAndCountsRunningTrials) {
    Space space;
    space.integer("x", 0, 9);
    const auto tuner = make_bayesian_tuner(space, {.most_trials = 9}, {});
    std::set<std::int64_t> seen;
    std::vector<Trial> under_way;
    while (std::optional<Trial> trial = tuner->ask()) {
        EXPECT_TRUE(seen.insert(std::get<std::int64_t>(trial->values.at("x"))).second);
        under_way.push_back(*trial);
        if (under_way.size() == 3) {
            tuner->tell(under_way.front().id, number(under_way.front(), "x"));
            under_way.erase(under_way.begin());
        }
    }
    EXPECT_EQ(seen.size(), 9u);
    EXPECT_EQ(tuner->running(), 2);
}

using MakeTuner = std::function<std::unique_ptr<Tuner>()>;

// A search that is saved and loaded after every trial, and killed with a trial under way, goes on as if nothing happened.
void expect_resumable(const MakeTuner& make) {
    const auto score = [](const Trial& trial) { return number(trial, "rate") + number(trial, "layers"); };
    const auto undisturbed = make();
    while (const std::optional<Trial> trial = undisturbed->ask()) undisturbed->tell(trial->id, score(*trial));
    std::string saved = make()->save();
    for (;;) {
        auto tuner = make();
        tuner->load(saved);
        if (!tuner->ask()) break;
        auto again = make();
        again->load(tuner->save());  // killed: the trial ran
        const std::optional<Trial> trial = again->ask();
        ASSERT_TRUE(trial);
        ASSERT_EQ(again->running(), 1);
        again->tell(trial->id, score(*trial), {{"metric", 1.5}});
        saved = again->save();
    }
    const auto resumed = make();
    resumed->load(saved);
    ASSERT_EQ(resumed->trials().size(), undisturbed->trials().size());
    for (std::size_t i = 0; i < resumed->trials().size(); ++i) {
        EXPECT_EQ(resumed->trials()[i].values, undisturbed->trials()[i].values) << i;
        EXPECT_EQ(resumed->trials()[i].score, undisturbed->trials()[i].score) << i;
        EXPECT_EQ(resumed->trials()[i].parent, undisturbed->trials()[i].parent) << i;
        EXPECT_EQ(resumed->trials()[i].metrics.at("metric"), 1.5);
    }
}

TEST(Resume, RandomTuner) {
    expect_resumable([] { return make_random_tuner(small_space(), {.most_trials = 12}); });
}
TEST(Resume, Hyperband) {
    expect_resumable([] { return make_hyperband_tuner(small_space(), {}, {.most_epochs = 4, .factor = 2}); });
}
TEST(Resume, BayesianTuner) {
    expect_resumable([] { return make_bayesian_tuner(small_space(), {.most_trials = 10}, {.starts = 10}); });
}

TEST(Resume, RefusesForeignStates) {
    const auto random = make_random_tuner(small_space(), {.seed = 1});
    const auto bayesian = make_bayesian_tuner(small_space(), {.seed = 1}, {});
    EXPECT_THROW(bayesian->load(random->save()), Error);
    EXPECT_THROW(make_random_tuner(small_space(), {.seed = 2})->load(random->save()), Error);
    EXPECT_THROW(make_random_tuner(Space(), {.seed = 1})->load(random->save()), Error);
    EXPECT_THROW(random->load("{}"), Error);
    EXPECT_THROW(random->load("nonsense"), Error);
    EXPECT_THROW(random->tell(0, 1), Error);
}

}  // namespace
}  // namespace bitloom::search
