#include "quant/qkeras/parse.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "engine/error.h"
#include "engine/io/flag_values.h"
#include "engine/io/json_values.h"

namespace bitloom::quant::qkeras {

namespace {

// Arguments by kind, in the source's order. Those that only concern how it computes (var_name, use_variables,
// enable_fast_inference) are accepted and mean nothing here.
const std::vector<std::string>& names_of(QuantizerKind kind) {
    using List = std::vector<std::string>;
    static const List bits{"bits", "integer", "symmetric", "keep_negative", "alpha", "use_stochastic_rounding", "scale_axis",
                           "qnoise_factor", "var_name", "use_ste", "use_variables", "elements_per_scale",
                           "min_po2_exponent", "max_po2_exponent", "post_training_scale"};
    static const List linear{"bits", "integer", "symmetric", "keep_negative", "alpha", "use_stochastic_rounding",
                             "scale_axis", "qnoise_factor", "var_name", "use_variables"};
    static const List binary{"use_01", "alpha", "use_stochastic_rounding", "scale_axis", "elements_per_scale",
                             "min_po2_exponent", "max_po2_exponent"};
    static const List ternary{"alpha", "threshold", "use_stochastic_rounding", "number_of_unrolls"};
    static const List stochastic_binary{"alpha", "temperature", "use_real_sigmoid"};
    static const List stochastic_ternary{"alpha", "threshold", "temperature", "use_real_sigmoid", "number_of_unrolls"};
    static const List relu{"bits", "integer", "use_sigmoid", "negative_slope", "use_stochastic_rounding",
                           "relu_upper_bound", "is_quantized_clip", "qnoise_factor", "var_name", "use_ste",
                           "use_variables", "enable_fast_inference"};
    static const List tanh{"bits", "use_stochastic_rounding", "symmetric", "use_real_tanh"};
    static const List sigmoid{"bits", "symmetric", "use_real_sigmoid", "use_stochastic_rounding"};
    static const List ulaw{"bits", "integer", "symmetric", "u"};
    static const List po2{"bits", "max_value", "use_stochastic_rounding", "quadratic_approximation", "log2_rounding",
                          "qnoise_factor", "var_name", "use_ste", "use_variables"};
    static const List relu_po2{"bits", "max_value", "negative_slope", "use_stochastic_rounding",
                               "quadratic_approximation", "log2_rounding", "qnoise_factor", "var_name", "use_ste",
                               "use_variables"};
    static const List hswish{"bits", "integer", "symmetric", "alpha", "use_stochastic_rounding", "scale_axis",
                             "qnoise_factor", "var_name", "use_variables", "relu_shift", "relu_upper_bound"};
    static const List none;
    switch (kind) {
        case QuantizerKind::quantized_bits: return bits;
        case QuantizerKind::quantized_linear: return linear;
        case QuantizerKind::binary: return binary;
        case QuantizerKind::ternary: return ternary;
        case QuantizerKind::stochastic_binary:
        case QuantizerKind::bernoulli: return stochastic_binary;
        case QuantizerKind::stochastic_ternary: return stochastic_ternary;
        case QuantizerKind::quantized_relu: return relu;
        case QuantizerKind::quantized_tanh: return tanh;
        case QuantizerKind::quantized_sigmoid: return sigmoid;
        case QuantizerKind::quantized_ulaw: return ulaw;
        case QuantizerKind::quantized_po2: return po2;
        case QuantizerKind::quantized_relu_po2: return relu_po2;
        case QuantizerKind::quantized_hswish: return hswish;
        default: return none;
    }
}

/// Arguments that are printed by position whatever their value.
std::size_t always_printed(QuantizerKind kind) {
    switch (kind) {
        case QuantizerKind::quantized_bits:
        case QuantizerKind::quantized_linear:
        case QuantizerKind::quantized_hswish:
        case QuantizerKind::quantized_ulaw: return 3;
        case QuantizerKind::quantized_relu: return 2;
        case QuantizerKind::quantized_tanh:
        case QuantizerKind::quantized_sigmoid:
        case QuantizerKind::quantized_po2:
        case QuantizerKind::quantized_relu_po2: return 1;
        default: return 0;
    }
}

[[noreturn]] void refuse(const Quantizer& q, const std::string& name, std::string_view wanted) {
    throw UsageError(cat(q.name(), ": ", name, " must be ", wanted));
}

double number(const Quantizer& q, const std::string& name, const Argument& value) {
    if (const auto* v = std::get_if<double>(&value)) return *v;
    if (const auto* v = std::get_if<bool>(&value)) return *v ? 1 : 0;
    refuse(q, name, "a number");
}
std::int64_t integer(const Quantizer& q, const std::string& name, const Argument& value) {
    const double v = number(q, name, value);
    if (v != std::floor(v) || std::abs(v) > 1e9) refuse(q, name, "an integer");
    return static_cast<std::int64_t>(v);
}
bool truth(const Quantizer& q, const std::string& name, const Argument& value) {
    const double v = number(q, name, value);
    if (v != 0 && v != 1) refuse(q, name, "True, False, 1 or 0");
    return v == 1;
}
std::optional<double> optional_number(const Quantizer& q, const std::string& name, const Argument& value) {
    if (std::holds_alternative<std::monostate>(value)) return std::nullopt;
    return number(q, name, value);
}
std::vector<double> numbers(const Quantizer& q, const std::string& name, const Argument& value) {
    if (std::holds_alternative<std::monostate>(value)) return {};
    if (const auto* list = std::get_if<std::vector<double>>(&value)) return *list;
    return {number(q, name, value)};
}
std::vector<std::int64_t> integers(const Quantizer& q, const std::string& name, const Argument& value) {
    std::vector<std::int64_t> list;
    for (const double v : numbers(q, name, value)) list.push_back(integer(q, name, Argument(v)));
    return list;
}

Alpha alpha_from(const Quantizer& q, const Argument& value) {
    if (std::holds_alternative<std::monostate>(value)) return {};
    if (const auto* word = std::get_if<std::string>(&value)) {
        if (*word == "auto") return {Alpha::Kind::automatic};
        if (*word == "auto_po2") return {Alpha::Kind::automatic_po2};
        throw UsageError(cat(q.name(), ": alpha must be None, a number, 'auto' or 'auto_po2', got ", in_quotes(*word)));
    }
    const double v = number(q, "alpha", value);
    if (!(v > 0) || !std::isfinite(v)) throw UsageError(cat(q.name(), ": alpha must be positive, got ", v));
    return {Alpha::Kind::number, v};
}

Argument from_optional(const std::optional<double>& v) { return v ? Argument(*v) : Argument(); }
template <class T>
Argument from_list(const std::vector<T>& list) {
    if (list.empty()) return {};
    if (list.size() == 1) return static_cast<double>(list.front());
    return std::vector<double>(list.begin(), list.end());
}

}  // namespace

const std::vector<std::string>& argument_names(QuantizerKind kind, Release release) {
    static const std::vector<std::string> old_tanh{"bits", "integer", "symmetric", "use_stochastic_rounding"};
    if (kind == QuantizerKind::quantized_tanh && release == Release::v0_8) return old_tanh;
    return names_of(kind);
}

void set_argument(Quantizer& q, const std::string& name, const Argument& value) {
    const auto& known = names_of(q.kind);
    const bool old_integer = name == "integer" && q.kind == QuantizerKind::quantized_tanh;
    if (std::find(known.begin(), known.end(), name) == known.end() && !old_integer) {
        const std::string near = closest(name, known);
        throw UsageError(cat(q.name(), ": has no argument ", in_quotes(name), near.empty() ? "" : ", perhaps " + near));
    }
    if (name == "bits") q.bits = integer(q, name, value);
    else if (name == "integer") q.integer = integer(q, name, value);
    else if (name == "symmetric") q.symmetric = truth(q, name, value);
    else if (name == "keep_negative") q.keep_negative = truth(q, name, value);
    else if (name == "alpha") q.alpha = alpha_from(q, value);
    else if (name == "use_stochastic_rounding") q.use_stochastic_rounding = truth(q, name, value);
    else if (name == "scale_axis") q.scale_axis = integers(q, name, value);
    else if (name == "qnoise_factor") q.qnoise_factor = number(q, name, value);
    else if (name == "use_ste") q.use_ste = truth(q, name, value);
    else if (name == "elements_per_scale") q.elements_per_scale = integers(q, name, value);
    else if (name == "min_po2_exponent") q.min_po2_exponent = optional_number(q, name, value);
    else if (name == "max_po2_exponent") q.max_po2_exponent = optional_number(q, name, value);
    else if (name == "post_training_scale") q.post_training_scale = numbers(q, name, value);
    else if (name == "use_01") q.use_01 = truth(q, name, value);
    else if (name == "threshold") q.threshold = optional_number(q, name, value);
    else if (name == "number_of_unrolls") q.number_of_unrolls = integer(q, name, value);
    else if (name == "temperature") q.temperature = number(q, name, value);
    else if (name == "use_real_sigmoid") q.use_real_sigmoid = truth(q, name, value);
    else if (name == "use_sigmoid") q.use_sigmoid = truth(q, name, value);
    else if (name == "negative_slope") q.negative_slope = number(q, name, value);
    else if (name == "relu_upper_bound") q.relu_upper_bound = optional_number(q, name, value);
    else if (name == "is_quantized_clip") q.is_quantized_clip = truth(q, name, value);
    else if (name == "u") q.u = number(q, name, value);
    else if (name == "use_real_tanh") q.use_real_tanh = truth(q, name, value);
    else if (name == "max_value") q.max_value = optional_number(q, name, value);
    else if (name == "quadratic_approximation") q.quadratic_approximation = truth(q, name, value);
    else if (name == "relu_shift") q.relu_shift = number(q, name, value);
    else if (name == "log2_rounding") {
        const auto* word = std::get_if<std::string>(&value);
        if (!word) refuse(q, name, "'rnd' or 'floor'");
        q.log2_rounding = *word;
    }
}

Argument argument(const Quantizer& q, const std::string& name) {
    if (name == "bits") return static_cast<double>(q.bits);
    if (name == "integer") return static_cast<double>(q.integer);
    if (name == "symmetric") return q.symmetric;
    if (name == "keep_negative") return q.keep_negative;
    if (name == "alpha") {
        switch (q.alpha.kind) {
            case Alpha::Kind::none: return {};
            case Alpha::Kind::number: return q.alpha.value;
            case Alpha::Kind::automatic: return std::string("auto");
            case Alpha::Kind::automatic_po2: return std::string("auto_po2");
        }
    }
    if (name == "use_stochastic_rounding") return q.use_stochastic_rounding;
    if (name == "scale_axis") return from_list(q.scale_axis);
    if (name == "qnoise_factor") return q.qnoise_factor;
    if (name == "use_ste") return q.use_ste;
    if (name == "elements_per_scale") return from_list(q.elements_per_scale);
    if (name == "min_po2_exponent") return from_optional(q.min_po2_exponent);
    if (name == "max_po2_exponent") return from_optional(q.max_po2_exponent);
    if (name == "post_training_scale") return from_list(q.post_training_scale);
    if (name == "use_01") return q.use_01;
    if (name == "threshold") return from_optional(q.threshold);
    if (name == "number_of_unrolls") return static_cast<double>(q.number_of_unrolls);
    if (name == "temperature") return q.temperature;
    if (name == "use_real_sigmoid") return q.use_real_sigmoid;
    if (name == "use_sigmoid") return q.use_sigmoid;
    if (name == "negative_slope") return q.negative_slope;
    if (name == "relu_upper_bound") return from_optional(q.relu_upper_bound);
    if (name == "is_quantized_clip") return q.is_quantized_clip;
    if (name == "u") return q.u;
    if (name == "use_real_tanh") return q.use_real_tanh;
    if (name == "max_value") return from_optional(q.max_value);
    if (name == "quadratic_approximation") return q.quadratic_approximation;
    if (name == "log2_rounding") return q.log2_rounding;
    if (name == "relu_shift") return q.relu_shift;
    return {};  // var_name, use_variables, enable_fast_inference
}

QuantizerKind quantizer_kind(std::string_view name) {
    for (std::size_t i = 0; i < quantizer_names.size(); ++i)
        if (quantizer_names[i] == name) return static_cast<QuantizerKind>(i);
    const std::string near =
        closest(name, std::vector<std::string>(quantizer_names.begin(), quantizer_names.end()));
    throw UsageError(cat("unknown quantizer ", in_quotes(name), near.empty() ? "" : ", perhaps " + near));
}

namespace {

/// Reads the text from left to right.
class Reader {
   public:
    Reader(std::string_view text, Release release) : text_(text), release_(release) {}

