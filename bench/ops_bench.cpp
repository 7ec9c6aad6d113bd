// Speed of the cpu kernels on the shapes of ResNet-20 (CIFAR-10, shortcuts by projection) and of the SVHN network,
// batch 128, each against a floor measured in the same run: the larger of its arithmetic at the rate of a large matrix
// product, and of the bytes it must move at the rate of memcpy on as many bytes. At the end: the sum over one training
// step. Threads: OMP_NUM_THREADS. Selection: --benchmark_filter=REGEX.

#include <benchmark/benchmark.h>
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "engine/kernels.h"
#include "engine/random.h"
#include "ops/convolution.h"
#include "ops/cpu/onednn.h"
#include "ops/kernels.h"
#include "ops/pooling.h"

namespace {

using namespace bitloom;
using namespace bitloom::ops;

constexpr std::int64_t batch = 128;

struct Case {
    std::string name;
    int in_step = 0;  ///< calls in one training step of ResNet-20
    double flops = 0;
    double bytes = 0;  ///< read and written, each pass that the algorithm cannot avoid counted
    std::function<void()> run;
};

/// Seconds of one call: the best of several.
double best_time(const std::function<void()>& f, int repetitions) {
    double best = 1e30;
    f();
    for (int i = 0; i < repetitions; ++i) {
        const auto start = std::chrono::steady_clock::now();
        f();
        best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    return best;
}

Tensor random(const Shape& shape) {
    Tensor t = Tensor::empty(shape);
    Rng rng(1, "bench");
    fill_uniform(t, -1, 1, rng);
    return t;
}

/// FLOP/s of a product of 512 x 512 matrices on the threads in use.
double product_rate() {
    static const double rate = [] {
        constexpr std::int64_t n = 512;
        const Tensor a = random({n, n}), b = random({n, n});
        Tensor c = Tensor::empty({n, n});
        const double seconds = best_time(
            [&] {
                cpu::onednn::matrix_product({.m = n, .n = n, .k = n}, a.raw(), b.raw(), c.raw_write());
            },
            60);
        return 2.0 * n * n * n / seconds;
    }();
    return rate;
}

/// Seconds that the threads in use need to move so many bytes, half read, half written.
double copy_time(double bytes) {
    static std::map<std::int64_t, double> known;
    const auto half = static_cast<std::int64_t>(bytes / 2);
    if (const auto found = known.find(half); found != known.end()) return found->second;
    const Tensor from = Tensor::zeros({half}, DType::u8);
    Tensor to = Tensor::zeros({half}, DType::u8);
    const auto* source = static_cast<const char*>(from.raw());
    auto* target = static_cast<char*>(to.raw_write());
    return known[half] = best_time(
               [&] {
#pragma omp parallel if (half > (1 << 17))
                   {
                       const std::int64_t parts = omp_get_num_threads(), part = omp_get_thread_num();
                       const std::int64_t begin = half * part / parts, end = half * (part + 1) / parts;
                       std::memcpy(target + begin, source + begin, static_cast<std::size_t>(end - begin));
                   }
               },
               60);
}

double floor_time(const Case& c) { return std::max(c.flops / product_rate(), c.bytes > 0 ? copy_time(c.bytes) : 0.0); }

void add_convolution(std::vector<Case>& cases, const std::string& name, std::int64_t size, std::int64_t in,
                     std::int64_t out, std::int64_t kernel, std::int64_t stride, std::int64_t pad, int in_step,
                     bool first_layer = false) {
    const Shape x_shape{batch, size, size, in}, w_shape{out, kernel, kernel, in};
    const Conv2dGeometry g =
        conv2d_geometry(x_shape, w_shape, {.stride_h = stride, .stride_w = stride, .padding = Padding::symmetric(pad)});
    const double flops = 2.0 * batch * g.out_h * g.out_w * out * kernel * kernel * in;
    const Tensor x = random(x_shape), w = random(w_shape), dy = random({batch, g.out_h, g.out_w, out});
    const double bytes = 4.0 * static_cast<double>(x.numel() + dy.numel());
    const OpKernels& k = op_kernels(cpu_device);
    cases.push_back({name + " forward", in_step, flops, bytes,
                     [&k, g, x, w, y = Tensor::empty_like(dy)]() mutable { k.conv2d_forward(g, x, w, nullptr, y); }});
    if (!first_layer)
        cases.push_back(
            {name + " backward data", in_step, flops, bytes,
             [&k, g, dy, w, dx = Tensor::empty_like(x)]() mutable { k.conv2d_backward_data(g, dy, w, dx); }});
    cases.push_back(
        {name + " backward weights", in_step, flops, bytes,
         [&k, g, x, dy, dw = Tensor::empty_like(w)]() mutable { k.conv2d_backward_weights(g, x, dy, dw, nullptr); }});
}

void add_norm(std::vector<Case>& cases, const std::string& name, const Shape& shape, NormEpilogue epilogue,
              bool residual, int in_step) {
    const Shape channels{shape[-1]};
    const Tensor x = random(shape), other = random(shape), gamma = random(channels), beta = random(channels);
    const Tensor variance = Tensor::full(channels, 0.3), mean = Tensor::zeros(channels);
    const OpKernels& k = op_kernels(cpu_device);
    const double tensor = 4.0 * static_cast<double>(x.numel());
    const bool relu = epilogue == NormEpilogue::relu;
    cases.push_back(
        {name + " forward", in_step, 0, tensor * (residual ? 4 : 3),
         [=, &k, y = Tensor::empty(shape), m = Tensor::empty(channels), v = Tensor::empty(channels)]() mutable {
             k.batch_norm_forward(x, gamma, beta, residual ? &other : nullptr, 1e-5, epilogue, y, m, v);
         }});
    const int reads = relu ? 6 : 4;
    cases.push_back({name + " backward", in_step, 0, tensor * (reads + (residual ? 2 : 1)),
                     [=, &k, dy = random(shape), dx = Tensor::empty(shape), dr = Tensor::empty(shape),
                      dg = Tensor::empty(channels), db = Tensor::empty(channels)]() mutable {
                         k.batch_norm_backward(dy, x, relu ? &other : nullptr, gamma, mean, variance, 1e-5, epilogue,
                                               &dx, residual ? &dr : nullptr, dg, db);
                     }});
}

void add_max_pool(std::vector<Case>& cases, const std::string& name, std::int64_t size, std::int64_t channels) {
    const Pool2dGeometry g = pool2d_geometry({batch, size, size, channels}, {});
    const Tensor x = random({batch, size, size, channels}), dy = random({batch, g.out_h, g.out_w, channels});
    Tensor argmax = Tensor::empty(dy.shape(), DType::u8), y = Tensor::empty_like(dy);
    const OpKernels& k = op_kernels(cpu_device);
    k.max_pool2d_forward(g, x, y, &argmax);
    const double bytes = 4.0 * static_cast<double>(x.numel()) + 5.0 * static_cast<double>(dy.numel());
    cases.push_back({name + " forward", 0, 0, bytes, [=, &k]() mutable { k.max_pool2d_forward(g, x, y, &argmax); }});
    cases.push_back({name + " backward", 0, 0, bytes,
                     [=, &k, dx = Tensor::empty_like(x)]() mutable { k.max_pool2d_backward(g, dy, argmax, dx); }});
}

void add_dense(std::vector<Case>& cases, const std::string& name, std::int64_t in, std::int64_t out, int in_step) {
    const Tensor x = random({batch, in}), w = random({out, in}), bias = random({out}), dy = random({batch, out});
    const double flops = 2.0 * batch * in * out;
    const OpKernels& k = op_kernels(cpu_device);
    cases.push_back({name + " forward", in_step, flops, 0,
                     [=, &k, y = Tensor::empty_like(dy)]() mutable { k.dense_forward(x, w, &bias, y); }});
    cases.push_back({name + " backward data", in_step, flops, 0,
                     [=, &k, dx = Tensor::empty_like(x)]() mutable { k.dense_backward_data(dy, w, dx); }});
    cases.push_back({name + " backward weights", in_step, flops, 0,
                     [=, &k, dw = Tensor::empty_like(w), db = Tensor::empty_like(bias)]() mutable {
                         k.dense_backward_weights(x, dy, dw, &db);
                     }});
}

void add_resnet20(std::vector<Case>& cases) {
    add_convolution(cases, "conv 3x3 32x32 3-16", 32, 3, 16, 3, 1, 1, 1, true);
    add_convolution(cases, "conv 3x3 32x32 16-16", 32, 16, 16, 3, 1, 1, 6);
    add_convolution(cases, "conv 3x3/2 32x32 16-32", 32, 16, 32, 3, 2, 1, 1);
    add_convolution(cases, "conv 1x1/2 32x32 16-32", 32, 16, 32, 1, 2, 0, 1);
    add_convolution(cases, "conv 3x3 16x16 32-32", 16, 32, 32, 3, 1, 1, 5);
    add_convolution(cases, "conv 3x3/2 16x16 32-64", 16, 32, 64, 3, 2, 1, 1);
    add_convolution(cases, "conv 1x1/2 16x16 32-64", 16, 32, 64, 1, 2, 0, 1);
    add_convolution(cases, "conv 3x3 8x8 64-64", 8, 64, 64, 3, 1, 1, 5);
    for (const auto& [size, channels] : {std::pair{32, 16}, {16, 32}, {8, 64}}) {
        const Shape shape{batch, size, size, channels};
        const std::string where = cat(size, "x", size, "x", channels);
        add_norm(cases, "norm relu " + where, shape, NormEpilogue::relu, false, size == 32 ? 4 : 3);
        add_norm(cases, "norm add relu " + where, shape, NormEpilogue::relu, true, 3);
        if (size != 32) add_norm(cases, "norm " + where, shape, NormEpilogue::none, false, 1);
        const Tensor dx = random(shape);
        cases.push_back({"gradient add " + where, 3, 0, 12.0 * static_cast<double>(dx.numel()),
                         [dx, sum = random(shape)]() mutable { engine_kernels(cpu_device).add(sum, dx); }});
    }
    const Pool2dGeometry g =
        pool2d_geometry({batch, 8, 8, 64}, {.window_h = 8, .window_w = 8, .stride_h = 1, .stride_w = 1});
    const Tensor x = random({batch, 8, 8, 64});
    Tensor y = random({batch, 1, 1, 64});
    const OpKernels& k = op_kernels(cpu_device);
    const double bytes = 4.0 * static_cast<double>(x.numel());
    cases.push_back(
        {"global average forward", 1, 0, bytes, [=, &k]() mutable { k.avg_pool2d_forward(g, true, x, y); }});
    cases.push_back({"global average backward", 1, 0, bytes,
                     [=, &k, dx = Tensor::empty_like(x)]() mutable { k.avg_pool2d_backward(g, true, y, dx); }});
    add_dense(cases, "dense 64-10", 64, 10, 1);
    std::vector<std::int32_t> classes;
    for (std::int32_t i = 0; i < batch; ++i) classes.push_back(i % 10);
    const Tensor logits = random({batch, 10}), labels = Tensor::from({batch}, classes), one = Tensor::full({1}, 1);
    Tensor losses = Tensor::empty({batch}), p = Tensor::empty_like(logits);
    cases.push_back(
        {"cross-entropy forward", 1, 0, 0, [=, &k]() mutable { k.cross_entropy_forward(logits, labels, losses, &p); }});
    cases.push_back({"cross-entropy backward", 1, 0, 0, [=, &k, dz = Tensor::empty_like(logits)]() mutable {
                         k.cross_entropy_backward(p, labels, 1.0 / batch, one, dz);
                     }});
}

void add_svhn(std::vector<Case>& cases) {
    add_norm(cases, "norm 32x32x3", {batch, 32, 32, 3}, NormEpilogue::none, false, 0);
    add_convolution(cases, "conv 3x3 32x32 3-16 valid", 32, 3, 16, 3, 1, 0, 0, true);
    add_max_pool(cases, "max pool 30x30x16", 30, 16);
    add_norm(cases, "norm relu 15x15x16", {batch, 15, 15, 16}, NormEpilogue::relu, false, 0);
    add_convolution(cases, "conv 3x3 15x15 16-16 valid", 15, 16, 16, 3, 1, 0, 0);
    add_max_pool(cases, "max pool 13x13x16", 13, 16);
    add_convolution(cases, "conv 3x3 6x6 16-24 valid", 6, 16, 24, 3, 1, 0, 0);
    add_max_pool(cases, "max pool 4x4x24", 4, 24);
    add_dense(cases, "dense 96-42", 96, 42, 0);
    add_norm(cases, "norm relu 42", {batch, 42}, NormEpilogue::relu, false, 0);
    add_dense(cases, "dense 42-64", 42, 64, 0);
}

void add_pointwise(std::vector<Case>& cases) {
    const Shape shape{batch, 32, 32, 16};
    const Tensor x = random(shape), other = random(shape), channel = random({16}), gate = random({batch, 1, 1, 16});
    const double tensor = 4.0 * static_cast<double>(x.numel());
    const OpKernels& k = op_kernels(cpu_device);
    const auto add = [&](const std::string& name, double tensors, auto run) {
        cases.push_back({name, 0, 0, tensors * tensor, [run, y = Tensor::empty(shape)]() mutable { run(y); }});
    };
    const auto unary = [&](UnaryOp op) {
        add(cat(unary_names[static_cast<std::size_t>(op)], " forward"), 2,
            [=, &k](Tensor& y) { k.unary_forward(op, 0.1, 0.5, x, y); });
        add(cat(unary_names[static_cast<std::size_t>(op)], " backward"), 3,
            [=, &k](Tensor& y) { k.unary_backward(op, 0.1, 0.5, x, other, other, y); });
    };
    unary(UnaryOp::relu);
    unary(UnaryOp::clamp);
    unary(UnaryOp::sigmoid);
    add("add", 3, [=, &k](Tensor& y) { k.binary_forward(BinaryOp::add, x, other, y); });
    add("multiply by a channel vector", 2, [=, &k](Tensor& y) { k.binary_forward(BinaryOp::multiply, x, channel, y); });
    add("multiply by a gate [N, 1, 1, C]", 2, [=, &k](Tensor& y) { k.binary_forward(BinaryOp::multiply, x, gate, y); });
    add("bias", 2, [=, &k](Tensor& y) { k.bias_forward(x, channel, y); });
    add("round", 2, [=, &k](Tensor& y) { k.step_forward(StepFunction::round, x, y); });
    add("surrogate clipped", 3, [=, &k](Tensor& y) { k.surrogate_backward({Surrogate::clipped}, x, other, y); });
    add("dropout", 2, [=, &k](Tensor& y) { k.dropout(0.3, stream(1, "bench", 0), x, y); });
    add("sum over all", 1, [=, &k, s = Tensor::empty({1})](Tensor&) mutable { k.reduce_sum(15, 1, x, s); });
    add("sum over all but channels", 1,
        [=, &k, s = Tensor::empty({16})](Tensor&) mutable { k.reduce_sum(7, 1, x, s); });
    StridedCopy to_nchw{.rank = 4,
                        .sizes = {batch, 16, 32, 32},
                        .source_strides = {16 * 1024, 1, 32 * 16, 16},
                        .target_strides = {16 * 1024, 1024, 32, 1}};
    add("transpose NHWC-NCHW", 2, [=, &k](Tensor& y) { k.strided_copy(to_nchw, x, y); });
}

/// One row a benchmark, from the best of its repetitions.
class Table : public benchmark::BenchmarkReporter {
public:
    bool ReportContext(const Context&) override {
        std::printf("%d thread(s); matrix product %.0f GFLOP/s; copy of 16 MiB %.1f GB/s\n\n", omp_get_max_threads(),
                    product_rate() * 1e-9, 0x1p24 / copy_time(0x1p24) * 1e-9);
        std::printf("%-40s %11s %9s %9s %11s %8s\n", "kernel", "time us", "GFLOP/s", "GB/s", "floor us", "x floor");
        return true;
    }
    void ReportRuns(const std::vector<Run>& runs) override {
        double seconds = 1e30;  // the best repetition: others may share the machine
        const Run* first = nullptr;
        for (const Run& run : runs) {
            if (run.run_type == Run::RT_Aggregate) continue;
            if (!first) first = &run;
            seconds = std::min(seconds, run.real_accumulated_time / static_cast<double>(run.iterations));
        }
        if (!first) return;
        const auto counter = [&](const char* name) { return first->counters.at(name).value; };
        const double floor = counter("floor");
        std::printf("%-40s %11.1f %9s %9s %11.1f %8s\n", first->run_name.function_name.c_str(), seconds * 1e6,
                    rate(counter("flops"), seconds).c_str(), rate(counter("bytes"), seconds).c_str(), floor * 1e6,
                    floor > 0 ? ratio(seconds / floor).c_str() : "-");
        std::fflush(stdout);
        step_ += counter("in_step") * seconds;
        step_floor_ += counter("in_step") * floor;
    }
    void Finalize() override {
        if (step_ > 0)
            std::printf(
                "\nResNet-20 training step, batch %d, sum of the kernels above: %.2f ms, floor %.2f ms, ratio %.2f\n",
                static_cast<int>(batch), step_ * 1e3, step_floor_ * 1e3, step_ / step_floor_);
    }

private:
    static std::string rate(double amount, double seconds) { return amount > 0 ? ratio(amount / seconds * 1e-9) : "-"; }
    static std::string ratio(double value) {
        char text[32];
        std::snprintf(text, sizeof text, "%.2f", value);
        return text;
    }
    double step_ = 0, step_floor_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
    std::vector<Case> cases;
    add_resnet20(cases);
    add_svhn(cases);
    add_pointwise(cases);
    for (Case& c : cases) {
        benchmark::RegisterBenchmark(c.name.c_str(),
                                     [&c](benchmark::State& state) {
                                         c.run();  // makes the primitives
                                         for (auto _ : state) c.run();
                                         state.counters["flops"] = c.flops;
                                         state.counters["bytes"] = c.bytes;
                                         state.counters["in_step"] = c.in_step;
                                         state.counters["floor"] = floor_time(c);
                                     })
            ->UseRealTime()
            ->MinTime(0.002)
            ->Repetitions(20);
    }
    Table table;
    benchmark::RunSpecifiedBenchmarks(&table);
    return 0;
}
