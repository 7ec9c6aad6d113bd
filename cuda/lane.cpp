#include "cuda/lane.h"

#include <array>
#include <atomic>

namespace bitloom::cuda {

namespace {

constexpr int most_gpus = 64;

struct Gpu {
    Gpu(Device device, const Properties& given) : properties(given), main(device) {}
    Properties properties;
    Lane main;
};

// Never destroyed: tensors in static objects may outlive main, and the driver goes first.
std::array<std::atomic<Gpu*>, most_gpus> gpus{};

Gpu& gpu(Device device) {
    Gpu* found = device.kind == DeviceKind::cuda && device.index < most_gpus
                     ? gpus[static_cast<std::size_t>(device.index)].load(std::memory_order_acquire)
                     : nullptr;
    require(found, "device ", device, ": no such device is available");
    return *found;
}

void make_current(Device device) {
    thread_local int current = -1;
    if (current == device.index) return;
    check(cudaSetDevice(device.index), cat("selecting ", device));
    current = device.index;
}

}  // namespace

Lane::Lane(Device gpu) : device(gpu) {
    make_current(gpu);
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
}

Lane& lane(Device device) {
    Lane& found = gpu(device).main;
    make_current(device);
    return found;
}

void add_gpu(Device device, const Properties& properties) {
    require(device.index < most_gpus, "device ", device, ": bitloom uses the first ", most_gpus, " GPUs of a machine");
    gpus[static_cast<std::size_t>(device.index)].store(new Gpu(device, properties), std::memory_order_release);
}

const Properties& properties(Device device) { return gpu(device).properties; }
cudaStream_t stream(Device device) { return lane(device).stream; }
bool capturing(Device device) { return lane(device).capturing; }

void synchronize(Device device) { check(cudaStreamSynchronize(lane(device).stream), cat("waiting for ", device)); }

}  // namespace bitloom::cuda
