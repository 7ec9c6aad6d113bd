#pragma once
// What the families of bsq.h5 share.

#include <memory>
#include <string>

#include "apps/golden/golden.h"
#include "quant/bsq/activation.h"
#include "quant/bsq/bit_network.h"

namespace bitloom::golden {

/// pweight and nweight (pbias and nbias) below a case, as planes in memory; `layer` null: the axes of the file.
Tensor planes_of(const Case& c, const std::string& what, const Module* layer = nullptr);
/// A tensor in bits from the datasets p<what>, n<what> and its scale (scale, biasscale).
bsq::BitTensor bit_tensor_of(const Case& c, const std::string& what, const Module* layer = nullptr);
std::string scale_name(const std::string& what);
/// Planes and scale against those of a case, in the axes of the file.
void expect_bits(const Case& c, const std::string& what, const bsq::BitTensor& got);
/// The factors of the planes in t, where the case has this dataset (exps, bexps).
void expect_factors(const Case& c, const std::string& dataset, int bits);
/// The weight that the forward pass uses.
Tensor effective(const bsq::BitTensor& tensor);

/// NCHW of files and NHWC of memory; tensors of another rank as they are.
Tensor channels_last(const Tensor& x);
Tensor channels_first(const Tensor& x);

/// A message that counts neither as passed nor as failed.
void informative(const std::string& text);

/// ResNet-20 from the trained networks beside a golden file: `weights` is fp or w8.
struct GoldenNetwork {
    std::unique_ptr<Module> network;
    std::unique_ptr<bsq::BitNetwork> bits;
    std::vector<std::pair<std::string, Parameter*>> alphas;
};
/// Block activations: "relu", "relu6", "pact", "actN" (N bits behind the activation that goes with it), "v0" (with bit shortcuts and the
/// quantized stem).
/// Whether nothing rounds activations in a mode: results then follow the reference smoothly.
bool is_quantizer_free(const std::string& mode);
GoldenNetwork golden_network(const Case& c, const std::string& weights, const std::string& mode);
/// Images u8 NHWC as the network takes them.
Tensor normalized_images(const Tensor& images);

}  // namespace bitloom::golden
