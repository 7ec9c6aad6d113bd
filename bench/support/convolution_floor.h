#pragma once
// The floor of a network's speed: its convolutions and dense products alone, with nothing between them.

#include <functional>
#include <memory>
#include <vector>

#include "engine/graph.h"
#include "engine/random.h"
#include "models/layers/convolution.h"
#include "models/layers/dense.h"
#include "ops/kernels.h"

namespace bitloom::bench {

inline Tensor random_tensor(const Shape& shape) {
    Tensor t = Tensor::empty(shape);
    Rng rng(1, "bench");
    fill_uniform(t, -1, 1, rng);
    return t;
}

/// Runs every convolution and dense product of one pass over `input_shape`, in order, on random values; with `training`
/// their backward passes as well, the data gradient of the first excepted.
inline std::function<void()> products_of(Module& network, const Shape& input_shape, bool training) {
    auto calls = std::make_shared<std::vector<std::function<void()>>>();
    bool first = true;
    const auto add = [&](const Tensor& x, const Tensor& w, const Shape& y_shape, auto forward, auto data,
                         auto weights) {
        const Tensor dy = random_tensor(y_shape);
        calls->push_back([=, y = Tensor::empty(y_shape)]() mutable { forward(x, w, y); });
        if (!training) return;
        calls->push_back([=, dw = Tensor::empty_like(w)]() mutable { weights(x, dy, dw); });
        if (!first) calls->push_back([=, dx = Tensor::empty_like(x)]() mutable { data(dy, w, dx); });
        first = false;
    };
    const ops::OpKernels& k = ops::op_kernels(cpu_device);
    const Graph graph = Graph::trace(network, input_shape);
    for (const GraphCall& call : graph.calls()) {
        const Shape& in = call.input_shapes[0];
        if (auto* conv = dynamic_cast<layers::Conv2d*>(call.module)) {
            const auto g = ops::conv2d_geometry(in, conv->weight.value.shape(), conv->options_for(in[1], in[2]));
            add(
                random_tensor(in), conv->weight.value, call.output_shape,
                [&k, g](const Tensor& x, const Tensor& w, Tensor& y) { k.conv2d_forward(g, x, w, nullptr, y); },
                [&k, g](const Tensor& dy, const Tensor& w, Tensor& dx) { k.conv2d_backward_data(g, dy, w, dx); },
                [&k, g](const Tensor& x, const Tensor& dy, Tensor& dw) {
                    k.conv2d_backward_weights(g, x, dy, dw, nullptr);
                });
        } else if (auto* dense = dynamic_cast<layers::Dense*>(call.module)) {
            add(
                random_tensor(in), dense->weight.value, call.output_shape,
                [&k](const Tensor& x, const Tensor& w, Tensor& y) { k.dense_forward(x, w, nullptr, y); },
                [&k](const Tensor& dy, const Tensor& w, Tensor& dx) { k.dense_backward_data(dy, w, dx); },
                [&k](const Tensor& x, const Tensor& dy, Tensor& dw) { k.dense_backward_weights(x, dy, dw, nullptr); });
        }
    }
    return [calls] {
        for (auto& call : *calls) call();
    };
}

}  // namespace bitloom::bench
