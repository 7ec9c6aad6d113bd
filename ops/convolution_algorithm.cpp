#include "ops/convolution_algorithm.h"

#include <algorithm>
#include <atomic>

#include "engine/error.h"

namespace bitloom::ops {

namespace {
std::atomic<ConvolutionAlgorithm> chosen{ConvolutionAlgorithm::automatic};
}

const std::vector<std::string>& convolution_algorithm_names() {
    static const std::vector<std::string> names{"auto", "implicit-gemm", "im2col", "cudnn"};
    return names;
}

void use_convolution_algorithm(std::string_view name) {
    const std::vector<std::string>& names = convolution_algorithm_names();
    const auto found = std::find(names.begin(), names.end(), name);
    if (found == names.end())
        throw UsageError(cat("unknown convolution algorithm '", name, "' (auto, implicit-gemm, im2col, cudnn)"));
    chosen = static_cast<ConvolutionAlgorithm>(found - names.begin());
}

ConvolutionAlgorithm convolution_algorithm() { return chosen; }

}  // namespace bitloom::ops
