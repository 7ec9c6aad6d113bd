#pragma once
// Numbers for people.

#include <string>

namespace bitloom {

/// `value` with so many decimals; "-" for NaN.
std::string fixed(double value, int decimals);

}  // namespace bitloom
