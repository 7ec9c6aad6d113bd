#include "cuda/lane.h"

#include <atomic>
#include <mutex>
#include <vector>

namespace bitloom::cuda {

namespace {

constexpr int most_gpus = 64;

/// A lane beside the main one, with the allocator of what is made on it.
struct ExtraLane {
    explicit ExtraLane(Device device) : lane(device), allocator(lane.memory, to_string(device)) {}
    Lane lane;
    CachingAllocator allocator;
};

struct Gpu {
    Gpu(Device device, const Properties& given) : properties(given), main(device) {}
    Properties properties;
    Lane main;
    std::mutex mutex;
    std::vector<ExtraLane*> idle;  // opened before and closed since
};

// Never destroyed, nor are their lanes: tensors may outlive them, even main, and the driver goes first.
std::array<std::atomic<Gpu*>, most_gpus> gpus{};

/// The lanes that the calling thread opened; null where it uses the main one.
thread_local std::array<Lane*, most_gpus> opened{};

std::size_t slot_of(Device device) { return static_cast<std::size_t>(device.index); }

Gpu& gpu(Device device) {
    Gpu* found = device.kind == DeviceKind::cuda && device.index < most_gpus
                     ? gpus[slot_of(device)].load(std::memory_order_acquire)
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

class OpenLane final : public DeviceLane {
   public:
    explicit OpenLane(Device device) : lane_(take(device)), scope_(device, lane_.allocator) {
        require(!opened[slot_of(device)], "cuda: this thread has a lane of ", device, " already");
        // What was sent to the main lane before is there for this one.
        synchronize(device);
        opened[slot_of(device)] = &lane_.lane;
    }
    ~OpenLane() override {
        const Device device = lane_.lane.device;
        cudaStreamSynchronize(lane_.lane.stream);
        opened[slot_of(device)] = nullptr;
        Gpu& owner = gpu(device);
        const std::lock_guard lock(owner.mutex);
        owner.idle.push_back(&lane_);
    }

   private:
    static ExtraLane& take(Device device) {
        Gpu& owner = gpu(device);
        {
            const std::lock_guard lock(owner.mutex);
            if (!owner.idle.empty()) {
                ExtraLane* lane = owner.idle.back();
                owner.idle.pop_back();
                return *lane;
            }
        }
        return *new ExtraLane(device);
    }
    ExtraLane& lane_;
    AllocatorScope scope_;
};

}  // namespace

Lane::Lane(Device gpu) : device(gpu), memory(*this) {
    make_current(gpu);
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
}

Lane& lane(Device device) {
    Gpu& owner = gpu(device);
    make_current(device);
    Lane* own = opened[slot_of(device)];
    return own ? *own : owner.main;
}

void add_gpu(Device device, const Properties& properties) {
    require(device.index < most_gpus, "device ", device, ": bitloom uses the first ", most_gpus, " GPUs of a machine");
    Gpu* added = new Gpu(device, properties);
    register_memory_source(device, added->main.memory);
    gpus[slot_of(device)].store(added, std::memory_order_release);
}

std::unique_ptr<DeviceLane> open_lane(Device device) { return std::make_unique<OpenLane>(device); }

const Properties& properties(Device device) { return gpu(device).properties; }
cudaStream_t stream(Device device) { return lane(device).stream; }
bool capturing(Device device) { return lane(device).capturing; }

void synchronize(Device device) { check(cudaStreamSynchronize(lane(device).stream), cat("waiting for ", device)); }

}  // namespace bitloom::cuda
