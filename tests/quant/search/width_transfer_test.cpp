#include "quant/search/width_transfer.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "engine/random.h"
#include "models/registry.h"

namespace bitloom::search {
namespace {

ModelOptions with_widths(const std::vector<std::int64_t>& filters, const std::vector<std::int64_t>& units) {
    ModelOptions options{.name = "svhn_cnn", .input = {32, 32, 3}, .classes = 10};
    options.filters = filters, options.dense_units = units;
    return resolve(options);
}

Tensor output(Module& network) {
    Tensor x = Tensor::empty({3, 32, 32, 3});
    Rng rng(7, "images");
    fill_normal(x, 0, 1, rng);
    Tape tape(Tape::Mode::inference);
    Context context{tape};
    return network(context, tape.constant(x)).value();
}

/// Moving statistics and scales that differ from channel to channel, as training leaves them.
void train_somewhat(Module& network) {
    Rng rng(3, "statistics");
    for (const auto& [path, parameter] : network.named_parameters())
        if (parameter->value.rank() == 1 && path.find("batch") != std::string::npos) {
            float* v = parameter->value.write<float>();
            for (std::int64_t i = 0; i < parameter->value.numel(); ++i) v[i] = 0.3F + static_cast<float>(i % 5) / 4;
        }
    for (const auto& [path, buffer] : network.named_buffers())
        if (path.ends_with("running_var")) fill_uniform(*buffer, 0.5, 2, rng);
}

const Tensor& tensor(const Checkpoint& checkpoint, const std::string& name) {
    for (const auto& [other, value] : checkpoint.parameters)
        if (other == name) return value;
    throw Error("no " + name);
}

TEST(WidthTransfer, EqualWidthsAreACopy) {
    const auto source = make_model(with_widths({4, 5, 6}, {7, 8}), 1), target = make_model(with_widths({4, 5, 6}, {7, 8}), 2);
    train_somewhat(*source);
    Checkpoint trained;
    gather(*source, trained);
    restore(*target, transferred_widths(*target, trained));
    EXPECT_EQ(output(*target).values<float>(), output(*source).values<float>());
}

// Channels that nothing reads weigh nothing: a network without them computes the same. The order of the kept ones, the cells
// of the flattened map and the batch norms' statistics all have to be right for that.
TEST(WidthTransfer, ChannelsThatNothingReadsAreTheOnesThatGo) {
    const auto source = make_model(with_widths({4, 5, 6}, {7, 8}), 1);
    train_somewhat(*source);
    const auto silence = [&](const std::string& reader, std::int64_t channels, const std::vector<std::int64_t>& gone) {
        for (const auto& [path, parameter] : source->named_parameters()) {
            if (path != reader + ".weight") continue;
            float* w = parameter->value.write<float>();
            for (std::int64_t i = 0; i < parameter->value.numel(); ++i)
                if (std::count(gone.begin(), gone.end(), i % channels)) w[i] = 0;
        }
    };
    silence("conv_1", 4, {1});
    silence("conv_2", 5, {0, 3});
    silence("dense_0", 6, {2, 5});
    silence("dense_1", 7, {0, 1, 6});
    silence("output_dense", 8, {4});
    Checkpoint trained;
    gather(*source, trained);
    const auto target = make_model(with_widths({3, 3, 4}, {4, 7}), 2);
    restore(*target, transferred_widths(*target, trained));
    const std::vector<float> got = output(*target).values<float>(), want = output(*source).values<float>();
    ASSERT_EQ(got.size(), want.size());
    for (std::size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], want[i], 1e-5);
}

TEST(WidthTransfer, WiderLayersKeepTheirOwnFurtherChannels) {
    const auto source = make_model(with_widths({2, 3, 4}, {5, 6}), 1), target = make_model(with_widths({3, 3, 4}, {5, 6}), 2);
    Checkpoint trained, own;
    gather(*source, trained);
    gather(*target, own);
    const Checkpoint result = transferred_widths(*target, trained);
    const std::vector<float> from = tensor(trained, "conv_0.weight").values<float>(),
                             fresh = tensor(own, "conv_0.weight").values<float>(),
                             got = tensor(result, "conv_0.weight").values<float>();
    for (std::size_t i = 0; i < got.size(); ++i) EXPECT_EQ(got[i], i < 2 * 27 ? from[i] : fresh[i]);
    const std::vector<float> next = tensor(result, "conv_1.weight").values<float>(),
                             next_from = tensor(trained, "conv_1.weight").values<float>(),
                             next_fresh = tensor(own, "conv_1.weight").values<float>();
    for (std::size_t i = 0; i < next.size(); ++i) EXPECT_EQ(next[i], i % 3 < 2 ? next_from[i / 3 * 2 + i % 3] : next_fresh[i]);
}

TEST(WidthTransfer, OtherKernelSizesKeepTheNetworksOwnValues) {
    ModelOptions options = with_widths({4, 5, 6}, {7, 8});
    const auto source = make_model(options, 1);
    options.kernels = {5, 3, 3};
    const auto target = make_model(resolve(options), 2);
    Checkpoint trained, own;
    gather(*source, trained);
    gather(*target, own);
    const Checkpoint result = transferred_widths(*target, trained);
    EXPECT_EQ(tensor(result, "conv_0.weight").values<float>(), tensor(own, "conv_0.weight").values<float>());
    EXPECT_EQ(tensor(result, "conv_1.weight").values<float>(), tensor(trained, "conv_1.weight").values<float>());
    EXPECT_NO_THROW(restore(*target, result));
}

}  // namespace
}  // namespace bitloom::search
