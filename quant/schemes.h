#pragma once
// The schemes of this folder, by name. A new scheme adds its line in schemes.cpp.

#include <vector>

#include "quant/scheme.h"

namespace bitloom::quant {

std::vector<SchemeEntry> built_in_schemes();

}  // namespace bitloom::quant
