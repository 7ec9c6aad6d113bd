#include "quant/schemes.h"

namespace bitloom::quant {

std::vector<SchemeEntry> built_in_schemes() { return {}; }

}  // namespace bitloom::quant
