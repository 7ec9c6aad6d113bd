// Quantizers as text and in JSON, of both releases. What is read must read back equal from its own text, and quantize a
// small tensor or say why not. The first byte chooses.
#include <cmath>
#include <cstdlib>

#include "engine/tape.h"
#include "fuzz/harness.h"
#include "quant/qkeras/number_type.h"
#include "quant/qkeras/parse.h"
#include "quant/qkeras/quantize.h"

namespace {

using namespace bitloom;
using namespace bitloom::quant::qkeras;

const Tensor& values() {
    static const Tensor tensor = [] {
        std::vector<float> waves(48);
        for (std::size_t i = 0; i < waves.size(); ++i) waves[i] = 2 * std::sin(static_cast<float>(i * i));
        return Tensor::from<float>({3, 2, 2, 4}, waves);
    }();
    return tensor;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    const std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
    const bool old = (data[0] & 1) != 0, json = (data[0] & 2) != 0, training = (data[0] & 4) != 0;
    fuzz::check_reader(size, [&] {
        const Release release = old ? Release::v0_8 : Release::current;
        const Quantizer q = json ? quantizer_from_json(text) : parse_quantizer(text, release);
        if (parse_quantizer(to_string(q)) != q) std::abort();
        number_type(q);
        Tape tape;
        TensorQuantizer(q, {.release = release}, convolution_axes()).quantize(tape.constant(values()), {.training = training});
    });
    return 0;
}
