#include "cuda/cudnn/handle.h"

#include "cuda/cudnn.h"
#include "cuda/lane.h"

namespace bitloom::cuda {

bool has_cudnn() { return true; }

std::string cudnn_version() {
    const std::size_t version = cudnnGetVersion();  // 1e4 major + 1e2 minor + patch since version 9
    return cat(version / 10000, '.', version / 100 % 100, '.', version % 100);
}

void check(cudnnStatus_t status, std::string_view call) {
    if (status != CUDNN_STATUS_SUCCESS) fail("cuda: ", call, ": ", cudnnGetErrorString(status));
}

cudnnHandle_t cudnn(Device device) {
    Lane& here = lane(device);
    if (!here.cudnn) {
        require(!here.capturing, "cuda: cuDNN is used for the first time inside a captured step");
        cudnnHandle_t handle = nullptr;
        check(cudnnCreate(&handle), "cudnnCreate");
        check(cudnnSetStream(handle, here.stream), "cudnnSetStream");
        here.cudnn = handle;
    }
    return static_cast<cudnnHandle_t>(here.cudnn);
}

}  // namespace bitloom::cuda
