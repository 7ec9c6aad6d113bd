#pragma once
// What all layers share: the table of their types, and the pass that draws their initial values.

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "engine/module.h"

namespace bitloom::layers {

/// Every layer type. A layer is named by its entry here, and the gradient check of the layers walks this table, so a
/// layer without a test row fails the suite.
enum class LayerType {
    conv2d,
    depthwise_conv2d,
    conv_transpose2d,
    dense,
    batch_norm,
    relu,
    relu6,
    leaky_relu,
    sigmoid,
    tanh,
    swish,
    softmax,
    max_pool2d,
    avg_pool2d,
    global_avg_pool2d,
    global_max_pool2d,
    flatten,
    dropout,
    drop_path,
    add,
    multiply,
    concat,
    zero_pad2d,
    option_a_shortcut,
    count
};
inline constexpr std::array<std::string_view, static_cast<int>(LayerType::count)> layer_type_names = {
    "Conv2d",          "DepthwiseConv2d",
    "ConvTranspose2d", "Dense",
    "BatchNorm",       "ReLU",
    "ReLU6",           "LeakyReLU",
    "Sigmoid",         "Tanh",
    "Swish",           "Softmax",
    "MaxPool2d",       "AvgPool2d",
    "GlobalAvgPool2d", "GlobalMaxPool2d",
    "Flatten",         "Dropout",
    "DropPath",        "Add",
    "Multiply",        "Concat",
    "ZeroPad2d",       "OptionAShortcut"};

/// A leaf module that computes. Its weights enter through Parameter::effective, so that weight transforms attach.
class Layer : public Module {
   public:
    std::string_view type() const final { return layer_type_names[static_cast<std::size_t>(type_)]; }
    LayerType layer_type() const { return type_; }
    /// Draws the initial values of its parameters and resets its buffers; a layer without state does nothing.
    virtual void initialize(std::uint64_t seed) { (void)seed; }

   protected:
    explicit Layer(LayerType type) : type_(type) {}
    /// The input of a layer that takes one. Throws Error for any other number.
    const Var& only(std::span<const Var> inputs) const {
        require(inputs.size() == 1, path(), ": ", type(), " takes one input, got ", inputs.size());
        return inputs[0];
    }

   private:
    LayerType type_;
};

/// Height and width; one number stands for both.
struct Extent2d {
    std::int64_t h = 1, w = 1;
    Extent2d(std::int64_t both) : h(both), w(both) {}
    Extent2d(std::int64_t height, std::int64_t width) : h(height), w(width) {}
    bool operator==(const Extent2d&) const = default;
};

}  // namespace bitloom::layers
