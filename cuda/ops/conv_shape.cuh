#pragma once
// A convolution's geometry as its kernels want it: 32 bits, divisors prepared.

#include <limits>

#include "cuda/ops/fast_divisor.cuh"
#include "ops/kernels.h"

namespace bitloom::cuda {

struct ConvShape {
    int batch, in_h, in_w, in_c, out_h, out_w, out_c, kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left, dilation_h,
        dilation_w, groups;
    int in_group, out_group;  ///< channels of one group
    FastDivisor by_out_area, by_out_w, by_in_group, by_kernel_w, by_out_group, by_groups;

    explicit ConvShape(const ops::Conv2dGeometry& g)
        : batch(fit(g.batch)),
          in_h(fit(g.in_h)),
          in_w(fit(g.in_w)),
          in_c(fit(g.in_c)),
          out_h(fit(g.out_h)),
          out_w(fit(g.out_w)),
          out_c(fit(g.out_c)),
          kernel_h(fit(g.kernel_h)),
          kernel_w(fit(g.kernel_w)),
          stride_h(fit(g.stride_h)),
          stride_w(fit(g.stride_w)),
          pad_top(fit(g.pad_top)),
          pad_left(fit(g.pad_left)),
          dilation_h(fit(g.dilation_h)),
          dilation_w(fit(g.dilation_w)),
          groups(fit(g.groups)),
          in_group(fit(g.in_c / g.groups)),
          out_group(fit(g.out_c / g.groups)),
          by_out_area(fit(g.out_h * g.out_w)),
          by_out_w(g.out_w),
          by_in_group(in_group),
          by_kernel_w(g.kernel_w),
          by_out_group(out_group),
          by_groups(g.groups) {
        // Numbers of pixels and of elements of one image and of the filters are kept in 32 bits.
        fit(g.batch * g.out_h * g.out_w);
        fit(g.batch * g.in_h * g.in_w);
        fit(g.in_h * g.in_w * g.in_c);
        fit(g.out_h * g.out_w * g.out_c);
        fit(g.out_c * g.kernel_h * g.kernel_w * (g.in_c / g.groups));
    }
    __host__ __device__ int taps() const { return kernel_h * kernel_w; }

   private:
    static int fit(std::int64_t n) {
        require(n >= 0 && n < std::numeric_limits<int>::max() / 2, "conv2d: ", n,
                " cells are more than the CUDA kernels count in one map");
        return static_cast<int>(n);
    }
};

/// A coordinate that lies outside every map, also after another such one or a kernel's reach was added.
inline constexpr int far_outside = -(1 << 29);

}  // namespace bitloom::cuda
