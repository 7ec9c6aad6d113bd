#include "engine/train/schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "engine/error.h"

namespace bitloom {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

std::vector<double> rates(Schedule& schedule, int epochs) {
    std::vector<double> all;
    double rate = 99;
    for (int e = 0; e < epochs; ++e) all.push_back(rate = schedule.before_epoch(e, rate));
    return all;
}

TEST(Schedule, ConstantAndSteps) {
    EXPECT_EQ(rates(*parse_schedule("constant", 0.5, 9), 3), (std::vector<double>{0.5, 0.5, 0.5}));
    EXPECT_EQ(rates(*parse_schedule("step:1,3:0.5", 0.8, 9), 5), (std::vector<double>{0.8, 0.4, 0.4, 0.2, 0.2}));
    EXPECT_EQ(rates(*parse_schedule("step:0", 1, 9), 2), (std::vector<double>{0.1, 0.1}));
    EXPECT_EQ(rates(*parse_schedule("every:2:0.5", 1, 9), 5), (std::vector<double>{1, 1, 0.5, 0.5, 0.25}));
    // Two multiplications, one after the other, round as PyTorch's do.
    EXPECT_EQ(rates(*multi_step_schedule(0.3, {1, 2}, 0.1), 3)[2], 0.3 * 0.1 * 0.1);
}

TEST(Schedule, CosineRunsFromTheRateToTheMinimum) {
    const std::vector<double> r = rates(*parse_schedule("cosine", 0.2, 4), 5);
    EXPECT_DOUBLE_EQ(r[0], 0.2);
    EXPECT_NEAR(r[1], 0.1 * (1 + std::sqrt(0.5)), 1e-15);
    EXPECT_NEAR(r[2], 0.1, 1e-15);
    EXPECT_NEAR(r[4], 0, 1e-15);
    EXPECT_NEAR(rates(*parse_schedule("cosine:min_lr=0.1", 0.2, 4), 5)[2], 0.15, 1e-15);
    EXPECT_NEAR(rates(*cosine_schedule(0.2, 4, 0.1), 5)[4], 0.1, 1e-15);
}

TEST(Schedule, WarmUpThenTheRest) {
    const std::vector<double> r = rates(*parse_schedule("warmup:2+cosine", 1, 6), 7);
    EXPECT_DOUBLE_EQ(r[0], 0.5);
    EXPECT_DOUBLE_EQ(r[1], 1);
    EXPECT_DOUBLE_EQ(r[2], 1);  // the cosine begins here and spans the remaining four epochs
    EXPECT_NEAR(r[4], 0.5, 1e-15);
    EXPECT_NEAR(r[6], 0, 1e-15);
    EXPECT_EQ(rates(*parse_schedule("warmup:2+step:3:0.5", 1, 6), 5), (std::vector<double>{0.5, 1, 1, 0.5, 0.5}));
}

/// Feeds a plateau schedule; returns the rate after each epoch.
std::vector<double> feed(Schedule& schedule, const std::vector<double>& values, double rate) {
    std::vector<double> all;
    for (const double v : values) all.push_back(rate = schedule.after_epoch(rate, v));
    return all;
}

TEST(Schedule, PlateauInTheOrderOfKeras) {
    const auto make = [](const char* text) { return parse_schedule(text, 1, 100); };
    // patience 2, cooldown 2. Epoch 0 sets the best. 1, 2: wait 1, 2 -> rate 0.1, cooldown 2. 3: cooldown 1, wait 0,
    // not counted. 4: cooldown 0, so this epoch counts: wait 1. 5: wait 2 -> rate 0.01.
    auto s = make("plateau:factor=0.1,patience=2,min_delta=0,cooldown=2");
    EXPECT_EQ(feed(*s, {1, 1, 1, 1, 1, 1, 1}, 1), (std::vector<double>{1, 1, 0.1, 0.1, 0.1, 0.1 * 0.1, 0.1 * 0.1}));
    // Without cooldown the second fall comes two epochs after the first.
    s = make("plateau:patience=2,min_delta=0");
    EXPECT_EQ(feed(*s, {1, 1, 1, 1, 1}, 1), (std::vector<double>{1, 1, 0.1, 0.1, 0.1 * 0.1}));
    // An improvement of min_delta or less does not count, and does not move the best.
    s = make("plateau:patience=2,min_delta=0.25");
    EXPECT_EQ(feed(*s, {1, 0.875, 0.75}, 1), (std::vector<double>{1, 1, 0.1}));
    s = make("plateau:patience=2,min_delta=0.25");
    EXPECT_EQ(feed(*s, {1, 0.875, 0.5, 0.5, 0.5}, 1), (std::vector<double>{1, 1, 1, 1, 0.1}));
    // An improvement during the cooldown still moves the best.
    s = make("plateau:patience=1,min_delta=0,cooldown=2");
    EXPECT_EQ(feed(*s, {1, 1, 0.5, 0.75, 0.75}, 1)[1], 0.1);
    // Never below min_lr; there wait goes on and no cooldown begins.
    s = make("plateau:patience=1,min_delta=0,min_lr=0.05");
    EXPECT_EQ(feed(*s, {1, 1, 1, 1, 1}, 1), (std::vector<double>{1, 0.1, 0.05, 0.05, 0.05}));
    EXPECT_EQ(s->state(), (std::vector<double>{1, 2, 0})) << "wait keeps counting where the rate cannot fall";
    // Accuracies: larger is better.
    s = make("plateau:metric=val_accuracy,patience=1,min_delta=0");
    EXPECT_EQ(s->watches(), "val_accuracy");
    EXPECT_EQ(feed(*s, {0.5, 0.6, 0.6}, 1), (std::vector<double>{1, 1, 0.1}));
}

TEST(Schedule, PlateauStateContinues) {
    const std::vector<double> values{1, 1, 1, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9};
    for (std::size_t cut = 0; cut <= values.size(); ++cut) {
        const char* text = "warmup:1+plateau:patience=2,min_delta=0,cooldown=1";
        const auto run = [](Schedule& s, const std::vector<double>& v, std::size_t first, std::size_t last,
                            double& rate) {
            for (std::size_t e = first; e < last; ++e) {
                rate = s.before_epoch(static_cast<std::int64_t>(e), rate);
                rate = s.after_epoch(rate, v[e]);
            }
        };
        const auto whole = parse_schedule(text, 1, 10), before = parse_schedule(text, 1, 10),
                   after = parse_schedule(text, 1, 10);
        double expected = 1, rate = 1;
        run(*whole, values, 0, values.size(), expected);
        run(*before, values, 0, cut, rate);
        after->load_state(before->state());
        run(*after, values, cut, values.size(), rate);
        EXPECT_EQ(rate, expected) << "cut at " << cut;
        EXPECT_EQ(after->state(), whole->state());
    }
}

TEST(Schedule, SaysWhatIsWrong) {
    for (const auto& [text, message] :
         std::vector<std::pair<std::string, std::string>>{{"", "known: constant"},
                                                          {"linear", "known: constant"},
                                                          {"two\nlines\x1b", "'two\\x0alines\\x1b'"},
                                                          {"step", "'' is not a number"},
                                                          {"step:3,x", "'x' is not a number"},
                                                          {"step:-1", "epoch -1 is not in"},
                                                          {"step:1:0.1:2", "nothing may follow '0.1'"},
                                                          {"constant:3", "nothing may follow 'constant'"},
                                                          {"every:0", "period 0 is not in"},
                                                          {"cosine:5", "cosine knows min_lr"},
                                                          {"cosine:min_lr=2", "min_lr 2 is not in [0, 1]"},
                                                          {"plateau:patience", "'patience' is not KEY=VALUE"},
                                                          {"plateau:speed=3", "not 'speed'"},
                                                          {"plateau:factor=nan", "factor nan is not in"},
                                                          {"warmup:3", "warmup:EPOCHS+SCHEDULE"},
                                                          {"warmup:0+constant", "warm-up 0 is not in"}})
        EXPECT_THAT([&text = text] { parse_schedule(text, 1, 10); }, ThrowsMessage<UsageError>(HasSubstr(message))) << text;
}

}  // namespace
}  // namespace bitloom