    Quantizer quantizer() {
        blanks();
        const std::string name = word();
        if (name.empty()) fail_here("needs the name of a quantizer");
        Quantizer q;
        try {
            q = make_quantizer(quantizer_kind(name));
            if (accept('(')) arguments(q);
            end();
            check(q);
        } catch (const Mistake&) {
            throw;
        } catch (const UsageError& error) {
            const std::string why = error.what();
            throw UsageError(cat("quantizer ", in_quotes(text_), ": ", why));
        }
        return q;
    }

   private:
    /// A message that shows the text already.
    struct Mistake : UsageError {
        using UsageError::UsageError;
    };
    [[noreturn]] void fail_here(const std::string& why) const { throw Mistake(cat("quantizer ", in_quotes(text_), ": ", why)); }

    void blanks() {
        while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t')) ++at_;
    }
    char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
    bool accept(char c) {
        blanks();
        if (peek() != c || at_ >= text_.size()) return false;
        ++at_;
        return true;
    }
    void end() {
        blanks();
        if (at_ == text_.size()) return;
        fail_here(peek() == ')' ? "unbalanced parentheses" : cat("cannot read ", in_quotes(text_.substr(at_))));
    }
    static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
    std::string word() {
        const std::size_t start = at_;
        while (at_ < text_.size() && (is_letter(text_[at_]) || (at_ > start && text_[at_] >= '0' && text_[at_] <= '9'))) ++at_;
        return std::string(text_.substr(start, at_ - start));
    }

