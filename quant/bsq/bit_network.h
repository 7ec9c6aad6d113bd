#pragma once
// A network whose convolutions and dense layers are written in bits (bsq.md, 4, 5): which layers, conversions of all at once,
// precision adjustment, tables and sizes.

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "engine/io/checkpoint.h"
#include "engine/module.h"
#include "quant/bsq/group_lasso.h"

namespace bitloom::bsq {

struct BitNetworkOptions {
    bool quantize_shortcut = false;  ///< convolutions of shortcuts ("downsample") too (V0)
    bool forward_clamp = true;       ///< of sums of planes to [-1, 1] (9.2-2)
    bool grow = true;                ///< re-quantization may add a bit (V1)
    bool fixed_bias = true;          ///< false: biases are left out while fine-tuning (9.2-3)
};

/// A convolution or dense layer. Biases are bit tensors of their own precision.
struct BitLayer {
    std::string path;
    Module* module = nullptr;
    std::shared_ptr<BitWeight> weight, bias;  ///< bias: null where the layer has none
    bool shortcut = false;                    ///< not counted in sizes
};

/// Layer path -> [n, bias precision or 0], in the network's order (5.9).
using PrecisionTable = std::vector<std::pair<std::string, std::array<int, 2>>>;
/// {"conv1": [8, 0], ..., "fc": [8, 8]}, and back. Throws Error for other text or precisions outside 0..max_bits.
std::string to_json(const PrecisionTable& table);
PrecisionTable precision_table_from_json(const std::string& json);

/// Bits of all counted layers (5.7).
struct BitSizes {
    std::int64_t parameters = 0;     ///< TP
    std::int64_t bits = 0;           ///< TB: an all-zero tensor of one plane counts one bit a value
    std::int64_t nonzero_bits = 0;   ///< TB with all-zero tensors at 0 bits
    /// 32 TP / TB; infinite where nothing is left.
    double compression() const;
    double nonzero_compression() const;
    double bits_per_parameter() const;
    double nonzero_bits_per_parameter() const;
};

class BitNetwork {
   public:
    /// Finds the layers of a network whose paths are assigned; it must outlive this object. Throws Error where it has none.
    explicit BitNetwork(Module& network, BitNetworkOptions options = {});

    Module& network() { return network_; }
    const BitNetworkOptions& options() const { return options_; }
    const std::vector<BitLayer>& layers() const { return layers_; }
    /// All bit tensors, weights and biases, in order.
    std::vector<std::shared_ptr<BitWeight>> tensors() const;
    Representation representation() const;

    /// Every tensor at its precision (set_precision, or that of a file), those without one at `bits`.
    void to_bits(int bits);
    void to_float();
    void to_fixed();
    void fixed_to_bits();

    /// Re-quantizes every tensor (5.5 a): convolutions up to `convolution_bits`, dense layers and biases up to `dense_bits`.
    void requantize(int convolution_bits = 8, int dense_bits = 8);
    /// Strips every tensor (5.5 b).
    void strip(double threshold);

    PrecisionTable table() const;
    /// Imposes a table (5.9): the precision of the next conversion, or planes cut to the first n. Throws Error where its
    /// layers are not those of this network or a tensor has too few planes.
    void set_precision(const PrecisionTable& table);
    BitSizes sizes() const;
    /// Percentages of non-zero bits of every layer (5.8), needs bit planes.
    std::string statistics() const;

    /// The regulariser over all tensors, shortcuts included where they are bit layers.
    std::shared_ptr<GroupLasso> group_lasso(bool reweigh = true) const;
    /// The published program's clamp (9.2-1): besides the planes, after each step, every parameter whose name has neither
    /// `scale` nor `bn` to [0, 2]; in fixed precision every one with `weight` and without `bn` to [-1, 1].
    void clamp_as_reference();

    /// Representation, precisions and flags, for a run that resumes: load gives planes the shapes that restore expects.
    void save(Checkpoint& checkpoint) const;
    void load(const Checkpoint& checkpoint);

   private:
    Module& network_;
    BitNetworkOptions options_;
    std::vector<BitLayer> layers_;
};

}  // namespace bitloom::bsq
