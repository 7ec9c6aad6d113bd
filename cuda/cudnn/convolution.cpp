#include "cuda/cudnn_convolution.h"

#include <map>
#include <mutex>
#include <tuple>

#include "cuda/cudnn/handle.h"
#include "ops/precision.h"

// cuDNN 9 marks its calls on plain tensors as superseded by operation graphs; they are what its version 8 has too.
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

namespace bitloom::cuda::cudnn_convolution {

namespace {

using ops::Conv2dGeometry;

int narrow(std::int64_t n) { return static_cast<int>(n); }

/// Descriptors of one convolution and the algorithm chosen for each pass. They live as long as the process.
struct Plan {
    cudnnTensorDescriptor_t x = nullptr, y = nullptr;
    cudnnFilterDescriptor_t weight = nullptr;
    cudnnConvolutionDescriptor_t convolution = nullptr;
    int algorithm = 0;
    std::size_t workspace_bytes = 0;
};

using Key = std::tuple<Device, Pass, DType, bool, std::array<std::int64_t, 18>>;
Key key_of(Device device, Pass pass, DType dtype, const Conv2dGeometry& g) {
    return {device, pass, dtype, ops::tf32_allowed(),
            {g.batch, g.in_h, g.in_w, g.in_c, g.out_h, g.out_w, g.out_c, g.kernel_h, g.kernel_w, g.stride_h, g.stride_w,
             g.pad_top, g.pad_bottom, g.pad_left, g.pad_right, g.dilation_h, g.dilation_w, g.groups}};
}

/// The first algorithm of the heuristics that sums in a fixed order and keeps to the wanted arithmetic.
template <class Performance>
void choose(Plan& plan, const Performance* results, int count, cudnnMathType_t mathematics) {
    for (int i = 0; i < count; ++i) {
        const Performance& r = results[i];
        if (r.status != CUDNN_STATUS_SUCCESS || r.determinism != CUDNN_DETERMINISTIC) continue;
        if (mathematics == CUDNN_FMA_MATH && r.mathType != CUDNN_FMA_MATH && r.mathType != CUDNN_DEFAULT_MATH) continue;
        plan.algorithm = static_cast<int>(r.algo);
        plan.workspace_bytes = r.memory;
        return;
    }
    fail("cuda: cuDNN has no deterministic algorithm for this convolution");
}

Plan make_plan(Device device, Pass pass, DType dtype, const Conv2dGeometry& g) {
    Plan plan;
    const cudnnDataType_t type = dtype == DType::bf16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
    check(cudnnCreateTensorDescriptor(&plan.x), "cudnnCreateTensorDescriptor");
    check(cudnnCreateTensorDescriptor(&plan.y), "cudnnCreateTensorDescriptor");
    check(cudnnCreateFilterDescriptor(&plan.weight), "cudnnCreateFilterDescriptor");
    check(cudnnCreateConvolutionDescriptor(&plan.convolution), "cudnnCreateConvolutionDescriptor");
    check(cudnnSetTensor4dDescriptor(plan.x, CUDNN_TENSOR_NHWC, type, narrow(g.batch), narrow(g.in_c), narrow(g.in_h), narrow(g.in_w)),
          "cudnnSetTensor4dDescriptor");
    check(cudnnSetTensor4dDescriptor(plan.y, CUDNN_TENSOR_NHWC, type, narrow(g.batch), narrow(g.out_c), narrow(g.out_h), narrow(g.out_w)),
          "cudnnSetTensor4dDescriptor");
    check(cudnnSetFilter4dDescriptor(plan.weight, type, CUDNN_TENSOR_NHWC, narrow(g.out_c), narrow(g.in_c / g.groups),
                                     narrow(g.kernel_h), narrow(g.kernel_w)),
          "cudnnSetFilter4dDescriptor");
    check(cudnnSetConvolution2dDescriptor(plan.convolution, narrow(g.pad_top), narrow(g.pad_left), narrow(g.stride_h),
                                          narrow(g.stride_w), narrow(g.dilation_h), narrow(g.dilation_w),
                                          CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT),
          "cudnnSetConvolution2dDescriptor");
    check(cudnnSetConvolutionGroupCount(plan.convolution, narrow(g.groups)), "cudnnSetConvolutionGroupCount");
    const cudnnMathType_t mathematics =
        dtype == DType::bf16 || ops::tf32_allowed() ? CUDNN_TENSOR_OP_MATH : CUDNN_FMA_MATH;
    check(cudnnSetConvolutionMathType(plan.convolution, mathematics), "cudnnSetConvolutionMathType");
    const cudnnHandle_t handle = cudnn(device);
    constexpr int most = 8;
    int count = 0;
    if (pass == Pass::forward) {
        cudnnConvolutionFwdAlgoPerf_t results[most];
        check(cudnnGetConvolutionForwardAlgorithm_v7(handle, plan.x, plan.weight, plan.convolution, plan.y, most, &count, results),
              "cudnnGetConvolutionForwardAlgorithm_v7");
        choose(plan, results, count, mathematics);
    } else if (pass == Pass::data) {
        cudnnConvolutionBwdDataAlgoPerf_t results[most];
        check(cudnnGetConvolutionBackwardDataAlgorithm_v7(handle, plan.weight, plan.y, plan.convolution, plan.x, most, &count, results),
              "cudnnGetConvolutionBackwardDataAlgorithm_v7");
        choose(plan, results, count, mathematics);
    } else {
        cudnnConvolutionBwdFilterAlgoPerf_t results[most];
        check(cudnnGetConvolutionBackwardFilterAlgorithm_v7(handle, plan.x, plan.y, plan.convolution, plan.weight, most, &count, results),
              "cudnnGetConvolutionBackwardFilterAlgorithm_v7");
        choose(plan, results, count, mathematics);
    }
    return plan;
}

Plan plan_for(Device device, Pass pass, DType dtype, const Conv2dGeometry& g) {
    static std::mutex mutex;
    static std::map<Key, Plan> plans;
    const Key key = key_of(device, pass, dtype, g);
    std::lock_guard lock(mutex);
    auto found = plans.find(key);
    if (found == plans.end()) found = plans.emplace(key, make_plan(device, pass, dtype, g)).first;
    return found->second;
}

constexpr float one = 1, zero = 0;

}  // namespace

bool takes(Pass pass, const Conv2dGeometry& g, DType dtype) {
    if (pass == Pass::weights && dtype == DType::bf16) return false;
    // The far side's padding shows in the output's extent; one that no window reads may differ.
    const auto reach = [](std::int64_t out, std::int64_t stride, std::int64_t dilation, std::int64_t kernel, std::int64_t n,
                          std::int64_t pad) {
        return (n + 2 * pad - ((kernel - 1) * dilation + 1)) / stride + 1 == out;
    };
    return g.batch > 0 && g.in_c > 0 && reach(g.out_h, g.stride_h, g.dilation_h, g.kernel_h, g.in_h, g.pad_top) &&
           reach(g.out_w, g.stride_w, g.dilation_w, g.kernel_w, g.in_w, g.pad_left) && g.pad_top < g.kernel_h * g.dilation_h &&
           g.pad_left < g.kernel_w * g.dilation_w;
}

void forward(const Conv2dGeometry& g, const Tensor& x, const Tensor& weight, Tensor& y) {
    const Device device = x.device();
    const Plan plan = plan_for(device, Pass::forward, x.dtype(), g);
    const Tensor filters = weight.to(x.dtype());
    Tensor workspace = scratch(device, static_cast<std::int64_t>(std::max<std::size_t>(plan.workspace_bytes, 1)));
    check(cudnnConvolutionForward(cudnn(device), &one, plan.x, x.raw(), plan.weight, filters.raw(), plan.convolution,
                                  static_cast<cudnnConvolutionFwdAlgo_t>(plan.algorithm), workspace.raw_write(),
                                  plan.workspace_bytes, &zero, plan.y, y.raw_write()),
          "cudnnConvolutionForward");
}

void backward_data(const Conv2dGeometry& g, const Tensor& dy, const Tensor& weight, Tensor& dx) {
    const Device device = dy.device();
    const Plan plan = plan_for(device, Pass::data, dy.dtype(), g);
    const Tensor filters = weight.to(dy.dtype());
    Tensor workspace = scratch(device, static_cast<std::int64_t>(std::max<std::size_t>(plan.workspace_bytes, 1)));
    check(cudnnConvolutionBackwardData(cudnn(device), &one, plan.weight, filters.raw(), plan.y, dy.raw(), plan.convolution,
                                       static_cast<cudnnConvolutionBwdDataAlgo_t>(plan.algorithm), workspace.raw_write(),
                                       plan.workspace_bytes, &zero, plan.x, dx.raw_write()),
          "cudnnConvolutionBackwardData");
}

void backward_weights(const Conv2dGeometry& g, const Tensor& x, const Tensor& dy, Tensor& dweight) {
    const Device device = x.device();
    const Plan plan = plan_for(device, Pass::weights, x.dtype(), g);
    Tensor workspace = scratch(device, static_cast<std::int64_t>(std::max<std::size_t>(plan.workspace_bytes, 1)));
    check(cudnnConvolutionBackwardFilter(cudnn(device), &one, plan.x, x.raw(), plan.y, dy.raw(), plan.convolution,
                                         static_cast<cudnnConvolutionBwdFilterAlgo_t>(plan.algorithm),
                                         workspace.raw_write(), plan.workspace_bytes, &zero, plan.weight, dweight.raw_write()),
          "cudnnConvolutionBackwardFilter");
}

}  // namespace bitloom::cuda::cudnn_convolution
