#pragma once
// ResNets for CIFAR with 6n + 2 layers (He et al., 2016, section 4.2), in the two forms of the specifications.

#include <memory>

#include "models/layers/activation.h"
#include "models/layers/convolution.h"
#include "models/layers/dense.h"
#include "models/layers/normalization.h"
#include "models/layers/pooling.h"
#include "models/layers/sequential.h"
#include "models/options.h"

namespace bitloom {

enum class ResNetShortcut {
    a,  ///< parameter-free; last layer `linear`; Kaiming normal over the fan-in (ec2t-micronet.md, 4.2)
    b   ///< 1x1 convolution and batch norm; last layer `fc`; Kaiming normal over the fan-out (bsq.md, 4)
};

/// y = ReLU(bn2(conv2(ReLU(bn1(conv1 x)))) + shortcut(x)); children conv1, bn1, relu1, conv2, bn2, and then, where the
/// shape changes, `shortcut` (A) or `downsample` (B), add, relu2.
class BasicBlock final : public Module {
   public:
    BasicBlock(std::int64_t in, std::int64_t out, std::int64_t stride, ResNetShortcut shortcut);
    std::string_view type() const override { return "BasicBlock"; }

   protected:
    Var forward(Context& context, std::span<const Var> inputs) override;

   private:
    layers::Conv2d& conv1_;
    layers::BatchNorm& bn1_;
    layers::ReLU& relu1_;
    layers::Conv2d& conv2_;
    layers::BatchNorm& bn2_;
    Module* shortcut_ = nullptr;  // null: the identity
    layers::Add* add_ = nullptr;
    layers::ReLU* relu2_ = nullptr;
};

/// conv1, bn1, relu, layer1..3, avgpool over the whole map, fc or linear. Input [N, H, W, C], output logits [N,
/// classes].
class CifarResNet final : public Module {
   public:
    /// Throws Error unless depth = 6n + 2.
    CifarResNet(std::int64_t depth, std::int64_t in_channels, std::int64_t classes, ResNetShortcut shortcut);
    std::string_view type() const override { return "CifarResNet"; }

   protected:
    Var forward(Context& context, std::span<const Var> inputs) override;

   private:
    layers::Conv2d& conv1_;
    layers::BatchNorm& bn1_;
    layers::ReLU& relu_;
    std::vector<layers::Sequential*> stages_;
    Module* pool_ = nullptr;
    Module* classifier_ = nullptr;
};

/// resnet<depth>, depth 6n + 2. Throws UsageError for an unknown variant.
std::unique_ptr<Module> make_cifar_resnet(const ModelOptions& options, std::int64_t depth);

}  // namespace bitloom
