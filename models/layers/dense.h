#pragma once
// Fully connected layer, weights [out][in].

#include "engine/parameter.h"
#include "models/initializers.h"
#include "models/layers/layer.h"

namespace bitloom::layers {

struct DenseConfig {
    std::int64_t in = 0, out = 0;
    bool bias = true;
    Initializer weight_init = Initializer::fan_in_uniform, bias_init = Initializer::fan_in_uniform;
    /// [h, w, c] of the map that a Flatten before it turned into the input, rank 0 where there is none: files that
    /// flatten in another order are permuted by it on import.
    Shape flattened_from{};
    /// The network's last layer: it computes in f32 where activations are bf16, so that the loss sees logits of full
    /// precision.
    bool logits = false;
};

class Dense final : public Layer {
   public:
    explicit Dense(const DenseConfig& config);
    const DenseConfig& config() const { return config_; }
    void initialize(std::uint64_t seed) override;
    /// Gives a layer without bias one of zeros (folding). A layer that has one keeps it.
    void add_bias();

    Parameter weight;  ///< [out, in]
    Parameter bias;    ///< [out]; undefined without bias

   protected:
    Var forward(Context& context, std::span<const Var> inputs) override;

   private:
    DenseConfig config_;
};

}  // namespace bitloom::layers
