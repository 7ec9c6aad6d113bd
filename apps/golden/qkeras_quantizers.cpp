// quantizers/* and stochastic/*: values, gradients, scales and codes of the quantizers.

#include <cmath>

#include "apps/golden/families.h"
#include "apps/golden/qkeras_case.h"
#include "quant/element.h"

namespace bitloom::golden {

namespace {

using namespace quant::qkeras;
constexpr double tolerance = 1e-6;

std::string without(std::string name, std::string_view suffix) {
    if (name.ends_with(suffix)) name.resize(name.size() - suffix.size());
    return name;
}

/// Where values are multiples of a step, the integers themselves must agree.
void expect_codes(const Quantized& got, const Tensor& want) {
    if (!got.step.defined()) return;
    const Tensor& values = got.values.value();
    const std::vector<double> codes = quant::qkeras::codes(values, got.step).values<double>();
    const std::vector<double> wanted = quant::qkeras::codes(want.to(values.device()), got.step).values<double>();
    for (std::size_t i = 0; i < codes.size(); ++i)
        require(codes[i] == wanted[i], "code ", i, ": got ", codes[i], ", expected ", wanted[i]);
}

/// One number stands for all channels: a scale that was given as such.
void expect_scale(const std::string& what, const Tensor& got, const Tensor& want) {
    const bool one_for_all = want.numel() == 1 && got.numel() > 1;
    expect_close(what, got, one_for_all ? Tensor::full(got.shape(), want.values<double>().front()) : want, tolerance);
}

void check(const Case& c, const TensorQuantizer& quantizer, const Pass& pass) {
    for (const Device device : quantizer_devices) {
        const Evaluated got = evaluate_quantizer(quantizer, c.tensor("x"), device, pass);
        const std::string on = cat(" (", device, ")");
        const Tensor y = c.tensor("y");
        expect_close("y" + on, got.y, y, tolerance);
        expect_codes(got.quantized, y);
        if (c.has("grad")) expect_close("grad" + on, got.gradient, c.tensor("grad"), tolerance);
        if (c.has("scale")) expect_scale("scale" + on, got.quantized.scale, c.tensor("scale"));
    }
}

void quantizer(const Case& c) {
    const std::string name = without(without(c.part(1), "_auto"), "_grouped");
    check(c, TensorQuantizer(quantizer_from(c, name), settings_from(c)), {});
}

void stochastic(const Case& c) {
    Pass pass;
    pass.training = c.text_or("phase", "train") == "train";
    const bool ternary = c.part(1) == "stochastic_ternary";
    const char* first = ternary ? "r0" : "r";
    const bool draws = pass.training || c.part(1) == "bernoulli";  // others draw nothing in inference
    if (draws || c.has(first)) pass.draws = c.tensor(first);
    if (ternary && (draws || c.has("r1"))) pass.second_draws = c.tensor("r1");
    check(c, TensorQuantizer(quantizer_from(c, c.part(1)), settings_from(c)), pass);
}

void stochastic_round(const Case& c) {
    const Tensor x = c.tensor("x"), r = c.tensor("r");
    const auto precision = static_cast<float>(c.number("precision"));
    std::vector<float> y;
    for (std::int64_t i = 0; i < x.numel(); ++i)
        y.push_back(quant::element::stochastic_round(x.read<float>()[i], precision, r.read<float>()[i]));
    expect_close("y", Tensor::from(x.shape(), y), c.tensor("y"), tolerance);
}

}  // namespace

void add_qkeras_quantizers(Families& families) {
    families.add("quantizers/*/*", quantizer);
    families.add("stochastic/round/*", stochastic_round);
    families.add("stochastic/*/*", stochastic);
}

}  // namespace bitloom::golden
