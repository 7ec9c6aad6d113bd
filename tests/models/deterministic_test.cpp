// Weights after training, bit for bit: with set_deterministic(true) on any number of threads, without it on one and the
// same.

#include <gtest/gtest.h>

#include "engine/data/loader.h"
#include "engine/optim/optimizer.h"
#include "engine/random.h"
#include "engine/threads.h"
#include "models/registry.h"
#include "ops/kernels.h"
#include "ops/loss.h"

namespace bitloom {
namespace {

class Deterministic : public testing::Test {
   protected:
    ~Deterministic() override {
        set_deterministic(false);
        set_threads(threads_before_);
    }

   private:
    int threads_before_ = thread_count();
};

std::shared_ptr<const Dataset> random_images(std::int64_t count) {
    Tensor images = Tensor::empty({count, 32, 32, 3}, DType::u8);
    Rng rng(1, "deterministic_test");
    auto* pixel = images.write<std::uint8_t>();
    for (std::int64_t i = 0; i < images.numel(); ++i) pixel[i] = static_cast<std::uint8_t>(rng.next_u32());
    std::vector<std::int32_t> labels;
    for (std::int64_t i = 0; i < count; ++i) labels.push_back(static_cast<std::int32_t>(i % 10));
    return std::make_shared<MemoryDataset>(images, labels, 10);
}

struct Run {
    const char* model;
    int threads = 1;
    bool deterministic = true;
    int workers = 1;
    std::int64_t steps = 6, batch = 12;
};

/// Parameters and buffers after some steps, and the logits of the trained network, in bytes.
std::string train(const Run& run) {
    set_threads(run.threads);
    set_deterministic(run.deterministic);
    const auto network = make_model({.name = run.model, .input = {32, 32, 3}, .classes = 10}, 3);
    const auto optimizer =
        make_sgd(network->named_parameters(), {.learning_rate = 0.05, .momentum = 0.9, .weight_decay = 1e-4});
    LoaderOptions options;
    options.batch_size = run.batch;
    options.shuffle = Shuffle::full;
    options.workers = run.workers;
    options.seed = 2;
    Loader loader(random_images(4 * run.batch + 5), options);  // the last batch of an epoch is a small one
    Tape tape;
    Batch batch;
    std::int64_t epoch = 0;
    loader.start(epoch);
    for (std::int64_t step = 0; step < run.steps; ++step) {
        if (!loader.next(batch)) {
            loader.start(++epoch);
            loader.next(batch);
        }
        Context context{tape, true, 1, static_cast<std::uint64_t>(step)};
        tape.backward(ops::cross_entropy((*network)(context, tape.input(batch.images)), batch.labels));
        tape.reset();
        optimizer->step();
    }
    std::string state;
    const auto append = [&](const Tensor& t) { state.append(static_cast<const char*>(t.raw()), t.bytes()); };
    for (const auto& [path, parameter] : network->named_parameters()) append(parameter->value);
    for (const auto& [path, buffer] : network->named_buffers()) append(*buffer);
    Tape inference(Tape::Mode::inference);
    Context context{inference};
    append((*network)(context, inference.constant(batch.images)).value());
    return state;
}

TEST_F(Deterministic, ResNet20OnAnyNumberOfThreads) {
    const std::string one = train({.model = "resnet20"});
    for (const int threads : {2, 3})
        EXPECT_EQ(train({.model = "resnet20", .threads = threads}) == one, true) << threads;
}

TEST_F(Deterministic, SvhnCnnOnAnyNumberOfThreads) {
    const std::string one = train({.model = "svhn_cnn", .steps = 20, .batch = 64});
    for (const int threads : {2, 3, 5})
        EXPECT_EQ(train({.model = "svhn_cnn", .threads = threads, .steps = 20, .batch = 64}) == one, true) << threads;
}

TEST_F(Deterministic, NetworksWithDropoutAndWideDenseLayersToo) {
    for (const char* model : {"gpfq_cnn", "mnist_mlp"}) {
        const std::string one = train({.model = model, .steps = 2, .batch = 12});
        EXPECT_EQ(train({.model = model, .threads = 2, .steps = 2, .batch = 12}) == one, true) << model;
        EXPECT_EQ(train({.model = model, .threads = 3, .steps = 2, .batch = 12}) == one, true) << model;
    }
}

TEST_F(Deterministic, WithoutTheFlagTheLoadersThreadsChangeNothing) {
    for (const int threads : {1, 2}) {
        const std::string first =
            train({.model = "svhn_cnn", .threads = threads, .deterministic = false, .workers = 0, .batch = 64});
        for (const int workers : {1, 3})
            EXPECT_EQ(train({.model = "svhn_cnn",
                             .threads = threads,
                             .deterministic = false,
                             .workers = workers,
                             .batch = 64}) == first,
                      true)
                << threads << " threads, " << workers << " workers";
    }
}

/// The setting is what does it: a sum cut by threads differs from one cut otherwise.
TEST_F(Deterministic, IsNotWhatHappensAnyway) {
    const std::string one = train({.model = "svhn_cnn", .deterministic = false, .batch = 128});
    EXPECT_NE(train({.model = "svhn_cnn", .threads = 3, .deterministic = false, .batch = 128}) == one, true);
}

/// Gradients from slices are those from the whole batch, up to rounding.
TEST_F(Deterministic, SlicesComputeTheSameGradients) {
    const ops::OpKernels& kernels = ops::cpu_op_kernels();
    const ops::Conv2dGeometry g{.batch = 13,
                                .in_h = 9,
                                .in_w = 8,
                                .in_c = 16,
                                .out_h = 9,
                                .out_w = 8,
                                .out_c = 20,
                                .kernel_h = 3,
                                .kernel_w = 3,
                                .pad_top = 1,
                                .pad_bottom = 1,
                                .pad_left = 1,
                                .pad_right = 1};
    std::uint64_t seed = 0;
    const auto random = [&seed](const Shape& shape) {
        Tensor t = Tensor::empty(shape);
        Rng rng(++seed, "deterministic_test");
        // Integers: sums are exact in whatever order.
        float* p = t.write<float>();
        for (std::int64_t i = 0; i < t.numel(); ++i) p[i] = static_cast<float>(static_cast<int>(rng.below(7)) - 3);
        return t;
    };
    const Tensor x = random({13, 9, 8, 16}), dy = random({13, 9, 8, 20}), w = random({20, 3, 3, 16}), b = random({20});
    const Tensor u = random({13, 33}), dv = random({13, 17}), m = random({17, 33}), c = random({17});
    const auto all = [&] {
        Tensor y = Tensor::empty(dy.shape()), dx = Tensor::empty(x.shape()), dw = Tensor::empty(w.shape()),
               db = Tensor::empty(b.shape()), z = dy.clone();
        Tensor v = Tensor::empty(dv.shape()), du = Tensor::empty(u.shape()), dm = Tensor::empty(m.shape()),
               dc = Tensor::empty(c.shape()), r = Tensor::empty(dv.shape());
        kernels.conv2d_forward(g, x, w, &b, y);
        kernels.conv2d_inference(g, x, w, &b, &z, ops::NormEpilogue::relu, z);
        kernels.conv2d_backward_data(g, dy, w, dx);
        kernels.conv2d_backward_weights(g, x, dy, dw, &db);
        kernels.dense_forward(u, m, &c, v);
        kernels.dense_inference(u, m, &c, ops::NormEpilogue::relu, r);
        kernels.dense_backward_data(dv, m, du);
        kernels.dense_backward_weights(u, dv, dm, &dc);
        std::vector<std::vector<float>> values;
        for (const Tensor& t : {y, dx, dw, db, z, v, du, dm, dc, r}) values.push_back(t.values<float>());
        return values;
    };
    set_threads(2);
    const auto whole = all();
    set_deterministic(true);
    const auto sliced = all();
    for (std::size_t i = 0; i < whole.size(); ++i) EXPECT_EQ(sliced[i], whole[i]) << "result " << i;
}

}  // namespace
}  // namespace bitloom
