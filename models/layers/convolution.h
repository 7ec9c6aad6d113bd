#pragma once
// Convolution layers, NHWC, weights [out][kh][kw][in / groups].

#include "engine/parameter.h"
#include "models/initializers.h"
#include "models/layers/padding.h"

namespace bitloom::layers {

struct Conv2dConfig {
    std::int64_t in = 0, out = 0;  ///< channels
    Extent2d kernel = 3, stride = 1;
    PaddingRule padding{};
    Extent2d dilation = 1;
    std::int64_t groups = 1;
    bool bias = true;
    Initializer weight_init = Initializer::fan_in_uniform, bias_init = Initializer::fan_in_uniform;
};

class Conv2d : public Layer {
   public:
    /// Throws Error where extents are not positive or groups divide neither channel count.
    explicit Conv2d(const Conv2dConfig& config) : Conv2d(LayerType::conv2d, config) {}
    const Conv2dConfig& config() const { return config_; }
    Fans fans() const;
    /// What ops::conv2d is called with for an input of this size; SAME resolved.
    ops::Conv2dOptions options_for(std::int64_t in_h, std::int64_t in_w) const;
    void initialize(std::uint64_t seed) override;
    /// Gives a layer without bias one of zeros (folding). A layer that has one keeps it.
    void add_bias();

    Parameter weight;  ///< [out, kh, kw, in / groups]
    Parameter bias;    ///< [out]; undefined without bias

   protected:
    Conv2d(LayerType type, const Conv2dConfig& config);
    Var forward(Context& context, std::span<const Var> inputs) override;

   private:
    Conv2dConfig config_;
};

/// Each input channel its own group; `multiplier` output channels a group, output channel c multiplier + m.
class DepthwiseConv2d final : public Conv2d {
   public:
    /// config.out and config.groups are set from config.in.
    explicit DepthwiseConv2d(Conv2dConfig config, std::int64_t multiplier = 1);
};

struct ConvTranspose2dConfig {
    std::int64_t in = 0, out = 0;
    Extent2d kernel = 3, stride = 1;
    ops::Padding pads{};  ///< cells cut from the output's borders (PyTorch's padding); none is Keras VALID
    Extent2d output_padding = 0, dilation = 1;
    std::int64_t groups = 1;
    bool bias = true;
    Initializer weight_init = Initializer::fan_in_uniform, bias_init = Initializer::fan_in_uniform;
};

class ConvTranspose2d final : public Layer {
   public:
    explicit ConvTranspose2d(const ConvTranspose2dConfig& config);
    const ConvTranspose2dConfig& config() const { return config_; }
    /// Both PyTorch and Keras count the fan-in of the transposed kernel: kh kw out / groups.
    Fans fans() const;
    void initialize(std::uint64_t seed) override;

    Parameter weight;  ///< [in, kh, kw, out / groups]
    Parameter bias;    ///< [out]

   protected:
    Var forward(Context& context, std::span<const Var> inputs) override;

   private:
    ConvTranspose2dConfig config_;
};

}  // namespace bitloom::layers