    void arguments(Quantizer& q) {
        const auto& names = argument_names(q.kind, release_);
        std::vector<std::string> set;
        bool named = false;
        if (accept(')')) return;
        for (std::size_t position = 0;; ++position) {
            blanks();
            std::string name;
            const std::size_t start = at_;
            if (is_letter(peek())) name = word();
            if (!name.empty() && accept('=')) {
                named = true;
            } else {
                at_ = start;
                if (named) fail_here("an argument without a name stands behind one with a name");
                if (position >= names.size())
                    fail_here(names.empty() ? cat(q.name(), " takes no arguments")
                                            : cat(q.name(), " takes at most ", names.size(), " arguments"));
                name = names[position];
            }
            if (std::find(set.begin(), set.end(), name) != set.end()) fail_here(cat("sets ", name, " twice"));
            set.push_back(name);
            blanks();
            set_argument(q, name, value());
            if (accept(')')) return;
            if (!accept(',')) fail_here(at_ >= text_.size() ? "unbalanced parentheses" : cat("cannot read ", in_quotes(text_.substr(at_))));
        }
    }

    Argument value() {
        const char c = peek();
        if (c == '\'' || c == '"') return quoted(c);
        if (c == '[' || c == '(') return list(c == '[' ? ']' : ')');
        if (is_letter(c)) {
            const std::string name = word();
            if (name == "True") return true;
            if (name == "False") return false;
            if (name == "None") return {};
            fail_here(cat("cannot read ", in_quotes(name), " (words stand in quotes)"));
        }
        return digits();
    }
    std::string quoted(char quote) {
        const std::size_t close = text_.find(quote, ++at_);
        if (close == std::string_view::npos) fail_here("unfinished quotes");
        const std::string inside(text_.substr(at_, close - at_));
        at_ = close + 1;
        return inside;
    }
    std::vector<double> list(char close) {
        std::vector<double> values;
        ++at_;
        while (!accept(close)) {
            blanks();
            values.push_back(digits());
            if (accept(',')) continue;
            if (!accept(close)) fail_here("unfinished list");
            break;
        }
        return values;
    }
    double digits() {
        const char* first = text_.data() + at_;
        const char* last = text_.data() + text_.size();
        if (first != last && *first == '+') ++first;
        double v = 0;
        const auto [stop, error] = std::from_chars(first, last, v);
        if (error != std::errc() || stop == first || !std::isfinite(v))
            fail_here(first == last ? "unbalanced parentheses" : cat("needs a value at ", in_quotes(text_.substr(at_))));
        at_ = static_cast<std::size_t>(stop - text_.data());
        return v;
    }

