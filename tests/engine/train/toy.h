#pragma once
// A network small enough to train in milliseconds, made of closures: the trainer must not need the ops library.

#include <stdlib.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>

#include "engine/data/loader.h"
#include "engine/module.h"
#include "engine/random.h"
#include "engine/train/trainer.h"

namespace bitloom::toy {

inline constexpr int features = 4, classes = 3;

/// logits = x W^T + b, with a buffer that counts the training passes (as moving statistics do, it must be restored
/// too).
class Linear final : public Module {
public:
    explicit Linear(int outputs = classes)
        : weight_(Tensor::empty({outputs, features})), bias_(Tensor::zeros({outputs})) {
        Rng rng(3, "toy");
        fill_normal(weight_.value, 0, 0.5, rng);
        register_parameter("weight", weight_);
        register_parameter("bias", bias_);
        register_buffer("passes", passes_);
        assign_paths();
    }
    std::string_view type() const override { return "Linear"; }
    Tensor& weight() { return weight_.value; }
    double passes() const { return passes_.item(); }

protected:
    Var forward(Context& context, std::span<const Var> inputs) override {
        if (context.training) *passes_.write<float>() += 1;
        const Tensor x = inputs[0].value().reshape({inputs[0].dim(0), features});
        const Var weight = weight_.effective(context), bias = bias_.effective(context);
        const std::int64_t batch = x.dim(0), outputs = weight.dim(0);
        Tensor y = Tensor::empty({batch, outputs});
        float* out = y.write<float>();
        for (std::int64_t i = 0; i < batch; ++i)
            for (std::int64_t o = 0; o < outputs; ++o) {
                float sum = bias.value().read<float>()[o];
                for (int k = 0; k < features; ++k)
                    sum += x.read<float>()[i * features + k] * weight.value().read<float>()[o * features + k];
                out[i * outputs + o] = sum;
            }
        return context.tape.record("toy_linear", {weight, bias}, std::move(y), [x](BackwardContext& c) {
            const std::int64_t batch = x.dim(0), outputs = c.grad().dim(1);
            Tensor dw = Tensor::zeros({outputs, features}), db = Tensor::zeros({outputs});
            for (std::int64_t i = 0; i < batch; ++i)
                for (std::int64_t o = 0; o < outputs; ++o) {
                    const float g = c.grad().read<float>()[i * outputs + o];
                    db.write<float>()[o] += g;
                    for (int k = 0; k < features; ++k)
                        dw.write<float>()[o * features + k] += g * x.read<float>()[i * features + k];
                }
            c.give(0, dw);
            c.give(1, db);
        });
    }

private:
    Parameter weight_, bias_;
    Tensor passes_ = Tensor::zeros({1});
};

/// Mean softmax cross-entropy.
inline Var cross_entropy(Context& context, const Var& logits, const Batch& batch) {
    const std::int64_t n = logits.dim(0), c = logits.dim(1);
    Tensor gradient = Tensor::empty({n, c});
    double sum = 0;
    for (std::int64_t i = 0; i < n; ++i) {
        const float* z = logits.value().read<float>() + i * c;
        const std::int32_t label = batch.labels.read<std::int32_t>()[i];
        double total = 0;
        for (std::int64_t j = 0; j < c; ++j) total += std::exp(static_cast<double>(z[j]));
        sum += std::log(total) - static_cast<double>(z[label]);
        for (std::int64_t j = 0; j < c; ++j)
            gradient.write<float>()[i * c + j] = static_cast<float>(
                (std::exp(static_cast<double>(z[j])) / total - (j == label)) / static_cast<double>(n));
    }
    return context.tape.record("toy_cross_entropy", {logits}, Tensor::full({1}, sum / static_cast<double>(n)),
                               [gradient](BackwardContext& b) { b.give(0, gradient); });
}

/// `size` images 1x1x4 of random bytes; the label is the largest of the first three, so a linear network can learn it.
inline std::shared_ptr<const Dataset> dataset(std::int64_t size, std::uint64_t seed) {
    Rng rng(seed, "toy-data");
    Tensor images = Tensor::empty({size, 1, 1, features}, DType::u8);
    std::vector<std::int32_t> labels;
    for (std::int64_t i = 0; i < size; ++i) {
        std::uint8_t* x = images.write<std::uint8_t>() + i * features;
        for (int k = 0; k < features; ++k) x[k] = static_cast<std::uint8_t>(rng.below(256));
        labels.push_back(static_cast<std::int32_t>(std::max_element(x, x + classes) - x));
    }
    return std::make_shared<MemoryDataset>(images, labels, classes);
}

/// A folder of its own for a test, removed at the end.
struct Folder {
    explicit Folder(const std::string& name) {
        std::string made = (std::filesystem::temp_directory_path() / ("bitloom-train-" + name + "-XXXXXX")).string();
        if (!::mkdtemp(made.data())) fail("cannot make a temporary folder");
        path = made;
    }
    ~Folder() { std::filesystem::remove_all(path); }
    std::string file(const std::string& name) const { return (path / name).string(); }
    std::filesystem::path path;
};

inline std::string text_of(const std::string& path) {
    std::ostringstream text;
    text << std::ifstream(path, std::ios::binary).rdbuf();
    return text.str();
}

}  // namespace bitloom::toy
