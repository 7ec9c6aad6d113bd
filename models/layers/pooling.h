#pragma once
// Pooling layers, NHWC.

#include "models/layers/padding.h"
#include "ops/pooling.h"

namespace bitloom::layers {

struct Pool2dConfig {
    Extent2d window = 2, stride = 2;
    PaddingRule padding{};  ///< VALID drops a remainder (13 -> 6), SAME keeps it (13 -> 7)
};
/// What ops:: pooling is called with for an input of this size; SAME resolved.
ops::Pool2dOptions pool_options(const Pool2dConfig& config, std::int64_t in_h, std::int64_t in_w);

/// Padding counts as -infinity.
class MaxPool2d final : public Layer {
   public:
    explicit MaxPool2d(const Pool2dConfig& config = {}) : Layer(LayerType::max_pool2d), config_(config) {}
    const Pool2dConfig& config() const { return config_; }

   protected:
    Var forward(Context& context, std::span<const Var> inputs) override;

   private:
    Pool2dConfig config_;
};

class AvgPool2d final : public Layer {
   public:
    /// include_pad: divide by the window's area (PyTorch's default), else by the real cells (Keras SAME).
    explicit AvgPool2d(const Pool2dConfig& config = {}, bool include_pad = false)
        : Layer(LayerType::avg_pool2d), config_(config), include_pad_(include_pad) {}
    const Pool2dConfig& config() const { return config_; }
    bool include_pad() const { return include_pad_; }

   protected:
    Var forward(Context& context, std::span<const Var> inputs) override;

   private:
    Pool2dConfig config_;
    bool include_pad_;
};

/// [N, H, W, C] -> [N, C]
class GlobalAvgPool2d final : public Layer {
   public:
    GlobalAvgPool2d() : Layer(LayerType::global_avg_pool2d) {}

   protected:
    Var forward(Context& context, std::span<const Var> inputs) override;
};

/// [N, H, W, C] -> [N, C]
class GlobalMaxPool2d final : public Layer {
   public:
    GlobalMaxPool2d() : Layer(LayerType::global_max_pool2d) {}

   protected:
    Var forward(Context& context, std::span<const Var> inputs) override;
};

}  // namespace bitloom::layers
