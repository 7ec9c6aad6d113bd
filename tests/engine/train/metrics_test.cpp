#include "engine/train/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "engine/train/evaluator.h"
#include "tests/engine/train/toy.h"

namespace bitloom {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

Tensor labels(const std::vector<std::int32_t>& values) {
    return Tensor::from<std::int32_t>({static_cast<std::int64_t>(values.size())}, values);
}

TEST(Metrics, CountsByHand) {
    // Predictions 2, 0, 0, 1; labels 2, 1, 0, 1.
    const Tensor z = Tensor::from<float>({4, 3}, std::vector<float>{0, 1, 2, 5, 4, 3, 1, 0, 0, -1, 3, 2});
    ClassificationMetrics m;
    m.add(z.rows(0, 1), labels({2}));
    m.add(z.rows(1, 3), labels({1, 0, 1}));
    EXPECT_EQ(m.count(), 4);
    EXPECT_EQ(m.correct(), 3);
    EXPECT_DOUBLE_EQ(m.accuracy(), 0.75);
    EXPECT_EQ(m.correct(2), 4);
    EXPECT_EQ(m.correct(5), 4);  // more than there are classes
    EXPECT_EQ(m.confusion(1, 0), 1);
    EXPECT_EQ(m.confusion(0, 1), 0);
    EXPECT_EQ(m.label_count(1), 2);
    EXPECT_EQ(m.predicted_count(0), 2);
    EXPECT_DOUBLE_EQ(m.recall(1), 0.5);
    EXPECT_DOUBLE_EQ(m.precision(0), 0.5);
    EXPECT_DOUBLE_EQ(m.precision(2), 1.0);
    const double expected = (std::log(std::exp(0.) + std::exp(1.) + std::exp(2.)) - 2 +
                             std::log(std::exp(5.) + std::exp(4.) + std::exp(3.)) - 4 + std::log(std::exp(1.) + 2) - 1 +
                             std::log(std::exp(-1.) + std::exp(3.) + std::exp(2.)) - 3) /
                            4;
    EXPECT_NEAR(m.cross_entropy(), expected, 1e-12);
}

TEST(Metrics, TiesGoToTheLowestIndex) {
    const Tensor z = Tensor::from<float>({3, 3}, std::vector<float>{1, 1, 1, 1, 1, 1, 1, 1, 1});
    ClassificationMetrics m;
    m.add(z, labels({0, 1, 2}));
    EXPECT_EQ(m.correct(1), 1);
    EXPECT_EQ(m.correct(2), 2);
    EXPECT_EQ(count_correct(z, labels({0, 1, 2})), 1);
    EXPECT_EQ(m.confusion(2, 0), 1);
}

TEST(Metrics, LargeLogitsDoNotOverflowAndNanIsNeverRight) {
    ClassificationMetrics m;
    m.add(Tensor::from<double>({1, 2}, std::vector<double>{1000, 1001}), labels({0}));
    EXPECT_NEAR(m.cross_entropy(), 1 + std::log1p(std::exp(-1.0)), 1e-12);
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const Tensor z = Tensor::from<float>({1, 3}, std::vector<float>{1, nan, 2});
    EXPECT_EQ(count_correct(z, labels({2})), 0);
    m = {};
    m.add(z, labels({2}));
    EXPECT_EQ(m.correct(), 0);
    EXPECT_EQ(m.correct(2), 1);
    EXPECT_TRUE(std::isnan(m.cross_entropy()));
    const float infinite = std::numeric_limits<float>::infinity();
    m = {};
    m.add(Tensor::from<float>({1, 2}, std::vector<float>{-infinite, 0}), labels({1}));
    EXPECT_EQ(m.cross_entropy(), 0);
}

TEST(Metrics, EmptyIsZeroAndClassesWithoutSamplesAreNan) {
    ClassificationMetrics m;
    EXPECT_EQ(m.accuracy(), 0);
    EXPECT_EQ(m.cross_entropy(), 0);
    m.add(Tensor::from<float>({1, 2}, std::vector<float>{1, 0}), labels({0}));
    EXPECT_TRUE(std::isnan(m.recall(1)));
    EXPECT_TRUE(std::isnan(m.precision(1)));
}

TEST(Metrics, SaysWhatIsWrong) {
    ClassificationMetrics m;
    const Tensor z = Tensor::zeros({2, 3});
    EXPECT_THAT([&] { m.add(z, labels({0, 3})); }, ThrowsMessage<Error>(HasSubstr("label 3 is outside [0, 3)")));
    EXPECT_THAT([&] { m.add(z, labels({0})); }, ThrowsMessage<Error>(HasSubstr("labels have shape [1]")));
    EXPECT_THAT([&] { m.add(Tensor::zeros({3}), labels({0, 1, 2})); }, ThrowsMessage<Error>(HasSubstr("[B, classes]")));
    m.add(z, labels({0, 1}));
    EXPECT_THAT([&] { m.add(Tensor::zeros({2, 4}), labels({0, 1})); }, ThrowsMessage<Error>(HasSubstr("4 classes")));
    EXPECT_THROW(m.correct(0), Error);
    EXPECT_THROW(m.confusion(3, 0), Error);
}

TEST(Evaluate, DoesNotDependOnTheBatchSizeAndFeedsTheSink) {
    toy::Linear model;
    const auto data = toy::dataset(53, 1);
    std::vector<float> first;
    ClassificationMetrics whole;
    for (const std::int64_t size : {53, 7, 1}) {
        LoaderOptions options;
        options.batch_size = size;
        Loader loader(data, options);
        std::vector<float> logits;
        std::int64_t done = 0;
        const ClassificationMetrics m = evaluate(model, loader,
                                                 {.sink =
                                                      [&](const Tensor& z, const Batch& batch) {
                                                          ASSERT_EQ(z.dim(0), batch.size());
                                                          const auto values = z.values<float>();
                                                          logits.insert(logits.end(), values.begin(), values.end());
                                                      },
                                                  .progress = [&](std::int64_t samples) { done = samples; }});
        EXPECT_EQ(done, 53);
        if (size == 53) {
            whole = m;
            first = logits;
        }
        EXPECT_EQ(logits, first);
        EXPECT_EQ(m.correct(), whole.correct());
        EXPECT_DOUBLE_EQ(m.cross_entropy(), whole.cross_entropy());
    }
    EXPECT_EQ(model.passes(), 0);  // inference leaves moving statistics alone
}

}  // namespace
}  // namespace bitloom
