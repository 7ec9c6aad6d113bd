#pragma once
// Quantizers as text: "quantized_bits(4,0,alpha='auto_po2')", as the source writes and evaluates them. Nothing is evaluated
// here: a name, and arguments that are numbers, True, False, None, quoted words or lists of numbers.

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "quant/qkeras/quantizer.h"

namespace bitloom::quant::qkeras {

/// An argument: None, a truth value, a number, a word, or a list of numbers.
using Argument = std::variant<std::monostate, bool, double, std::string, std::vector<double>>;

/// The names of a quantizer's arguments in the source's order (release 0.8: quantized_tanh has `integer` second).
const std::vector<std::string>& argument_names(QuantizerKind kind, Release release = Release::current);

/// Sets one argument by name. Numbers 0 and 1 serve as truth values. Throws UsageError for a name that the quantizer does
/// not have, or a value of the wrong kind.
void set_argument(Quantizer& q, const std::string& name, const Argument& value);
Argument argument(const Quantizer& q, const std::string& name);

/// Reads a quantizer. Throws UsageError in one line that shows the text: an unknown name, unbalanced parentheses, an argument
/// that does not exist or is out of bounds.
Quantizer parse_quantizer(std::string_view text, Release release = Release::current);

/// Text that parse_quantizer reads back: leading arguments by position as the source prints them, others by name where
/// they are not at their default. "quantized_bits(4,0,1,alpha=1)", "quantized_relu(4,2)", "binary(alpha='auto_po2')".
std::string to_string(const Quantizer& q);

/// A quantizer's kind by name. Throws UsageError with the closest name for one that there is not.
QuantizerKind quantizer_kind(std::string_view name);

/// From JSON: the text above, or {"class_name": name, "config": {argument: value}} as Keras files hold it; keys of the
/// configuration that only name variables are passed over.
Quantizer quantizer_from_json(const std::string& json);

}  // namespace bitloom::quant::qkeras
