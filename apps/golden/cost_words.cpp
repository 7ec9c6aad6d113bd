#include "apps/golden/cost_words.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>

#include "engine/error.h"
#include "engine/io/flag_values.h"
#include "quant/cost/attached.h"

namespace bitloom::golden {

namespace {

using cost::CostLayer;
using cost::CostNetwork;
using cost::DataType;
using cost::LayerKind;
using Json = nlohmann::json;

constexpr std::string_view known_dense_network =
    "784 -> QDense 300 binary/binary -> quantized_relu(4,0) -> QDense 100 quantized_bits(4,0,1) -> "
    "QAdaptiveActivation quantized_relu 4 -> QDense 10 quantized_bits(4,0,1) -> softmax";
constexpr std::string_view known_dense_settings =
    "source/keras_quantizer int8, keras_accumulator int32, sram/sram, min_sram 8*16*2^20 bits, rd_wr_on_io 0";
constexpr std::string_view known_convolutional_network =
    "input 28x28x1; c1 Conv2D 32 3x3 SAME; b1 BN; a1 Activation relu; mp1 MaxPool2; c2 QConv2D 32 3x3 SAME "
    "binary/binary; b2 QBN; a2 QActivation binary; mp2 MaxPool 2; c3 QConv2D 32 3x3 SAME ternary/ternary activation "
    "binary; flatten; dense Dense 1 softmax";

std::string trimmed(std::string_view text) {
    while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front()))) text.remove_prefix(1);
    while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back()))) text.remove_suffix(1);
    return std::string(text);
}

std::vector<std::string> words_of(std::string_view text) {
    std::vector<std::string> words;
    for (std::string& word : split_outside(text, ' '))
        if (!word.empty()) words.push_back(std::move(word));
    return words;
}

std::int64_t integer_of(std::string_view text) {
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    require(error == std::errc() && end == text.data() + text.size(), in_quotes(text), " is no integer");
    return value;
}

// 8*16*2^20
double product_of(std::string_view text) {
    double product = 1;
    for (const std::string& factor : split_outside(text, '*')) {
        const std::vector<std::string> power = split_outside(factor, '^');
        const auto base = static_cast<double>(integer_of(power.at(0)));
        product *= power.size() > 1 ? std::pow(base, static_cast<double>(integer_of(power[1]))) : base;
    }
    return product;
}

class PythonReader {
   public:
    explicit PythonReader(std::string_view text) : text_(text) {}
    Json read_all() {
        Json value = read();
        skip_blanks();
        require(at_ == text_.size(), "unexpected text behind a Python value: ", in_quotes(text_.substr(at_)));
        return value;
    }

   private:
    Json read() {
        skip_blanks();
        require(at_ < text_.size(), "a Python value ends early");
        const char c = text_[at_];
        if (c == '[' || c == '(') return list(c == '[' ? ']' : ')');
        if (c == '\'' || c == '"') return string(c);
        if (text_.substr(at_).starts_with("OrderedDict(")) {
            at_ += std::string_view("OrderedDict(").size();
            const Json pairs = read();
            expect(')');
            Json object = Json::object();
            for (const Json& pair : pairs) object[pair.at(0).get<std::string>()] = pair.at(1);
            return object;
        }
        const std::size_t begin = at_;
        while (at_ < text_.size() && std::string_view(",)] ").find(text_[at_]) == std::string_view::npos) ++at_;
        const std::string_view word = text_.substr(begin, at_ - begin);
        if (word == "True") return true;
        if (word == "False") return false;
        if (word == "None") return nullptr;
        return Json::parse(word);
    }
    Json list(char end) {
        Json values = Json::array();
        ++at_;
        for (skip_blanks(); at_ < text_.size() && text_[at_] != end; skip_blanks()) {
            values.push_back(read());
            skip_blanks();
            if (at_ < text_.size() && text_[at_] == ',') ++at_;
        }
        expect(end);
        return values;
    }
    Json string(char quote) {
        const std::size_t end = text_.find(quote, at_ + 1);
        require(end != std::string_view::npos, "a Python string without end");
        const std::string value(text_.substr(at_ + 1, end - at_ - 1));
        at_ = end + 1;
        return value;
    }
    void expect(char c) {
        skip_blanks();
        require(at_ < text_.size() && text_[at_] == c, "expected '", c, "' in a Python value");
        ++at_;
    }
    void skip_blanks() {
        while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_]))) ++at_;
    }

    std::string_view text_;
    std::size_t at_ = 0;
};

DataType type_named(const std::string& text) {
    return cost::is_standard_type(text) ? cost::standard_type(text) : cost::type_of_text(text);
}

bool is_true(const std::string& word) { return word != "0" && word != "False" && word != "false"; }

