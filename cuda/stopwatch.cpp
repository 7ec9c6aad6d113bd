#include "cuda/stopwatch.h"

#include <algorithm>
#include <limits>

#include "cuda/common.h"

namespace bitloom::cuda {

double milliseconds(Device device, const std::function<void()>& work) {
    constexpr int runs = 3;
    struct Event {
        Event() { check(cudaEventCreate(&event), "cudaEventCreate"); }
        ~Event() { cudaEventDestroy(event); }
        Event(const Event&) = delete;
        Event& operator=(const Event&) = delete;
        cudaEvent_t event = nullptr;
    };
    const cudaStream_t queue = stream(device);
    const Event start, stop;
    work();
    float least = std::numeric_limits<float>::max();
    for (int i = 0; i < runs; ++i) {
        check(cudaEventRecord(start.event, queue), "cudaEventRecord");
        work();
        check(cudaEventRecord(stop.event, queue), "cudaEventRecord");
        check(cudaEventSynchronize(stop.event), "cudaEventSynchronize");
        float elapsed = 0;
        check(cudaEventElapsedTime(&elapsed, start.event, stop.event), "cudaEventElapsedTime");
        least = std::min(least, elapsed);
    }
    return least;
}

}  // namespace bitloom::cuda
