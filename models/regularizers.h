#pragma once
// Penalties on weights that are added to the loss, as Keras' kernel regularisers are. (PyTorch's weight decay is an
// optimizer setting: engine/optim/optimizer.h.) Each returns a term for Trainer::add_loss_term.

#include <functional>
#include <vector>

#include "engine/module.h"

namespace bitloom {

/// The kernels of all convolutions and dense layers: trainable parameters named "weight" of rank 2 or more, so neither
/// biases nor normalisation.
std::vector<Parameter*> kernels_of(Module& network);

/// strength * sum |w| over the latent values of `parameters`; the gradient of |w| at 0 is 0. Shape [1].
/// Throws Error where there are none.
std::function<Var(Context&)> l1_regularizer(std::vector<Parameter*> parameters, double strength);

/// strength * sum w^2 (Keras' l2: no factor 1/2).
std::function<Var(Context&)> l2_regularizer(std::vector<Parameter*> parameters, double strength);

}  // namespace bitloom
