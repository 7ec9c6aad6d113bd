#include "cuda/backend.h"

#include "engine/error.h"

namespace bitloom::cuda {

bool compiled() { return false; }
int device_count() { return 0; }
void install(int index) { fail("device cuda:", index, ": bitloom was built without CUDA (configure with -D BITLOOM_CUDA=ON)"); }
void register_tables() {}
void synchronize(Device device) { install(device.index); }
std::string description() { return "built without CUDA"; }

}  // namespace bitloom::cuda
