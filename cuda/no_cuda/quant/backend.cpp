#include "cuda/quant/backend.h"

namespace bitloom::cuda {

void register_scheme_tables() {}

}  // namespace bitloom::cuda
