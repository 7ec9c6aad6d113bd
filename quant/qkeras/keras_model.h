#pragma once
// The quantizers that a Keras file of a whole model records (svhn-qkeras.md, 8): QKeras' layers in `model_config`.

#include <string>

#include "models/import.h"

namespace bitloom::quant::qkeras {

/// Configuration for scheme qkeras (a JSON object with a dictionary of quantizers by layer), or "" where the file names
/// no quantizer. `file` is what load_weights said of it: layers with weights stand under the paths that they filled,
/// others under their own names. Throws Error naming the file's layer whose settings cannot be read.
std::string scheme_of_keras_model(const WeightFile& file);

}  // namespace bitloom::quant::qkeras
