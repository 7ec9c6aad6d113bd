#include "cuda/cudnn.h"

namespace bitloom::cuda {

bool has_cudnn() { return false; }
std::string cudnn_version() { return "none"; }

}  // namespace bitloom::cuda
