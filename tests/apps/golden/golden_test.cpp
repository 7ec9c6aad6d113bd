// The frame of golden programs: what counts as passed, failed and unknown.

#include "apps/golden/golden.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <sstream>

#include "apps/golden/families.h"
#include "tests/engine/io/temporary_folder.h"

namespace bitloom::golden {
namespace {

class GoldenFrame : public testing::Test {
   protected:
    void SetUp() override {
        path_ = folder_.file("frame.h5");
        hdf5::File file = hdf5::File::create(path_);
        file.write("family/double/0/x", Tensor::from({3}, std::vector<float>{1, 2, 3}));
        file.write("family/double/0/y", Tensor::from({3}, std::vector<float>{2, 4, 6}));
        file.write_attribute("family/double/0", "factor", 2.0);
        file.write_attribute("family/double/0", "alpha", std::string("None"));
        file.write_attribute("family/double/0", "label", std::string("twice"));
        file.write("family/double/1/x", Tensor::from({1}, std::vector<float>{1}));
        file.write("family/double/1/y", Tensor::from({1}, std::vector<float>{3}));
        file.write_attribute("family/double/1", "factor", 2.0);
        file.write("weights/w", Tensor::from({1}, std::vector<float>{1}));
        file.write("strange/case/x", Tensor::from({1}, std::vector<float>{1}));
        file.close();
        families_.add("family/double/*", [](const Case& c) {
            const Tensor x = c.tensor("x");
            std::vector<float> y;
            for (const float v : x.values<float>()) y.push_back(static_cast<float>(c.number("factor")) * v);
            expect_close("y", Tensor::from(x.shape(), y), c.tensor("y"), 1e-6);
        });
        families_.add_data("weights");
    }
    TemporaryFolder folder_;
    std::string path_;
    Families families_;
};

TEST_F(GoldenFrame, CountsPassedFailedAndUnknown) {
    std::ostringstream out;
    Report report(out);
    evaluate_file(hdf5::File::open(path_), families_, {}, report);
    EXPECT_EQ(report.finish(), 1);
    EXPECT_EQ(out.str(),
              "FAILED family/double/1: y: 1 of 1 values differ, the first at 0: got 2, expected 3\n"
              "FAILED strange/case: a group that this program does not know\n"
              "1 passed, 2 failed, 0 skipped\n");
}

TEST_F(GoldenFrame, ADatasetThatNothingReadsIsAFailure) {
    const std::string path = folder_.file("unread.h5");
    {
        hdf5::File file = hdf5::File::create(path);
        for (const char* name : {"family/read/x", "family/read/below/z", "family/not/x", "family/not/below/z", "family/told/x"})
            file.write(name, Tensor::from({1}, std::vector<float>{1}));
    }
    Families families;
    families.add("family/read", [](const Case& c) { c.tensor("x"), c.at("below").tensor("z"); });
    families.add("family/not", [](const Case& c) { c.tensor("x"); });
    families.add("family/told", [](const Case& c) { c.ignore(); });
    std::ostringstream out;
    Report report(out);
    evaluate_file(hdf5::File::open(path), families, {}, report);
    EXPECT_EQ(report.finish(), 1);
    EXPECT_EQ(out.str(), "FAILED family/not: a dataset that this program does not know: below/z\n2 passed, 1 failed, 0 skipped\n");
}

TEST_F(GoldenFrame, OnlyTheFamilyAskedFor) {
    std::ostringstream out;
    Report report(out);
    evaluate_file(hdf5::File::open(path_), families_, {"family/double/0"}, report);
    EXPECT_EQ(report.finish(), 0);
    EXPECT_EQ(out.str(), "1 passed, 0 failed, 0 skipped\n");
}

TEST_F(GoldenFrame, AttributesOfACase) {
    const hdf5::File file = hdf5::File::open(path_);
    const Case c(file, "family/double/0");
    EXPECT_EQ(c.attributes(), (std::vector<std::string>{"alpha", "factor", "label"}));
    EXPECT_TRUE(c.given("factor"));
    EXPECT_FALSE(c.given("alpha"));
    EXPECT_FALSE(c.given("absent"));
    EXPECT_EQ(c.text("factor"), "2");
    EXPECT_EQ(c.text_or("alpha", "none"), "none");
    EXPECT_EQ(c.part(1), "double");
    EXPECT_EQ(c.part(-1), "0");
    EXPECT_EQ(c.at("../1").path(), "family/double/1");
    EXPECT_THROW(c.number("label"), Error);
}

TEST(GoldenComparison, IsRelativeAboveOneAndRefusesNaN) {
    const auto one = [](float v) { return Tensor::from({1}, std::vector<float>{v}); };
    EXPECT_NO_THROW(expect_close("v", one(100.5f), one(100), 1e-2));
    EXPECT_THROW(expect_close("v", one(0.02f), one(0.001f), 1e-2), Error);
    EXPECT_THROW(expect_close("v", one(NAN), one(NAN), 1), Error);
    EXPECT_THROW(expect_close("v", one(1), Tensor::from({2}, std::vector<float>{1, 1}), 1), Error);
    EXPECT_NO_THROW(expect_equal("v", one(1), Tensor::from({1, 1}, std::vector<float>{1})));
    EXPECT_THROW(expect_equal("v", one(1), one(1.0000001f)), Error);
}

TEST(GoldenQTools, ScaleOfAMultiplierIsANumberFoundOrFixedAfterIt) {
    // The three cases of QKeras' own test; a number leaves the product as it is and needs no weights.
    struct Row {
        int bits, integer;
        std::string scale;
        int before, before_integer, after, after_integer;
    };
    const Row rows[] = {{8, 0, "1.0", 11, 2, 11, 2}, {4, 2, "auto_po2", 7, 4, 10, 5}, {4, 0, "post_training_scale", 7, 2, 10, 5}};
    const TemporaryFolder folder;
    const std::string path = folder.file("adjust.h5");
    {
        hdf5::File file = hdf5::File::create(path);
        for (const Row& row : rows) {
            const std::string group = "third_party/qtools_util_test/test_adjust_multiplier_for_auto_po2/" + row.scale;
            // A file needs a dataset for the group to be there.
            file.write(group + "/weights_2x4", Tensor::from({2, 4}, std::vector<float>{1.07f, -1.7f, 3.06f, 1.93f, .37f, -2.43f, 6.3f, -2.9f}));
            file.write_attribute(group, "weight_quantizer_scale_type", row.scale);
            file.write_attribute(group, "input_quantizer", std::string("quantized_bits(4,2,1)"));
            file.write_attribute(group, "w_bits", static_cast<double>(row.bits));
            file.write_attribute(group, "w_int_bits", static_cast<double>(row.integer));
            file.write_attribute(group, "expected_bits_before_adjustment", static_cast<double>(row.before));
            file.write_attribute(group, "expected_int_bits_before_adjustment", static_cast<double>(row.before_integer));
            file.write_attribute(group, "expected_bits_after_adjustment", static_cast<double>(row.after));
            file.write_attribute(group, "expected_int_bits_after_adjustment", static_cast<double>(row.after_integer));
        }
    }
    Families families;
    add_qkeras_qtools(families);
    std::ostringstream out;
    Report report(out);
    evaluate_file(hdf5::File::open(path), families, {}, report);
    EXPECT_EQ(report.finish(), 0);
    EXPECT_EQ(out.str(), "3 passed, 0 failed, 0 skipped\n");
}

/// Evaluates what `write` puts into a file; the report.
std::string evaluated(const std::function<void(hdf5::File&)>& write) {
    const TemporaryFolder folder;
    const std::string path = folder.file("cases.h5");
    {
        hdf5::File file = hdf5::File::create(path);
        write(file);
    }
    Families families;
    add_qkeras_quantizers(families);
    add_qkeras_third_party(families);
    add_qkeras_svhn(families);
    add_qkeras_qtools(families);
    std::ostringstream out;
    Report report(out);
    evaluate_file(hdf5::File::open(path), families, {}, report);
    report.finish();
    return out.str();
}

Tensor matrix(std::int64_t rows, std::int64_t columns, const std::vector<float>& values) {
    return Tensor::from({rows, columns}, values);
}

TEST(GoldenLayers, ActivationsMayBeFunctionsOfKeras) {
    EXPECT_EQ(evaluated([](hdf5::File& file) {
                  const auto dense = [&](const std::string& name, const std::string& activation, std::vector<float> y) {
                      const std::string group = "third_party/qlayers_test/test_qdense/" + name;
                      file.write(group + "/input_data", matrix(1, 2, {1, 2}));
                      file.write(group + "/weight_data", matrix(2, 2, {1, -1, 1, -1}));
                      file.write(group + "/expected_output", matrix(1, 2, std::move(y)));
                      file.write_attribute(group, "layer_kwargs",
                                           R"({"units": 2, "use_bias": false, "kernel_quantizer": null, "activation": )" + activation + "}");
                  };
                  dense("none", "null", {3, -3});
                  dense("linear", "\"linear\"", {3, -3});
                  dense("relu", "\"relu\"", {3, 0});
                  dense("softmax", "\"softmax\"", {0.99752738f, 0.00247262f});
                  dense("quantized", "\"quantized_relu(4,1)\"", {1.875f, 0});
                  dense("wrong", "\"relu\"", {3, -3});
              }),
              "FAILED third_party/qlayers_test/test_qdense/wrong: output: 1 of 2 values differ, the first at 1: got 0, expected -3\n"
              "5 passed, 1 failed, 0 skipped\n");
}

TEST(GoldenQuantizers, InferenceDrawsNothingAndOneScaleStandsForAllChannels) {
    EXPECT_EQ(evaluated([](hdf5::File& file) {
                  const std::string binary = "stochastic/stochastic_binary/0";
                  file.write(binary + "/x", matrix(2, 1, {-0.5f, 1.5f}));
                  file.write(binary + "/y", matrix(2, 1, {-1, 1}));
                  file.write(binary + "/scale", matrix(1, 1, {1}));
                  file.write_attribute(binary, "alpha", std::string("auto"));
                  file.write_attribute(binary, "phase", std::string("test"));
                  const auto fixed = [&](const std::string& group, const std::string& scale) {
                      file.write(group + "/x", matrix(1, 2, {0.3f, -0.8f}));
                      file.write(group + "/y", matrix(1, 2, {0.25f, -0.75f}));
                      file.write_attribute(group, "bits", 5.0);
                      file.write_attribute(group, "alpha", std::string("auto_po2"));
                      file.write_attribute(group, "post_training_scale", scale);
                  };
                  fixed("quantizers/quantized_bits_auto/0", "[[4.0, 4.0]]");  // 4 / 2^4 a code
                  fixed("quantizers/quantized_bits_auto/1", "[4.0]");
                  file.write("quantizers/quantized_bits_auto/1/scale", Tensor::from({1}, std::vector<float>{4}));
              }),
              "3 passed, 0 failed, 0 skipped\n");
}

TEST(GoldenQTools, WhatACaseLeavesToTheNetworkOfItsTest) {
    EXPECT_EQ(evaluated([](hdf5::File& file) {
                  const std::string root = "third_party/qtools_model_test/";
                  // QKeras' own test: the pointwise layer has three channels in front of it. The dataset, without which there
                  // would be no group, is all that may be complained of.
                  const std::string pointwise = root + "pointwise_after_depthwise";
                  file.write(pointwise + "/unused/x", matrix(1, 1, {0}));
                  file.write_attribute(pointwise, "weight", std::string("quantized_bits(4,0,1,alpha=1)"));
                  file.write_attribute(pointwise, "bias", std::string("quantized_bits(12,4,1)"));
                  for (const auto& [name, value] : {std::pair("mult_bits", 25.0), {"mult_int_bits", 8.0}, {"acc_bits", 28.0}, {"acc_int_bits", 11.0}})
                      file.write_attribute(pointwise, name, value);
                  const std::string trial = root + "qenergy_trial";
                  file.write(trial + "/d0", Tensor::from({4}, std::vector<float>{372.77f, 342.34f, 13997.95f, 15729}));
                  file.write(trial + "/d2", Tensor::from({4}, std::vector<float>{26.63f, 11.41f, 243.44f, 102.08f}));
                  file.write_attribute(trial, "config", std::string("as qenergy_reference; for_reference=false"));
                  file.write_attribute(trial, "total", 41070.0);
              }),
              "FAILED third_party/qtools_model_test/pointwise_after_depthwise: a dataset that this program does not know: unused/x\n"
              "1 passed, 1 failed, 0 skipped\n");
}

}  // namespace
}  // namespace bitloom::golden
