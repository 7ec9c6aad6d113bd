#include "apps/golden/qkeras_case.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "engine/io/json_values.h"
#include "quant/qkeras/parse.h"

namespace bitloom::golden {

using namespace quant::qkeras;

namespace {

constexpr std::array remarks{"input",       "provenance", "note",   "phase",       "sigmoid",      "sigmoid_type",
                             "source_file", "case",       "rtol",   "source_test", "enabled_upstream", "compat",
                             "min",         "max",        "bound"};

Argument argument_from(const Case& c, const std::string& name) {
    if (!c.file().attribute_is_text(c.path(), name)) return c.number(name);
    const std::string text = c.text(name);
    if (text == "None") return {};
    if (text == "True" || text == "False") return text == "True";
    if (!text.starts_with("[")) return text;
    const nlohmann::json list = json_or_discarded<nlohmann::json>(text);
    std::vector<double> values;
    require(list.is_array() && append_numbers(list, values), "attribute ", name, " is no list of numbers: ", text);
    return values;
}

}  // namespace

Quantizer quantizer_from(const Case& c, const std::string& name) {
    Quantizer q = make_quantizer(quantizer_kind(name));
    for (const std::string& attribute : c.attributes())
        if (std::find(remarks.begin(), remarks.end(), attribute) == remarks.end())
            set_argument(q, attribute, argument_from(c, attribute));
    check(q);
    // What is printed must read back as the same quantizer.
    require(parse_quantizer(to_string(q)) == q, to_string(q), " does not read back as itself");
    return q;
}

Settings settings_from(const Case& c) {
    Settings settings;
    const std::string form = c.given("sigmoid") ? c.text("sigmoid") : c.text_or("sigmoid_type", "hard");
    require(form == "hard" || form == "smooth" || form == "real", "unknown sigmoid ", in_quotes(form));
    settings.sigmoid = form == "hard" ? quant::SigmoidForm::hard : form == "smooth" ? quant::SigmoidForm::smooth : quant::SigmoidForm::real;
    if (c.text_or("compat", "current").starts_with("0.")) settings.release = Release::v0_8;
    return settings;
}

Evaluated evaluate_quantizer(const TensorQuantizer& quantizer, const Tensor& x, Device device, Pass pass) {
    Tape tape;
    const Var in = tape.input(x.to(device), true);
    for (Tensor* t : {&pass.draws, &pass.second_draws, &pass.mask})
        if (t->defined()) *t = t->to(device);
    Evaluated result;
    result.quantized = quantizer.quantize(in, pass);
    result.y = result.quantized.values.value();
    tape.backward(result.quantized.values);
    result.gradient = tape.grad(in);
    return result;
}

}  // namespace bitloom::golden