    std::string_view text_;
    Release release_;
    std::size_t at_ = 0;
};

std::string shortest(double v) {
    char buffer[32];
    return std::string(buffer, std::to_chars(buffer, buffer + sizeof buffer, v).ptr);
}

std::string print(const Argument& value, bool as_flag) {
    if (std::holds_alternative<std::monostate>(value)) return "None";
    if (const auto* v = std::get_if<bool>(&value)) return as_flag ? (*v ? "1" : "0") : (*v ? "True" : "False");
    if (const auto* v = std::get_if<double>(&value)) return shortest(*v);
    if (const auto* v = std::get_if<std::string>(&value)) return "'" + *v + "'";
    std::string text;
    for (const double v : std::get<std::vector<double>>(value)) text += (text.empty() ? "" : ",") + shortest(v);
    return "[" + text + "]";
}

}  // namespace

Quantizer parse_quantizer(std::string_view text, Release release) { return Reader(text, release).quantizer(); }

std::string to_string(const Quantizer& q) {
    const Quantizer plain = make_quantizer(q.kind);
    std::string list;
    std::size_t position = 0;
    for (const std::string& name : names_of(q.kind)) {
        const Argument value = argument(q, name);
        const bool by_position = position++ < always_printed(q.kind);
        if (!by_position && value == argument(plain, name)) continue;
        list += (list.empty() ? "" : ",") + (by_position ? "" : name + "=") + print(value, by_position);
    }
    if (q.kind == QuantizerKind::quantized_tanh && q.integer != 0) list += cat(",integer=", q.integer);
    return cat(q.name(), "(", list, ")");
}

Quantizer quantizer_from_json(const std::string& text) {
    const nlohmann::json json = json_or_discarded<nlohmann::json>(text);
    if (json.is_string()) return parse_quantizer(json.get<std::string>());
    if (!json.is_object() || !json.contains("class_name") || !json["class_name"].is_string())
        throw UsageError(cat("quantizer ", in_quotes(text), ": needs text, or an object with class_name and config"));
    Quantizer q = make_quantizer(quantizer_kind(json["class_name"].get<std::string>()));
    const nlohmann::json config = json.value("config", nlohmann::json::object());
    if (!config.is_object()) throw UsageError(cat(q.name(), ": its config must be an object"));
    for (const auto& [name, value] : config.items()) {
        if (name == "name" || name == "trainable" || name == "dtype") continue;
        Argument argument;
        if (value.is_boolean()) argument = value.get<bool>();
        else if (value.is_number()) argument = value.get<double>();
        else if (value.is_string()) argument = value.get<std::string>();
        else if (value.is_array()) {
            std::vector<double> list;  // scales by channel stand in an array of the weight's rank
            if (!append_numbers(value, list)) throw UsageError(cat(q.name(), ": ", name, " must be a list of numbers"));
            argument = list;
        } else if (!value.is_null()) throw UsageError(cat(q.name(), ": cannot read ", name));
        set_argument(q, name, argument);
    }
    check(q);
    return q;
}

}  // namespace bitloom::quant::qkeras
