#include "engine/io/flag_values.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "engine/error.h"

namespace bitloom {

namespace {

template <class... Args>
[[noreturn]] void usage(const Args&... args) {
    throw UsageError(cat(args...));
}

constexpr std::string_view blanks = " \t\r\n\v\f";

std::string_view strip(std::string_view text) {
    const auto first = text.find_first_not_of(blanks);
    if (first == std::string_view::npos) return {};
    return text.substr(first, text.find_last_not_of(blanks) - first + 1);
}

bool read_bool(std::string_view text) {
    std::string lower(strip(text));
    for (char& c : lower) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    for (const char* yes : {"true", "t", "yes", "y", "1"})
        if (lower == yes) return true;
    for (const char* no : {"false", "f", "no", "n", "0"})
        if (lower == no) return false;
    usage("needs true or false, got ", in_quotes(text));
}

std::int64_t read_integer(std::string_view text) {
    std::string_view digits = strip(text);
    const bool negative = digits.starts_with('-');
    if (negative || digits.starts_with('+')) digits.remove_prefix(1);
    int base = 10;
    if (digits.starts_with("0x") || digits.starts_with("0X")) {
        digits.remove_prefix(2);
        base = 16;
    }
    // Unsigned, for the sign is gone and -2^63 has no positive counterpart.
    std::uint64_t magnitude = 0;
    const char* const last = digits.data() + digits.size();
    const auto [rest, error] = std::from_chars(digits.data(), last, magnitude, base);
    constexpr std::uint64_t limit = std::uint64_t{1} << 63;
    if (error == std::errc::result_out_of_range || (error == std::errc() && magnitude >= limit + (negative ? 1 : 0)))
        usage("needs a 64-bit integer, got ", in_quotes(text));
    if (error != std::errc() || rest != last) usage("needs an integer, got ", in_quotes(text));
    return static_cast<std::int64_t>(negative ? 0 - magnitude : magnitude);
}

double read_number(std::string_view text) {
    std::string_view digits = strip(text);
    if (digits.starts_with('+') && !digits.starts_with("+-")) digits.remove_prefix(1);  // from_chars knows no plus
    double value = 0;
    const char* const last = digits.data() + digits.size();
    const auto [rest, error] = std::from_chars(digits.data(), last, value);
    if (error != std::errc() || rest != last) usage("needs a number, got ", in_quotes(text));
    if (!std::isfinite(value)) usage("needs a finite number, got ", in_quotes(text));
    return value;
}

std::string number_text(double value) {
    char buffer[32];
    const auto [end, error] =
        std::to_chars(buffer, buffer + sizeof buffer, value);  // the shortest that reads back equal
    return std::string(buffer, error == std::errc() ? end : buffer);
}

std::string list_item(const std::string& text) {
    const bool plain = text.find_first_of(",\"\n\r") == std::string::npos && strip(text) == text;
    if (plain) return text;
    std::string out = "\"";
    for (char c : text) out += c == '"' ? std::string("\"\"") : std::string(1, c);
    return out + "\"";
}

template <class T>
struct Reader;
template <>
struct Reader<bool> {
    static bool read(std::string_view text) { return read_bool(text); }
};
template <>
struct Reader<std::int64_t> {
    static std::int64_t read(std::string_view text) { return read_integer(text); }
};
template <>
struct Reader<double> {
    static double read(std::string_view text) { return read_number(text); }
};
template <>
struct Reader<std::string> {
    static std::string read(std::string_view text) { return std::string(text); }
};
template <class T>
struct Reader<std::vector<T>> {
    static std::vector<T> read(std::string_view text) {
        std::vector<T> values;
        for (const std::string& item : split_list(text)) values.push_back(Reader<T>::read(item));
        return values;
    }
};

void check_one(const FlagRule&, bool) {}
void check_one(const FlagRule& rule, double value) {
    if (rule.min && value < *rule.min) usage("must be at least ", number_text(*rule.min), ", got ", number_text(value));
    if (rule.max && value > *rule.max) usage("must be at most ", number_text(*rule.max), ", got ", number_text(value));
    if (rule.below && value >= *rule.below) usage("must be below ", number_text(*rule.below), ", got ", number_text(value));
}
void check_one(const FlagRule& rule, std::int64_t value) {
    if (rule.min && static_cast<double>(value) < *rule.min)
        usage("must be at least ", number_text(*rule.min), ", got ", value);
    if (rule.max && static_cast<double>(value) > *rule.max)
        usage("must be at most ", number_text(*rule.max), ", got ", value);
}
void check_one(const FlagRule& rule, const std::string& value) {
    if (rule.choices.empty() || std::find(rule.choices.begin(), rule.choices.end(), value) != rule.choices.end())
        return;
    std::string all;
    for (const std::string& choice : rule.choices) all += (all.empty() ? "" : ", ") + choice;
    const std::string near = closest(value, rule.choices);
    usage("must be one of ", all, ", got ", in_quotes(value), near.empty() ? "" : "; did you mean " + near + "?");
}
template <class T>
void check_one(const FlagRule& rule, const std::vector<T>& values) {
    for (const T& value : values) check_one(rule, value);
}

std::string text_one(bool value) { return value ? "true" : "false"; }
std::string text_one(std::int64_t value) { return std::to_string(value); }
std::string text_one(double value) { return number_text(value); }
std::string text_one(const std::string& value) { return value; }
template <class T>
std::string text_one(const std::vector<T>& values) {
    // A list of one empty string, written bare, would read back as the empty list.
    if (values.size() == 1 && text_one(values[0]).empty()) return "\"\"";
    std::string out;
    for (std::size_t i = 0; i < values.size(); ++i) out += (i ? "," : "") + list_item(text_one(values[i]));
    return out;
}

}  // namespace

FlagValue value_from_text(const FlagTarget& target, std::string_view text) {
    return std::visit([&]<class T>(T*) { return FlagValue(std::in_place_type<T>, Reader<T>::read(text)); }, target);
}

void check_rule(const FlagRule& rule, const FlagValue& value) {
    std::visit([&](const auto& v) { check_one(rule, v); }, value);
}

void assign(const FlagTarget& target, FlagValue value) {
    std::visit([&]<class T>(T* to) { *to = std::get<T>(std::move(value)); }, target);
}

FlagValue value_of(const FlagTarget& target) {
    return std::visit([]<class T>(T* from) { return FlagValue(std::in_place_type<T>, *from); }, target);
}

std::string to_text(const FlagValue& value) {
    return std::visit([](const auto& v) { return text_one(v); }, value);
}

std::string_view type_name(const FlagTarget& target) {
    constexpr std::string_view names[] = {"BOOL", "INT", "NUMBER", "TEXT", "TEXT,...", "INT,...", "NUMBER,..."};
    static_assert(std::size(names) == std::variant_size_v<FlagTarget>);
    return names[target.index()];
}

std::vector<std::string> split_list(std::string_view text) {
    std::vector<std::string> items;
    if (strip(text).empty()) return items;
    std::size_t at = 0;
    for (;;) {
        std::string item;
        if (at < text.size() && text[at] == '"') {
            for (++at;; ++at) {
                if (at >= text.size()) usage("has an unfinished quote: ", in_quotes(text));
                if (text[at] != '"')
                    item += text[at];
                else if (at + 1 < text.size() && text[at + 1] == '"')
                    item += text[++at];
                else
                    break;
            }
            ++at;
            if (at < text.size() && text[at] != ',') usage("needs a comma after the closing quote: ", in_quotes(text));
        } else {
            const std::size_t end = std::min(text.find(',', at), text.size());
            item = text.substr(at, end - at);
            at = end;
        }
        items.emplace_back(strip(item));
        if (at >= text.size()) return items;
        ++at;  // the comma
    }
}

std::string closest(std::string_view name, const std::vector<std::string>& candidates) {
    // Optimal string alignment distance, three rows at a time.
    const auto distance = [](std::string_view a, std::string_view b) {
        std::vector<std::size_t> before(b.size() + 1), above(b.size() + 1), row(b.size() + 1);
        for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
        for (std::size_t i = 1; i <= a.size(); ++i) {
            std::swap(before, above);
            std::swap(above, row);
            row[0] = i;
            for (std::size_t j = 1; j <= b.size(); ++j) {
                row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
                if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                    row[j] = std::min(row[j], before[j - 2] + 1);
            }
        }
        return row[b.size()];
    };
    constexpr std::size_t longest = 100;
    if (name.size() > longest) return "";
    std::string best;
    // More edits than a third (two in short words) make another word; so do more than half.
    std::size_t fewest = std::min(std::max<std::size_t>(2, name.size() / 3), name.size() / 2) + 1;
    if (name.size() < 2) return "";
    for (const std::string& candidate : candidates) {
        const std::size_t edits = distance(name, candidate);
        if (edits < fewest) {
            fewest = edits;
            best = candidate;
        }
    }
    return best;
}

std::string in_quotes(std::string_view text) {
    constexpr std::size_t longest = 80;
    constexpr char hex[] = "0123456789abcdef";
    std::string out = "'";
    for (const char c : text.substr(0, longest)) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte < 0x20 || byte == 0x7f)
            out += {'\\', 'x', hex[byte >> 4], hex[byte & 15]};
        else
            out += c;
    }
    return out + (text.size() > longest ? "...'" : "'");
}

}  // namespace bitloom
