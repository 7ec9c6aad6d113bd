#pragma once
// QConv2DBatchnorm and QDepthwiseConv2DBatchnorm: a convolution that trains with the batch norm behind it folded into its
// kernel, so that the quantizer acts on what will be deployed (svhn-qkeras.md, section 5.2).

#include <optional>
#include <string>
#include <vector>

#include "engine/module.h"
#include "models/layers/convolution.h"
#include "models/layers/normalization.h"
#include "quant/qkeras/quantize.h"

namespace bitloom::quant::qkeras {

enum class FoldingMode {
    batch_stats,  ///< folds with the batch's moments while the batch norm trains, the moving ones after
    ema_stats     ///< folds the kernel with the moving variance; the batch's moments enter bias and a correction of the output
};
/// "batch_stats_folding", "ema_stats_folding". Throws UsageError for other text.
FoldingMode folding_mode(const std::string& name);
std::string to_string(FoldingMode mode);

struct FoldingOptions {
    FoldingMode mode = FoldingMode::ema_stats;
    /// The batch norm trains while the number of training calls, from 0, is at most this; negative: always.
    std::int64_t ema_freeze_delay = -1;
    std::optional<Quantizer> kernel{}, bias{};
};

/// W gamma / sqrt(V + epsilon) and gamma (b - mean) / sqrt(V + epsilon) + beta with the moving averages; weights [out][kh][kw][in / groups].
struct FoldedWeights {
    Tensor kernel, bias;
};
FoldedWeights fold_weights(const layers::Conv2d& convolution, const layers::BatchNorm& bn);

/// Folds `bn` into `convolution`, whose output nothing else may read: the convolution computes both, the batch norm passes
/// on. The kernel quantizer acts on the folded kernel, the bias quantizer on the folded bias; the kernel's alpha, where it
/// was left open, becomes 'auto_po2'. Neither layer may have hooks or transforms. Throws UsageError otherwise.
void quantize_folded(layers::Conv2d& convolution, layers::BatchNorm& bn, const FoldingOptions& options,
                     const Settings& settings);
/// Options of a folded convolution; null where it is not folded.
const FoldingOptions* folding_options_of(const Module& module);
/// Whether quantize_folded or unfold made this batch norm pass its input on.
bool is_folded_away(const Module& module);

/// Pairs of convolution and batch norm that one pass over inputs of this shape (batch included) calls right behind one another.
std::vector<std::pair<layers::Conv2d*, layers::BatchNorm*>> foldable_pairs(Module& network, const Shape& input);

/// Turns every folded convolution into a plain quantized one with the folded kernel and bias as its latent weights; the
/// batch norms stay folded away. For inference and for reading weights out.
void unfold(Module& network, const Settings& settings);

/// The bias type that the accumulator of a layer has: what a folded layer without a bias quantizer gets, as quantized_bits.
/// `kernel_shape` as the source has it (HWIO). Throws UsageError for quantizers without a fixed-point product.
Quantizer bias_from_accumulator(const Quantizer& input, const Quantizer& kernel, const Shape& kernel_shape,
                                bool depthwise = false);

}  // namespace bitloom::quant::qkeras
