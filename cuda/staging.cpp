#include <cstring>

#include "cuda/lane.h"

namespace bitloom::cuda {

namespace {

/// The driver copies so much of ordinary memory into the command before it returns.
constexpr std::size_t inline_bytes = 64 * 1024;

}  // namespace

void Staging::prepare() {
    for (Block& block : blocks_) {
        if (block.memory) continue;
        check(cudaEventCreateWithFlags(&block.done, cudaEventDisableTiming), "cudaEventCreateWithFlags");
        check(cudaMallocHost(&block.memory, block_bytes), "cudaMallocHost (pinned memory for copies)");
    }
}

void Staging::to_device(void* target, const void* source, std::size_t bytes, cudaStream_t stream) {
    if (bytes <= inline_bytes) {
        check(cudaMemcpyAsync(target, source, bytes, cudaMemcpyHostToDevice, stream), "copy to the device");
        return;
    }
    prepare();
    for (std::size_t first = 0, number = 0; first < bytes; first += block_bytes, ++number) {
        const Block& block = blocks_[number % blocks_.size()];
        const std::size_t count = std::min(block_bytes, bytes - first);
        check(cudaEventSynchronize(block.done), "copy to the device");
        std::memcpy(block.memory, static_cast<const char*>(source) + first, count);
        check(cudaMemcpyAsync(static_cast<char*>(target) + first, block.memory, count, cudaMemcpyHostToDevice, stream),
              "copy to the device");
        check(cudaEventRecord(block.done, stream), "copy to the device");
    }
}

void Staging::to_host(void* target, const void* source, std::size_t bytes, cudaStream_t stream) {
    prepare();
    const std::size_t runs = (bytes + block_bytes - 1) / block_bytes;
    const auto size_of_run = [&](std::size_t run) { return std::min(block_bytes, bytes - run * block_bytes); };
    // Run r is fetched while run r - 1 is copied out.
    for (std::size_t run = 0; run <= runs; ++run) {
        if (run < runs) {
            const Block& block = blocks_[run % blocks_.size()];
            check(cudaMemcpyAsync(block.memory, static_cast<const char*>(source) + run * block_bytes, size_of_run(run),
                                  cudaMemcpyDeviceToHost, stream),
                  "copy to the host");
            check(cudaEventRecord(block.done, stream), "copy to the host");
        }
        if (run > 0) {
            const Block& block = blocks_[(run - 1) % blocks_.size()];
            check(cudaEventSynchronize(block.done), "copy to the host");
            std::memcpy(static_cast<char*>(target) + (run - 1) * block_bytes, block.memory, size_of_run(run - 1));
        }
    }
}

}  // namespace bitloom::cuda
