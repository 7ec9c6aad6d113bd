#pragma once
// Values of flags: from text, to text, and within their bounds. Used by flags.h.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace bitloom {

/// Where a flag's value lives; its type is the flag's type.
using FlagTarget = std::variant<bool*, std::int64_t*, double*, std::string*, std::vector<std::string>*,
                                std::vector<std::int64_t>*, std::vector<double>*>;
using FlagValue = std::variant<bool, std::int64_t, double, std::string, std::vector<std::string>,
                               std::vector<std::int64_t>, std::vector<double>>;

/// What a value must satisfy; in a list, every element.
struct FlagRule {
    std::optional<double> min{}, max{};  ///< inclusive; for numbers
    std::vector<std::string> choices{};  ///< for strings; none: any
    std::optional<double> below{};       ///< exclusive; for numbers
};

/// Reads a value of `target`'s type. Booleans: true, false, t, f, yes, no, y, n, 1, 0 in any case; integers: decimal or
/// 0x; numbers must be finite; lists are split by split_list. Throws UsageError without naming the flag ("needs an
/// integer, got 'x'").
FlagValue value_from_text(const FlagTarget& target, std::string_view text);
/// Throws UsageError where the rule is broken ("must be at least 1, got 0").
void check_rule(const FlagRule& rule, const FlagValue& value);
void assign(const FlagTarget& target, FlagValue value);
FlagValue value_of(const FlagTarget& target);

/// The value as it would be written on the command line.
std::string to_text(const FlagValue& value);
/// INT, NUMBER, TEXT, or LIST of these; BOOL.
std::string_view type_name(const FlagTarget& target);

/// Splits on commas as Python's csv reader does (strict), then strips blanks: a field that starts with a double quote
/// may hold commas and doubled quotes. Empty text is an empty list. Throws UsageError for an unfinished or badly ended
/// quote.
std::vector<std::string> split_list(std::string_view text);

/// The candidate with the fewest edits (insertions, deletions, substitutions, swaps of neighbours) from `name`, or ""
/// where all are far from it.
std::string closest(std::string_view name, const std::vector<std::string>& candidates);

/// Text for a one-line message: in single quotes, control characters escaped, long text cut.
std::string in_quotes(std::string_view text);

}  // namespace bitloom
