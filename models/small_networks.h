#pragma once
// The small networks of the experiments, each a chain of layers that ends in logits.

#include <memory>

#include "engine/module.h"
#include "models/options.h"

namespace bitloom {

/// float_cnn of svhn-qkeras.md, section 4.1: batch norm on the input, then for each convolution (VALID, no bias)
/// pooling, batch norm and activation; dense layers without bias, batch norm, activation; a dense output layer with
/// bias. Layer names are Keras'. pooling: 2 = max 2x2, 1 = average over one cell (an identity), 0 = none. Throws
/// UsageError where the lists disagree in length or a map becomes empty.
std::unique_ptr<Module> make_svhn_cnn(const ModelOptions& options);

/// The network under qkeras_cnn and the float_cnn_*Prune builders of svhn-qkeras.md, section 4.2, without the quantizers and
/// masks that these bake in and that schemes attach here: make_svhn_cnn with a row of zeros around each convolution's input,
/// max pooling wherever `pooling` is not 0, dropout behind each convolution's activation, one dense layer of 128 units, and an
/// output layer named "output", which pruning leaves alone by its name.
std::unique_ptr<Module> make_svhn_cnn_128(const ModelOptions& options);

/// The network that svhn_tune searches (svhn-qkeras.md, section 4.3): batch norm on the input, then for each SAME
/// convolution 2x2 pooling (2: max, 1: average), batch norm and ReLU; the map is reduced as `variant` says; dense layers
/// (0 units: none) with batch norm, ReLU and dropout; a dense output layer. All with bias, Glorot uniform. Throws UsageError
/// where the lists disagree or a map becomes empty.
std::unique_ptr<Module> make_tuned_cnn(const ModelOptions& options);

/// MNIST MLP of gpfq-lumping.md, section 4.1: 500 and 300 units, each dense + bias, ReLU, batch norm.
std::unique_ptr<Module> make_mnist_mlp(const ModelOptions& options);

/// CIFAR-10 CNN of gpfq-lumping.md, section 4.2: three stages of two SAME convolutions (ReLU before batch norm), max
/// pooling and dropout, a dense layer of 128 units.
std::unique_ptr<Module> make_gpfq_cnn(const ModelOptions& options);

/// LeNet-5 of ec2t-micronet.md, section 4.1.
std::unique_ptr<Module> make_lenet5(const ModelOptions& options);

}  // namespace bitloom
