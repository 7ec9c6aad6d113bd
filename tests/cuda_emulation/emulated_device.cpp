#include "emulated_device.h"

#include <cstring>

#include "cuda/quant/tables.h"
#include "cuda/tables.h"
#include "cuda/training/kernels.h"
#include "device_memory.h"
#include "emulation.h"
#include "engine/allocator.h"

namespace bitloom::cuda {

/// Memory is copied when its turn comes; a captured step copies nothing to or from the host.
void copy_bytes(const Tensor& source, Tensor& target) {
    require(!emulation::capturing() || (!source.device().is_host() && !target.device().is_host()),
            "emulation: a copy between host and device inside a captured step");
    emulation::submit([to = target.raw_write(), from = source.raw(), bytes = source.bytes()] {
        std::memcpy(to, from, bytes);
    });
}

namespace test {

namespace {

/// A captured step is the list of its work; what it takes of memory stays its own, as in cuda/training/graph.cpp.
class EmulatedGraph final : public StepGraph {
public:
    explicit EmulatedGraph(MemorySource& memory) : allocator_(new CachingAllocator(memory, "a captured step")) {}
    ~EmulatedGraph() override {
        allocator_->trim();
        if (allocator_->stats().bytes_in_use == 0)
            delete allocator_;
        else
            outlived().push_back(allocator_);
    }
    void capture(const std::function<void()>& work) {
        const AllocatorScope own_memory(emulated_gpu, *allocator_);
        emulation::capture_into(&work_);
        try {
            work();
        } catch (...) {
            emulation::capture_into(nullptr);
            throw;
        }
        emulation::capture_into(nullptr);
    }
    void replay() override {
        const emulation::DeviceAccess access;
        for (const auto& work : work_) work();
    }

private:
    /// Allocators whose tensors live on.
    static std::vector<CachingAllocator*>& outlived() {
        static auto* const all = new std::vector<CachingAllocator*>;
        return *all;
    }
    CachingAllocator* allocator_;
    std::vector<std::function<void()>> work_;
};

MemorySource& memory() {
    static emulation::DeviceMemory source;
    return source;
}

int captures = 0;

std::unique_ptr<StepGraph> capture(Device, const std::function<void()>& work) {
    auto graph = std::make_unique<EmulatedGraph>(memory());
    graph->capture(work);
    ++captures;
    return graph;
}

constexpr TrainingKernels training_table{.update_moments = update_moments,
                                         .accumulate_metrics = accumulate_metrics,
                                         .set_step = set_step,
                                         .gather_images = gather_images,
                                         .largest_image = largest_image,
                                         .capture = capture,
                                         .open_lane = nullptr,
                                         .synchronize = [](Device) {},
                                         .free_memory = [](Device) { return std::size_t{1} << 30; }};

}  // namespace

int captured_steps() { return captures; }

void install_emulation() {
    static const bool once = [] {
        register_memory_source(emulated_gpu, memory());
        register_engine_kernels(DeviceKind::cuda, engine_kernel_table());
        register_training_kernels(DeviceKind::cuda, training_table);
        ops::register_op_kernels(DeviceKind::cuda, op_kernel_table());
        register_optim_kernels(DeviceKind::cuda, optim_kernel_table());
        quant::register_quant_kernels(DeviceKind::cuda, quant_kernel_table());
        bsq::register_bsq_kernels(DeviceKind::cuda, bsq_kernel_table());
        return true;
    }();
    static_cast<void>(once);
}

}  // namespace test
}  // namespace bitloom::cuda
