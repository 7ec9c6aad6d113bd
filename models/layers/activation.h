#pragma once
// Activations as modules, so that a scheme can take their place.

#include <memory>
#include <string>
#include <vector>

#include "models/layers/layer.h"

namespace bitloom::layers {

class ReLU final : public Layer {
   public:
    ReLU() : Layer(LayerType::relu) {}

   protected:
    Var forward(Context& context, std::span<const Var> inputs) override;
};

class ReLU6 final : public Layer {
   public:
    ReLU6() : Layer(LayerType::relu6) {}

   protected:
    Var forward(Context& context, std::span<const Var> inputs) override;
};

class LeakyReLU final : public Layer {
   public:
    explicit LeakyReLU(double slope = 0.01) : Layer(LayerType::leaky_relu), slope_(slope) {}
    double slope() const { return slope_; }

   protected:
    Var forward(Context& context, std::span<const Var> inputs) override;

   private:
    double slope_;
};

class Sigmoid final : public Layer {
   public:
    Sigmoid() : Layer(LayerType::sigmoid) {}

   protected:
    Var forward(Context& context, std::span<const Var> inputs) override;
};

class Tanh final : public Layer {
   public:
    Tanh() : Layer(LayerType::tanh) {}

   protected:
    Var forward(Context& context, std::span<const Var> inputs) override;
};

/// x sigmoid(x)
class Swish final : public Layer {
   public:
    Swish() : Layer(LayerType::swish) {}

   protected:
    Var forward(Context& context, std::span<const Var> inputs) override;
};

/// Over the last axis.
class Softmax final : public Layer {
   public:
    Softmax() : Layer(LayerType::softmax) {}

   protected:
    Var forward(Context& context, std::span<const Var> inputs) override;
};

/// relu, relu6, leaky_relu, sigmoid, tanh, swish, softmax.
std::vector<std::string> activation_names();
/// One of these. Throws UsageError for another name.
std::unique_ptr<Module> make_activation(const std::string& name);

}  // namespace bitloom::layers
