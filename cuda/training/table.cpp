#include "cuda/lane.h"
#include "cuda/tables.h"
#include "cuda/training/kernels.h"

namespace bitloom::cuda {

namespace {

std::size_t free_memory(Device device) {
    lane(device);
    std::size_t free = 0, total = 0;
    check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
    const AllocatorStats held = allocator_of(device).stats();
    return free + held.bytes_reserved - held.bytes_in_use;
}

}  // namespace

const TrainingKernels& training_kernel_table() {
    static constexpr TrainingKernels table{.update_moments = update_moments,
                                           .accumulate_metrics = accumulate_metrics,
                                           .set_step = set_step,
                                           .gather_images = gather_images,
                                           .largest_image = largest_image,
                                           .capture = capture,
                                           .open_lane = open_lane,
                                           .synchronize = synchronize,
                                           .free_memory = free_memory};
    return table;
}

}  // namespace bitloom::cuda
