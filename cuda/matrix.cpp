#include "cuda/matrix.h"

#include <map>
#include <mutex>

#include "cuda/handles.h"
#include "ops/precision.h"

namespace bitloom::cuda {

namespace {

cudaDataType_t type_of(DType dtype) { return dtype == DType::bf16 ? CUDA_R_16BF : CUDA_R_32F; }
constexpr float one = 1, zero = 0;

/// Descriptors of a fused product and the algorithm that the library's heuristics chose for it.
struct FusedPlan {
    cublasLtMatmulDesc_t operation = nullptr;
    cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr;
    cublasLtMatmulAlgo_t algorithm{};
};

template <class T>
void set(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t attribute, const T& value) {
    check(cublasLtMatmulDescSetAttribute(operation, attribute, &value, sizeof value), "cublasLtMatmulDescSetAttribute");
}

cublasLtMatrixLayout_t layout(std::int64_t rows, std::int64_t columns, std::int64_t lead) {
    cublasLtMatrixLayout_t made = nullptr;
    check(cublasLtMatrixLayoutCreate(&made, CUDA_R_32F, static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(columns),
                                     lead),
          "cublasLtMatrixLayoutCreate");
    return made;
}

struct PlanKey {
    Device device;
    MatrixProduct product;
    bool bias, relu, tf32;
    auto operator<=>(const PlanKey&) const = default;
};

/// cuBLAS thinks in columns: it computes the transpose of C from those of B and A.
FusedPlan make_plan(const PlanKey& key, const Workspace& workspace) {
    const MatrixProduct& p = key.product;
    FusedPlan plan;
    check(cublasLtMatmulDescCreate(&plan.operation, key.tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F, CUDA_R_32F),
          "cublasLtMatmulDescCreate");
    set(plan.operation, CUBLASLT_MATMUL_DESC_TRANSA, p.b_transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(plan.operation, CUBLASLT_MATMUL_DESC_TRANSB, p.a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(plan.operation, CUBLASLT_MATMUL_DESC_EPILOGUE,
        key.bias ? (key.relu ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_BIAS) : CUBLASLT_EPILOGUE_RELU);
    plan.a = p.b_transposed ? layout(p.k, p.n, p.b_lead) : layout(p.n, p.k, p.b_lead);
    plan.b = p.a_transposed ? layout(p.m, p.k, p.a_lead) : layout(p.k, p.m, p.a_lead);
    plan.c = layout(p.n, p.m, p.c_lead);
    cublasLtMatmulPreference_t preference = nullptr;
    check(cublasLtMatmulPreferenceCreate(&preference), "cublasLtMatmulPreferenceCreate");
    check(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace.bytes,
                                               sizeof workspace.bytes),
          "cublasLtMatmulPreferenceSetAttribute");
    cublasLtMatmulHeuristicResult_t best{};
    int found = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(cublas_lt(key.device), plan.operation, plan.a, plan.b, plan.c,
                                                                 plan.c, preference, 1, &best, &found);
    cublasLtMatmulPreferenceDestroy(preference);
    check(status, "cublasLtMatmulAlgoGetHeuristic");
    require(found == 1, "cuda: cuBLASLt has no algorithm for a product of ", p.m, " x ", p.k, " by ", p.n);
    plan.algorithm = best.algo;
    return plan;
}

/// Plans live as long as the process; there is one for each shape of a dense layer.
FusedPlan plan_for(const PlanKey& key, const Workspace& workspace) {
    static std::mutex mutex;
    static std::map<PlanKey, FusedPlan> plans;
    std::lock_guard lock(mutex);
    auto found = plans.find(key);
    if (found == plans.end()) found = plans.emplace(key, make_plan(key, workspace)).first;
    return found->second;
}

}  // namespace

void multiply(Device device, const MatrixProduct& p, const void* a, const void* b, void* c) {
    const cudaDataType_t type = type_of(p.operand_type);
    check(cublasGemmEx(cublas(device), p.b_transposed ? CUBLAS_OP_T : CUBLAS_OP_N, p.a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N,
                       static_cast<int>(p.n), static_cast<int>(p.m), static_cast<int>(p.k), &one, b, type,
                       static_cast<int>(p.b_lead), a, type, static_cast<int>(p.a_lead), p.accumulate ? &one : &zero, c,
                       type_of(p.result_type), static_cast<int>(p.c_lead),
                       p.operand_type == DType::f32 && ops::tf32_allowed() ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F,
                       CUBLAS_GEMM_DEFAULT),
          "cublasGemmEx");
}

void multiply_with_epilogue(Device device, const MatrixProduct& p, const float* a, const float* b, const float* bias,
                            bool relu, float* c) {
    if (!bias && !relu) return multiply(device, p, a, b, c);
    const Workspace workspace = cublas_workspace(device);
    const FusedPlan plan = plan_for({device, p, bias != nullptr, relu, ops::tf32_allowed()}, workspace);
    if (bias) {
        // The address is part of the description, and threads share plans: one call at a time sets and uses it.
        static std::mutex mutex;
        std::lock_guard lock(mutex);
        set(plan.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
        check(cublasLtMatmul(cublas_lt(device), plan.operation, &one, b, plan.a, a, plan.b, &zero, c, plan.c, c, plan.c,
                             &plan.algorithm, workspace.memory, workspace.bytes, stream(device)),
              "cublasLtMatmul");
        return;
    }
    check(cublasLtMatmul(cublas_lt(device), plan.operation, &one, b, plan.a, a, plan.b, &zero, c, plan.c, c, plan.c,
                         &plan.algorithm, workspace.memory, workspace.bytes, stream(device)),
          "cublasLtMatmul");
}

}  // namespace bitloom::cuda
