#pragma once
// What the tests on a GPU share. They skip in words where there is none.

#include <gtest/gtest.h>

#include "cuda/backend.h"
#include "cuda/quant/backend.h"
#include "engine/device.h"

namespace bitloom::test {

inline constexpr Device gpu{DeviceKind::cuda, 0};

/// Installs cuda:0 for each test, or skips it and says why.
class OnGpu : public ::testing::Test {
   protected:
    void SetUp() override {
        if (cuda::device_count() == 0) GTEST_SKIP() << "skipped, no GPU: " << cuda::description();
        cuda::install(gpu.index);
        cuda::register_scheme_tables();
    }
};

}  // namespace bitloom::test
