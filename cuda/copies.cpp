// Copies between host and device, and on the device.

#include "cuda/lane.h"
#include "cuda/tables.h"

namespace bitloom::cuda {

void copy_bytes(const Tensor& source, Tensor& target) {
    const bool from_host = source.device().is_host(), to_host = target.device().is_host();
    Lane& here = lane(to_host ? source.device() : target.device());
    require(!here.capturing || (!from_host && !to_host), "cuda: a copy between host and ", here.device,
            " inside a captured step");
    const std::size_t bytes = source.bytes();
    if (from_host) {
        here.staging.to_device(target.raw_write(), source.raw(), bytes, here.stream);
    } else if (to_host) {
        here.staging.to_host(target.raw_write(), source.raw(), bytes, here.stream);
    } else {
        if (source.device() != target.device()) {
            synchronize(source.device());
            lane(target.device());  // current again
        }
        check(cudaMemcpyAsync(target.raw_write(), source.raw(), bytes, cudaMemcpyDefault, here.stream),
              "copy on the device");
    }
}

}  // namespace bitloom::cuda