// One setting: a name and its value, or a value that speaks for itself.
void apply_setting(CostSettings& settings, const std::string& part) {
    std::string text = part;
    for (char& c : text)
        if (c == '=' && text.find('(') == std::string::npos) c = ' ';
    const std::vector<std::string> words = words_of(text);
    if (words.empty()) return;
    if (words.size() == 1 && cost::is_standard_type(words[0])) {
        settings.types.keras_quantizer = settings.types.keras_accumulator = cost::standard_type(words[0]);
        return;
    }
    const std::vector<std::string> memories = split_outside(words[0], '/');
    const auto is_memory = [](const std::string& name) { return name == "sram" || name == "dram" || name == "fixed"; };
    if (memories.size() == 2 && is_memory(memories[0]) && is_memory(memories[1])) {
        settings.energy.weights = cost::memory_named(memories[0]);
        settings.energy.activations = cost::memory_named(memories[1]);
        return;
    }
    if (words.size() < 2) return;
    for (const std::string& name : split_outside(words[0], '/')) {
        if (name == "for_reference") settings.types.for_reference = is_true(words[1]);
        if (name == "rd_wr_on_io") settings.energy.io_in_dram = is_true(words[1]);
        if (name == "min_sram" || name == "min_sram_size") settings.energy.least_sram_bits = product_of(words[1]);
        if (name == "keras_quantizer" || name == "reference" || name == "reference_internal")
            settings.types.keras_quantizer = type_named(split_outside(words[1], '/')[0]);
        if (name == "keras_accumulator" || name == "reference_accumulator" || name == "accumulator")
            settings.types.keras_accumulator = type_named(words[1]);
        if (name == "reference" && words[1].find('/') != std::string::npos)
            settings.types.keras_accumulator = type_named(split_outside(words[1], '/')[1]);
        if (name == "source" || name == "sources" || name == "source_quantizers") {
            settings.types.source = type_named(words[1]);
            settings.source_given = true;
        }
    }
}

std::pair<DataType, DataType> kernel_and_bias(const std::string& text) {
    const std::vector<std::string> parts = split_outside(text, '/');
    return {cost::type_of_text(parts[0]), cost::type_of_text(parts.back())};
}

/// Adds a layer behind the last one.
CostLayer& append(CostNetwork& network, std::string name, LayerKind kind, const Shape& output) {
    CostLayer layer;
    layer.name = std::move(name);
    layer.kind = kind;
    layer.inputs = {static_cast<int>(network.layers.size()) - 1};
    layer.input_shapes = {network.layers.empty() ? network.input : network.layers.back().output_shape};
    layer.output_shape = output;
    network.layers.push_back(std::move(layer));
    return network.layers.back();
}

Shape shape_so_far(const CostNetwork& network) {
    return network.layers.empty() ? network.input : network.layers.back().output_shape;
}

void quantize(CostLayer& layer, const std::string& kernel_and_bias_text) {
    std::tie(layer.types.kernel, layer.types.bias) = kernel_and_bias(kernel_and_bias_text);
    layer.quantized = true;
}

void append_activation(CostNetwork& network, std::string name, const std::string& text) {
    CostLayer& layer = append(network, std::move(name), LayerKind::activation, shape_so_far(network));
    layer.activation = text;
    if (text == "softmax" || text == "relu" || text == "sigmoid" || text == "tanh") return;
    layer.types.activation = cost::type_of_text(text);
    layer.quantized = true;
}

// What follows the sizes of a layer: quantizers, an own activation behind "activation" or as a word of its own.
void apply_layer_words(CostLayer& layer, const std::vector<std::string>& words, std::size_t first) {
    for (std::size_t i = first; i < words.size(); ++i) {
        if (words[i] == "SAME" || words[i] == "VALID") continue;
        if (words[i] == "activation") {
            layer.types.activation = cost::type_of_text(words.at(++i));
        } else if (words[i] == "softmax" || words[i] == "relu" || words[i] == "sigmoid") {
            layer.activation = words[i];
        } else {
            quantize(layer, words[i]);
        }
    }
}

}  // namespace

std::vector<std::string> split_outside(std::string_view text, char separator) {
    std::vector<std::string> parts;
    int depth = 0;
    std::size_t begin = 0;
    char quote = 0;
    for (std::size_t i = 0; i <= text.size(); ++i) {
        const char c = i < text.size() ? text[i] : separator;
        if (i < text.size() && quote != 0) {
            if (c == quote) quote = 0;
        } else if (c == '\'' || c == '"') {
            quote = c;
        } else if (c == '(' || c == '[') {
            ++depth;
        } else if (c == ')' || c == ']') {
            --depth;
        }
        if (i == text.size() || (depth == 0 && quote == 0 && c == separator)) {
            parts.push_back(trimmed(text.substr(begin, i - begin)));
            begin = i + 1;
        }
    }
    return parts;
}

Json python_literal(std::string_view text) { return PythonReader(text).read_all(); }

CostSettings cost_settings(std::string_view words) {
    CostSettings settings;
    for (const std::string& part : split_outside(words, ';')) {
        if (part.find("->") != std::string::npos || part.starts_with("kernels") || part.starts_with("activations"))
            continue;
        for (const std::string& setting : comma_list(part)) apply_setting(settings, setting);
    }
    return settings;
}

