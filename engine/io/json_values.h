#pragma once
// JSON that anybody may have written. The library's own conversions turn 1.5 into 1, true into 1, and are undefined for
// 1e30; and what it reads by a loop it writes by recursion, which a text of many brackets takes beyond the stack.

#include <cstdint>
#include <exception>
#include <string>
#include <vector>

#include "engine/error.h"
#include "engine/io/flag_values.h"

namespace bitloom {

/// Lists and objects within one another that a text may have.
inline constexpr int deepest_json = 100;

/// Reads JSON, with comments where these are allowed. Throws the library's exception for text that is none, and Error where
/// it nests too deeply.
template <class Json>
Json json_from_text(const std::string& text, bool comments = false) {
    const auto descend = [](int depth, typename Json::parse_event_t, Json&) {
        require(depth <= deepest_json, "JSON nested more than ", deepest_json, " deep");
        return true;
    };
    return Json::parse(text, descend, true, comments);
}

/// The same; is_discarded() where json_from_text throws.
template <class Json>
Json json_or_discarded(const std::string& text) {
    try {
        return json_from_text<Json>(text);
    } catch (const std::exception&) {
        return Json(Json::value_t::discarded);
    }
}

/// The 64-bit integer that a JSON value is. Throws Error for any other value.
template <class Json>
std::int64_t integer_from_json(const Json& value) {
    const bool fits =
        value.is_number_integer() && (!value.is_number_unsigned() || value.template get<std::uint64_t>() <= INT64_MAX);
    require(fits, "needs an integer, got ", in_quotes(value.dump(-1, ' ', false, Json::error_handler_t::replace)));
    return value.template get<std::int64_t>();
}

/// The same of an array.
template <class Json>
std::vector<std::int64_t> integers_from_json(const Json& values) {
    require(values.is_array(), "needs a list of integers");
    std::vector<std::int64_t> integers;
    integers.reserve(values.size());
    for (const Json& value : values) integers.push_back(integer_from_json(value));
    return integers;
}

/// Appends the numbers of an array, and of arrays in it, in order. False where something else stands in it.
template <class Json>
bool append_numbers(const Json& array, std::vector<double>& numbers) {
    for (const Json& value : array) {
        if (value.is_array()) {
            if (!append_numbers(value, numbers)) return false;
        } else if (value.is_number()) {
            numbers.push_back(value.template get<double>());
        } else {
            return false;
        }
    }
    return true;
}

}  // namespace bitloom
