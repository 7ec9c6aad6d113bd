// bsq.h5: convert, requant, prune, activation.

#include "apps/golden/bsq_support.h"
#include "apps/golden/families.h"
#include "models/layers/activation.h"
#include "quant/bsq/files.h"

namespace bitloom::golden {

namespace {

using bsq::BitTensor;

std::string bits_name(const std::string& what) { return what == "weight" ? "n" : "bn"; }

void expect_effective(const Case& c, const std::string& what, const BitTensor& tensor) {
    if (c.has(what + "_eff")) expect_close(what + "_eff", effective(tensor), c.tensor(what + "_eff"), 1e-6);
}

void convert_one(const Case& c, const std::string& what, int bits) {
    const Tensor values = c.tensor(what);
    Parameter parameter(values.clone());
    const auto weight = std::make_shared<bsq::BitWeight>(parameter);
    weight->to_bits(bits);
    expect_bits(c, what, weight->bit_tensor());
    const BitTensor converted = weight->bit_tensor();
    expect_effective(c, what, converted);
    expect_factors(c, what == "weight" ? "exps" : "bexps", converted.bits());
    if (what == "weight" && c.given("zero")) expect_equal("zero", converted.zero, c.flag("zero"));
    if (c.has(what + "_finetune")) {
        weight->to_fixed();
        expect_close(what + "_finetune", parameter.value, c.tensor(what + "_finetune"), 1e-6);
        weight->fixed_to_bits();
        if (c.has("p" + what + "_roundtrip")) {
            const auto files = bsq::planes_to_file(nullptr, weight->bit_tensor().planes);
            expect_equal("p" + what + "_roundtrip", files[0], c.tensor("p" + what + "_roundtrip"));
            expect_equal("n" + what + "_roundtrip", files[1], c.tensor("n" + what + "_roundtrip"));
        }
        weight->set(converted);
    }
    if (c.has(what + "_float")) {
        weight->to_float();
        expect_close(what + "_float", parameter.value, c.tensor(what + "_float"), 1e-6);
        if (what == "weight" && c.has("Nbits_after_float"))
            expect_equal("Nbits_after_float", weight->bits(), c.tensor("Nbits_after_float").item());
    }
    parameter.detach();
}

void convert(const Case& c) {
    const auto bits = static_cast<int>(c.integer_or("n_in", c.integer("n")));
    if (c.has("weight")) convert_one(c, "weight", bits);
    if (c.has("bias")) convert_one(c, "bias", static_cast<int>(c.integer_or("bn_in", c.integer_or("bn", bits))));
    expect_equal("n", bits == 0 ? 1 : bits, c.number("n"));
}

void requant_one(const Case& c, const std::string& what) {
    const Case before = c.at("before"), after = c.at("after");
    const std::string n = bits_name(what);
    const BitTensor start = bit_tensor_of(before, what);
    expect_equal(n + "_before", start.bits(), c.number(n + "_before"));
    expect_effective(before, what, start);
    const BitTensor end = bsq::requantize(start, static_cast<int>(c.integer("maxbit")));
    expect_equal(n + "_after", end.bits(), c.number(n + "_after"));
    expect_bits(after, what, end);
    expect_effective(after, what, end);
    expect_factors(after, what == "weight" ? "exps" : "bexps", end.bits());
}

void requant(const Case& c) {
    for (const std::string what : {"weight", "bias"})
        if (c.at("before").has("p" + what)) requant_one(c, what);
}

void prune_one(const Case& c, const std::string& what) {
    const Case before = c.at("before"), after = c.at("after");
    const std::string n = bits_name(what);
    BitTensor tensor = bit_tensor_of(before, what);
    expect_equal(n + "_before", tensor.bits(), c.number(n + "_before"));
    expect_effective(before, what, tensor);
    if (c.given("maxbit")) tensor = bsq::requantize(tensor, static_cast<int>(c.integer("maxbit")));
    if (what == "weight" && c.given("n_mid")) expect_equal("n_mid", tensor.bits(), c.number("n_mid"));
    const BitTensor end = bsq::strip(tensor, c.number_or("threshold", 0));
    expect_equal(n + "_after", end.bits(), c.number(n + "_after"));
    expect_bits(after, what, end);
    expect_effective(after, what, end);
    expect_factors(after, what == "weight" ? "exps" : "bexps", end.bits());
    if (!c.given("dict_entry")) return;
    const std::vector<double> entry = c.file().attribute_f64(c.path(), "dict_entry");
    expect_equal("dict_entry", end.bits(), entry.at(what == "weight" ? 0 : 1));
}

void prune(const Case& c) {
    if (!c.flag_or("drop", true)) {
        informative(c.path() + ": keeps planes that fall below the threshold, which no program does");
        return c.ignore();
    }
    for (const std::string what : {"weight", "bias"})
        if (c.at("before").has("p" + what)) prune_one(c, what);
}

/// Forward and, where the case has them, gradients (dy = gy, or ones).
void activation_of(const Case& c, const bsq::ActivationRule& rule, double alpha, double tolerance) {
    layers::ReLU site;
    site.assign_paths("site");
    bsq::BsqActivation activation(rule, alpha);
    Tape tape;
    Context context{tape, true};
    const Var x = tape.input(c.tensor("x"), true);
    const Var y = activation.apply(context, site, x);
    expect_close("y", y.value(), c.tensor("y"), tolerance);
    if (!c.has("gx")) return;
    tape.backward(y, c.has("gy") ? c.tensor("gy") : Tensor::full(y.shape(), 1));
    expect_close("gx", tape.grad(x), c.tensor("gx"), 1e-6);
    if (c.has("g_alpha")) expect_close("g_alpha", activation.alpha().grad, c.tensor("g_alpha"), 1e-5);
}

void activation(const Case& c) {
    const std::string name = c.part(-1);
    if (name.starts_with("weight_ste"))
        return expect_close("y", bsq::quantize_dynamically(c.tensor("x"), static_cast<int>(c.integer("bits"))),
                            c.tensor("y"), 1e-6);
    if (name.starts_with("ste"))
        return activation_of(c, {bsq::ActivationKind::identity, static_cast<int>(c.integer("bits"))}, 0, 1e-6);
    const auto bits = static_cast<int>(c.integer_or("bits", 0));
    if (name.starts_with("pact")) return activation_of(c, {bsq::ActivationKind::pact, bits}, c.number("alpha"), 1e-6);
    if (name.starts_with("relu6")) return activation_of(c, {bsq::ActivationKind::relu6, bits}, 0, 1e-6);
    fail("an activation that is not known");
}

}  // namespace

void add_bsq_tensors(Families& families) {
    families.add("convert/*", convert);
    families.add("requant/*", requant);
    families.add("prune/*", prune);
    families.add("activation/*", activation);
}

}  // namespace bitloom::golden
