#include "emulated_device.h"

#include <cstdlib>
#include <cstring>

#include "cuda/tables.h"
#include "engine/allocator.h"

namespace bitloom::cuda::test {

namespace {

/// Fresh memory holds NaN, so that what is read before it is written shows.
class EmulatedMemory final : public MemorySource {
   public:
    void* allocate(std::size_t bytes) override {
        void* memory = std::aligned_alloc(64, (bytes + 63) / 64 * 64);
        if (memory) std::memset(memory, 0xff, bytes);
        return memory;
    }
    void release(void* memory) override { std::free(memory); }
};

/// The tensor's memory as the host's.
Tensor on_host(const Tensor& tensor) {
    return Tensor::wrap(tensor.shape(), tensor.dtype(), const_cast<void*>(tensor.raw()));
}
const EngineKernels& host_kernels() { return engine_kernels(cpu_device); }

void fill(Tensor& target, double value) {
    Tensor view = on_host(target);
    host_kernels().fill(view, value);
}
void cast(const Tensor& source, Tensor& target) {
    Tensor view = on_host(target);
    host_kernels().cast(on_host(source), view);
}
void copy_bytes(const Tensor& source, Tensor& target) { std::memcpy(target.raw_write(), source.raw(), source.bytes()); }
void add(Tensor& target, const Tensor& source) {
    Tensor view = on_host(target);
    host_kernels().add(view, on_host(source));
}
void scale(Tensor& target, double factor) {
    Tensor view = on_host(target);
    host_kernels().scale(view, factor);
}
bool all_finite(const Tensor& tensor) { return host_kernels().all_finite(on_host(tensor)); }

constexpr EngineKernels engine_table{fill, cast, copy_bytes, add, scale, all_finite};

}  // namespace

void install_emulation() {
    static EmulatedMemory memory;
    static const bool once = [] {
        register_memory_source(emulated_gpu, memory);
        register_engine_kernels(DeviceKind::cuda, engine_table);
        ops::register_op_kernels(DeviceKind::cuda, op_kernel_table());
        register_optim_kernels(DeviceKind::cuda, optim_kernel_table());
        return true;
    }();
    static_cast<void>(once);
}

}  // namespace bitloom::cuda::test