std::vector<DataType> listed_types(std::string_view words, std::string_view name) {
    std::vector<DataType> types;
    for (const std::string& part : split_outside(words, ';')) {
        if (!part.starts_with(name)) continue;
        const std::size_t equals = split_outside(part, '=')[0].size();
        const std::string_view list = std::string_view(part).substr(
            split_outside(part, '=').size() > 1 ? part.find('=', equals) + 1 : name.size());
        for (const std::string& quantizer : comma_list(list))  // a name may stand in front: conv_1 = ternary
            types.push_back(cost::type_of_text(split_outside(quantizer, '=').back()));
    }
    return types;
}

CostSettings dense_settings_of_words(std::string_view words) {
    const bool by_name = words.find("->") == std::string_view::npos;
    return cost_settings(by_name ? cat(known_dense_settings, ";", words) : std::string(words));
}

CostNetwork dense_network_of_words(std::string_view words) {
    std::string text = split_outside(words, ';')[0];
    if (text.find("->") == std::string::npos) text = known_dense_network;
    CostNetwork network;
    int dense = 0, activation = 0;
    std::size_t begin = 0;
    for (bool first = true; begin <= text.size(); first = false) {
        const std::size_t end = std::min(text.find("->", begin), text.size());
        const std::vector<std::string> part = words_of(std::string_view(text).substr(begin, end - begin));
        begin = end + 2;
        require(!part.empty(), "a network with an empty layer: ", in_quotes(text));
        if (first) {
            network.input = {integer_of(part[0])};
        } else if (part[0] == "QDense" || part[0] == "Dense") {
            const std::int64_t units = integer_of(part.at(1)), in = shape_so_far(network).numel();
            CostLayer& layer = append(network, cat("d", dense++), LayerKind::dense, {units});
            layer.kernel = {in, units};
            layer.bias = true;
            apply_layer_words(layer, part, 2);
        } else if (part[0] == "QAdaptiveActivation") {
            append_activation(network, cat("activation_", activation++), cat(part.at(1), "(", part.at(2), ")"));
        } else {
            const std::string& quantizer = part[0] == "QActivation" || part[0] == "Activation" ? part.at(1) : part[0];
            append_activation(network, cat("activation_", activation++), quantizer);
        }
    }
    return network;
}

CostNetwork convolutional_network_of_words(std::string_view words) {
    CostNetwork network;
    for (const std::string& part : split_outside(words.empty() ? known_convolutional_network : words, ';')) {
        const std::vector<std::string> w = words_of(part);
        if (w.empty()) continue;
        const std::string name = w[0], kind = w.size() > 1 ? w[1] : w[0];
        const Shape in = shape_so_far(network);
        if (name == "input") {
            Shape shape;
            for (const std::string& extent : split_outside(w.at(1), 'x')) shape.append(integer_of(extent));
            network.input = shape;
        } else if (kind == "Conv2D" || kind == "QConv2D") {
            const std::int64_t filters = integer_of(w.at(2));
            const std::vector<std::string> extents = split_outside(w.at(3), 'x');
            const std::int64_t kh = integer_of(extents.at(0)), kw = integer_of(extents.at(1));
            const bool same = std::find(w.begin(), w.end(), "SAME") != w.end();
            const std::int64_t h = same ? in[0] : in[0] - kh + 1, width = same ? in[1] : in[1] - kw + 1;
            CostLayer& layer = append(network, name, LayerKind::convolution, {h, width, filters});
            layer.kernel = {kh, kw, in[2], filters};
            layer.bias = true;
            apply_layer_words(layer, w, 4);
        } else if (kind == "Dense" || kind == "QDense") {
            const std::int64_t units = integer_of(w.at(2));
            CostLayer& layer = append(network, name, LayerKind::dense, {units});
            layer.kernel = {in.numel(), units};
            layer.bias = true;
            apply_layer_words(layer, w, 3);
        } else if (kind == "BN" || kind == "QBN") {
            append(network, name, LayerKind::batch_norm, in).quantized = kind == "QBN";
        } else if (kind == "Activation" || kind == "QActivation") {
            append_activation(network, name, w.at(2));
        } else if (kind.starts_with("MaxPool")) {
            const std::int64_t size = kind.size() > 7 ? integer_of(kind.substr(7)) : integer_of(w.at(2));
            append(network, name, LayerKind::max_pool, {in[0] / size, in[1] / size, in[2]}).window = {size, size};
        } else {
            require(name == "flatten", "a layer that this program does not know: ", in_quotes(part));
            append(network, name, LayerKind::flatten, {in.numel()});
        }
    }
    return network;
}

std::map<std::string, cost::CountedParts> counted_parts(std::string_view words) {
    std::map<std::string, cost::CountedParts> parts;
    for (const std::string& rule : split_outside(words, ';')) {
        const std::vector<std::string> sides = split_outside(rule, ':');
        require(sides.size() == 2, "not 'classes: parts': ", in_quotes(rule));
        const bool parameters = sides[1].find("parameters") != std::string::npos;
        const bool activations = sides[1].find("activations") != std::string::npos;
        for (const std::string& name : comma_list(sides[0])) parts[name] = {parameters, activations};
    }
    return parts;
}

}  // namespace bitloom::golden
