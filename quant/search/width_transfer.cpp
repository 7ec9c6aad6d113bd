#include "quant/search/width_transfer.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "models/layers/convolution.h"
#include "models/layers/dense.h"
#include "models/layers/normalization.h"

namespace bitloom::search {

namespace {

using Named = std::vector<std::pair<std::string, Tensor>>;
using Channels = std::vector<std::int64_t>;

Tensor* find(Named& tensors, const std::string& name) {
    for (auto& [other, tensor] : tensors)
        if (other == name) return &tensor;
    return nullptr;
}
const Tensor* find(const Named& tensors, const std::string& name) { return find(const_cast<Named&>(tensors), name); }

bool is_product(const Module& layer) {
    return (dynamic_cast<const layers::Conv2d*>(&layer) && !dynamic_cast<const layers::DepthwiseConv2d*>(&layer)) ||
           dynamic_cast<const layers::Dense*>(&layer);
}
bool is_norm(const Module& layer) { return dynamic_cast<const layers::BatchNorm*>(&layer) != nullptr; }

/// A kernel seen as [out][cells][in]: conv weights lie so, and a flattened map's channels are its fastest axis.
struct KernelView {
    KernelView(const Tensor& t, std::int64_t channels)
        : values(t.values<float>()), out(t.dim(0)), in(channels), cells(t.numel() / std::max<std::int64_t>(1, out * in)) {
        fits = out * cells * in == t.numel();
    }
    float& at(std::int64_t o, std::int64_t cell, std::int64_t i) {
        return values[static_cast<std::size_t>((o * cells + cell) * in + i)];
    }
    std::vector<float> values;
    std::int64_t out, in, cells;
    bool fits;
};

Channels all_of(std::int64_t n) {
    Channels channels(static_cast<std::size_t>(n));
    std::iota(channels.begin(), channels.end(), 0);
    return channels;
}

/// The `n` channels of most weight, in their order.
Channels heaviest(const std::vector<double>& weights, std::int64_t n) {
    Channels channels = all_of(std::ssize(weights));
    if (n >= std::ssize(weights)) return channels;
    std::stable_sort(channels.begin(), channels.end(), [&](std::int64_t a, std::int64_t b) {
        return weights[static_cast<std::size_t>(a)] > weights[static_cast<std::size_t>(b)];
    });
    channels.resize(static_cast<std::size_t>(n));
    std::sort(channels.begin(), channels.end());
    return channels;
}

/// target[i] = source[kept[i]]
void copy_channels(const Tensor* source, Tensor* target, const Channels& kept) {
    if (!source || !target || source->rank() != target->rank()) return;
    if (source->rank() != 1 || source->numel() == 1) {  // counters
        if (source->shape() == target->shape()) *target = *source;
        return;
    }
    const std::vector<double> from = source->values<double>();
    std::vector<double> to = target->values<double>();
    for (std::size_t i = 0; i < std::min(kept.size(), to.size()); ++i) to[i] = from.at(static_cast<std::size_t>(kept[i]));
    *target = Tensor::from(target->shape(), to).to(target->dtype());
}

class Transfer {
   public:
    Transfer(Module& network, const Checkpoint& source) : source_(source) {
        gather(network, own_);
        for (Module* module : network.modules())
            if (module->is_leaf() && (is_product(*module) || is_norm(*module))) layers_.push_back(module);
    }

    Checkpoint run() {
        Channels kept;            // channels of the source that stand here, of what the layer reads
        std::int64_t before = 0;  // how many the source has of them
        for (std::size_t i = 0; i < layers_.size(); ++i) {
            const std::string path = layers_[i]->path();
            const Tensor* source = find(source_.parameters, path + ".weight");
            Tensor* target = find(own_.parameters, path + ".weight");
            if (!source || !target) continue;
            if (is_norm(*layers_[i])) {
                if (kept.empty()) kept = all_of(source->numel()), before = source->numel();
                for (const char* name : {".weight", ".bias"})
                    copy_channels(find(source_.parameters, path + name), find(own_.parameters, path + name), kept);
                for (const char* name : {".running_mean", ".running_var", ".num_batches_tracked"})
                    copy_channels(find(source_.buffers, path + name), find(own_.buffers, path + name), kept);
                continue;
            }
            if (kept.empty()) before = source->dim(-1), kept = all_of(before);
            const std::int64_t width = source->dim(0);
            const Channels out = heaviest(importance(i, width), target->dim(0));
            copy_kernel(*source, *target, before, kept, out);
            copy_channels(find(source_.parameters, path + ".bias"), find(own_.parameters, path + ".bias"), out);
            kept = out, before = width;
        }
        return std::move(own_);
    }

   private:
    /// Of the channels that product `index` makes in the source.
    std::vector<double> importance(std::size_t index, std::int64_t width) const {
        std::vector<double> weights(static_cast<std::size_t>(width), 1);
        for (std::size_t next = index + 1; next < layers_.size(); ++next) {
            const Tensor* weight = find(source_.parameters, layers_[next]->path() + ".weight");
            if (!weight) continue;
            if (is_norm(*layers_[next])) {
                if (weight->numel() != width) continue;
                const std::vector<double> gamma = weight->values<double>();
                for (std::size_t c = 0; c < weights.size(); ++c) weights[c] *= std::abs(gamma[c]);
                continue;
            }
            KernelView view(*weight, width);
            if (!view.fits) break;
            std::vector<double> read(weights.size(), 0);
            for (std::size_t k = 0; k < view.values.size(); ++k)
                read[k % weights.size()] += std::abs(static_cast<double>(view.values[k]));
            for (std::size_t c = 0; c < weights.size(); ++c) weights[c] *= read[c];
            break;
        }
        return weights;
    }

    /// `inputs` of the source are among the first channels that the target reads.
    static void copy_kernel(const Tensor& source, Tensor& target, std::int64_t source_inputs, const Channels& inputs,
                            const Channels& outputs) {
        KernelView from(source, source_inputs);
        if (!from.fits) return;
        KernelView to(target, target.numel() / (target.dim(0) * from.cells));
        if (!to.fits || source.rank() != target.rank() || (source.rank() == 4 && source.dim(1) != target.dim(1))) return;
        for (std::size_t o = 0; o < outputs.size(); ++o)
            for (std::int64_t cell = 0; cell < from.cells; ++cell)
                for (std::size_t i = 0; i < std::min(inputs.size(), static_cast<std::size_t>(to.in)); ++i)
                    to.at(static_cast<std::int64_t>(o), cell, static_cast<std::int64_t>(i)) =
                        from.at(outputs[o], cell, inputs[i]);
        target = Tensor::from(target.shape(), to.values);
    }

    const Checkpoint& source_;
    Checkpoint own_;
    std::vector<Module*> layers_;
};

}  // namespace

Checkpoint transferred_widths(Module& network, const Checkpoint& source) { return Transfer(network, source).run(); }

}  // namespace bitloom::search
