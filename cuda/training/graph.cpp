// Steps as CUDA graphs.

#include "cuda/lane.h"
#include "cuda/training/kernels.h"

namespace bitloom::cuda {

namespace {

/// The allocator of what a captured step makes. Its blocks are the step's own as long as the graph lives: nobody else
/// may write where a replay keeps its numbers.
class GraphMemory {
   public:
    explicit GraphMemory(Lane& lane) : allocator_(new CachingAllocator(lane.memory, to_string(lane.device))) {}
    ~GraphMemory() {
        allocator_->trim();
        // Tensors that outlive the graph give their blocks back to this allocator: it then stays.
        if (allocator_->stats().bytes_in_use == 0) delete allocator_;
    }
    GraphMemory(const GraphMemory&) = delete;
    GraphMemory& operator=(const GraphMemory&) = delete;
    CachingAllocator& allocator() { return *allocator_; }

   private:
    CachingAllocator* allocator_;
};

class CudaGraph final : public StepGraph {
   public:
    explicit CudaGraph(Lane& lane) : lane_(lane), memory_(lane) {}
    ~CudaGraph() override {
        cudaStreamSynchronize(lane_.stream);
        if (executable_) cudaGraphExecDestroy(executable_);
        if (graph_) cudaGraphDestroy(graph_);
    }

    void capture(const std::function<void()>& work) {
        const AllocatorScope own_memory(lane_.device, memory_.allocator());
        check(cudaStreamBeginCapture(lane_.stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
        lane_.capturing = true;
        try {
            work();
        } catch (...) {
            lane_.capturing = false;
            cudaStreamEndCapture(lane_.stream, &graph_);
            cudaGetLastError();  // what went wrong is in the exception
            throw;
        }
        lane_.capturing = false;
        check(cudaStreamEndCapture(lane_.stream, &graph_), "cudaStreamEndCapture");
        check(cudaGraphInstantiate(&executable_, graph_, 0), "cudaGraphInstantiate");
        check(cudaGraphUpload(executable_, lane_.stream), "cudaGraphUpload");
    }

    void replay() override { check(cudaGraphLaunch(executable_, lane_.stream), "cudaGraphLaunch"); }

   private:
    Lane& lane_;
    GraphMemory memory_;
    cudaGraph_t graph_ = nullptr;
    cudaGraphExec_t executable_ = nullptr;
};

}  // namespace

std::unique_ptr<StepGraph> capture(Device device, const std::function<void()>& work) {
    Lane& here = lane(device);
    require(!here.capturing, "cuda: a graph is captured within a graph");
    // What the steps before it have cached is memory that the graph will need.
    allocator_of(device).trim();
    auto graph = std::make_unique<CudaGraph>(here);
    graph->capture(work);
    return graph;
}

}  // namespace bitloom::cuda
