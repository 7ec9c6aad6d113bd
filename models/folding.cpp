#include "models/folding.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "engine/graph.h"
#include "models/layers/convolution.h"
#include "models/layers/dense.h"
#include "models/layers/normalization.h"

namespace bitloom {

using namespace layers;

namespace {

/// Takes the place of a folded batch norm.
class FoldedBatchNorm final : public LayerTransform {
   public:
    std::string_view name() const override { return "folded"; }
    Var forward(Context&, Module&, std::span<const Var> inputs) override { return inputs[0]; }
};

/// The layer whose rows of weights and whose bias take the constants.
struct Target {
    Parameter* weight = nullptr;
    Parameter* bias = nullptr;
    std::function<void()> add_bias;
};

template <class L>
Target target_of(L& layer) {
    return {&layer.weight, &layer.bias, [&layer] { layer.add_bias(); }};
}

Target target_of(Module* module) {
    if (auto* convolution = dynamic_cast<Conv2d*>(module)) return target_of(*convolution);
    if (auto* dense = dynamic_cast<Dense*>(module)) return target_of(*dense);
    return {};
}

std::vector<double> scales_of(const BatchNorm& bn) {
    std::vector<double> gamma = bn.weight.value.values<double>();
    const std::vector<double> variance = bn.running_var.values<double>();
    for (std::size_t c = 0; c < gamma.size(); ++c) gamma[c] /= std::sqrt(variance[c] + bn.config().epsilon);
    return gamma;
}

void store(Tensor& target, const std::vector<double>& values) {
    target.copy_from(Tensor::from(target.shape(), values).to(target.dtype()));
}

void fold(BatchNorm& bn, const Target& target, const std::vector<double>& scales) {
    std::vector<double> weight = target.weight->value.values<double>();
    const std::size_t row = weight.size() / scales.size();
    for (std::size_t i = 0; i < weight.size(); ++i) weight[i] *= scales[i / row];
    if (!target.bias->value.defined()) target.add_bias();
    std::vector<double> bias = target.bias->value.values<double>();
    const std::vector<double> beta = bn.bias.value.values<double>(), mean = bn.running_mean.values<double>();
    for (std::size_t c = 0; c < bias.size(); ++c) bias[c] = beta[c] + (bias[c] - mean[c]) * scales[c];
    store(target.weight->value, weight);
    store(target.bias->value, bias);
    bn.layer_transform = std::make_shared<FoldedBatchNorm>();
}

int count_calls(const Graph& graph, const Module* module) {
    return static_cast<int>(std::count_if(graph.calls().begin(), graph.calls().end(),
                                          [&](const GraphCall& call) { return call.module == module; }));
}

/// Folds the batch norm of a call. Returns why not, or an empty string where it did.
std::string try_to_fold(const Graph& graph, const GraphCall& call, BatchNorm& bn) {
    if (bn.has_hooks() || !bn.weight.transforms.empty() || !bn.bias.transforms.empty())
        return "it has hooks or transforms";
    const std::vector<double> scales = scales_of(bn);
    int before = call.inputs[0];
    std::vector<int> chain;
    if (before >= 0 && graph.calls()[static_cast<std::size_t>(before)].type == "MaxPool2d") {
        if (graph.calls()[static_cast<std::size_t>(before)].module->has_hooks()) return "the pooling has hooks";
        chain.push_back(before);
        before = graph.calls()[static_cast<std::size_t>(before)].inputs[0];
    }
    if (before < 0) return "it is on the network's input";
    const GraphCall& source = graph.calls()[static_cast<std::size_t>(before)];
    const Target target = target_of(source.module);
    if (!target.weight) return cat("it is behind ", source.path, " (", source.type, ")");
    if (!chain.empty() && std::any_of(scales.begin(), scales.end(), [](double s) { return !(s > 0); }))
        return "a max pooling is in between and some gamma is not positive";
    chain.push_back(before);
    for (const int index : chain)
        if (graph.consumers(index).size() != 1)
            return cat("something else reads ", graph.calls()[static_cast<std::size_t>(index)].path);
    if (count_calls(graph, source.module) != 1 || count_calls(graph, &bn) != 1)
        return "it or its layer is called more than once";
    if (source.module->has_hooks() || !target.weight->transforms.empty() || !target.bias->transforms.empty())
        return cat(source.path, " has hooks or transforms");
    fold(bn, target, scales);
    return "";
}

}  // namespace

bool is_folded(const Module& module) {
    return dynamic_cast<const FoldedBatchNorm*>(module.layer_transform.get()) != nullptr;
}

FoldingReport fold_batch_norm(Module& network, const Shape& input) {
    DType dtype = DType::f32;
    Device device = cpu_device;
    if (const auto parameters = network.named_parameters(); !parameters.empty()) {
        dtype = parameters.front().second->value.dtype();
        device = parameters.front().second->value.device();
    }
    const Graph graph = Graph::trace(network, input, dtype, device);
    FoldingReport report;
    for (const GraphCall& call : graph.calls()) {
        auto* bn = dynamic_cast<BatchNorm*>(call.module);
        if (!bn || is_folded(*bn)) continue;
        const std::string reason = try_to_fold(graph, call, *bn);
        if (reason.empty())
            report.folded.push_back(call.path);
        else
            report.kept.push_back({call.path, reason});
    }
    return report;
}

}  // namespace bitloom
