#include "quant/schemes.h"

#include "quant/bsq/scheme.h"
#include "quant/pruning/scheme.h"
#include "quant/qkeras/scheme.h"

namespace bitloom::quant {

std::vector<SchemeEntry> built_in_schemes() {
    return {
        bsq::scheme_entry(),
        pruning::scheme_entry(),
        qkeras::scheme_entry(),
    };
}

}  // namespace bitloom::quant
