#pragma once
// Integers from JSON that anybody may have written: the library's own conversions turn 1.5 into 1, true into 1, and
// are undefined for 1e30.

#include <cstdint>
#include <vector>

#include "engine/error.h"
#include "engine/io/flag_values.h"

namespace bitloom {

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

}  // namespace bitloom
