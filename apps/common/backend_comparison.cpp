#include "apps/common/backend_comparison.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>

#include "apps/common/kernel_tap.h"
#include "cuda/backend.h"
#include "engine/random.h"
#include "ops/loss.h"
#include "ops/precision.h"

namespace bitloom {

namespace {

using Seconds = std::chrono::duration<double>;

/// The L2 distance, relative to the norm of `wanted` or to `floor`, where that is larger.
double relative_distance(const Tensor& got, const Tensor& wanted, double floor) {
    const std::vector<double> a = got.to(cpu_device).values<double>(), b = wanted.to(cpu_device).values<double>();
    double distance = 0, norm = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        distance += (a[i] - b[i]) * (a[i] - b[i]);
        norm += b[i] * b[i];
    }
    if (std::isnan(distance)) return std::numeric_limits<double>::infinity();
    norm = std::max(std::sqrt(norm), floor);
    return norm > 0 ? std::sqrt(distance) / norm : std::sqrt(distance);
}

double norm_of(const Tensor& t) {
    double squares = 0;
    for (const double value : t.to(cpu_device).values<double>()) squares += value * value;
    return std::sqrt(squares);
}

/// `floor_of(output number)`: the least norm that an output's error is related to.
template <class FloorOf>
double largest_distance(const std::vector<Tensor>& got, const std::vector<Tensor>& wanted, FloorOf&& floor_of) {
    double largest = 0;
    for (std::size_t i = 0; i < got.size(); ++i)
        largest = std::max(largest, relative_distance(got[i], wanted[i], floor_of(i)));
    return largest;
}

bool same_values(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
    for (std::size_t i = 0; i < a.size(); ++i)
        if (a[i].to(cpu_device).values<double>() != b[i].to(cpu_device).values<double>()) return false;
    return true;
}

/// Sums of small integers and their products are exact in these kernels, in whatever order.
bool exact_on_integers(const KernelCall& call) {
    using ops::UnaryOp;
    if (call.unary)
        return *call.unary == UnaryOp::relu || *call.unary == UnaryOp::relu6 || *call.unary == UnaryOp::abs ||
               *call.unary == UnaryOp::square;
    for (const std::string_view start :
         {"conv2d_", "dense_", "bias_", "max_pool2d_", "strided_copy", "reduce_max", "apply_mask"})
        if (call.name.starts_with(start)) return true;
    return false;
}

/// Terms of the longest sum in a call.
double accumulation_of(const KernelCall& call) {
    const auto numel = [](const Tensor* t) { return static_cast<double>(t->numel()); };
    if (call.convolution) {
        const ops::Conv2dGeometry& g = *call.convolution;
        if (call.name.ends_with("backward_weights")) return static_cast<double>(g.batch * g.out_h * g.out_w);
        const std::int64_t channels = call.name.ends_with("backward_data") ? g.out_c : g.in_c;
        return static_cast<double>(g.kernel_h * g.kernel_w * channels / g.groups);
    }
    if (call.name.starts_with("dense_") && call.inputs.size() >= 2)  // (m k) (k n) / (m n) = k^2
        return std::sqrt(numel(call.inputs[0]) * numel(call.inputs[1]) / std::max(1.0, numel(call.outputs[0])));
    double most = 1, least = 1e30;
    for (const Tensor* t : call.inputs) most = std::max(most, numel(t));
    for (const Tensor* t : call.outputs) least = std::min(least, std::max(1.0, numel(t)));
    return std::max(1.0, most / least);
}

/// The norm of an output that sums the first input over channels, had its terms random signs. Such sums may vanish (the
/// gradient of beta does where another normalisation follows), and their rounding errors do not vanish with them.
double sum_norm(const KernelCall& call, const Tensor& output) {
    if (output.numel() == 1 && (call.name == "planes_backward" || call.name == "fixed_backward"))
        return norm_of(*call.inputs[2]);  // that of a scale sums dweights times values in [-1, 1]
    if (call.name != "batch_norm_backward" && call.name != "bias_backward") return 0;
    const Tensor& input = *call.inputs[0];
    if (output.numel() >= input.numel()) return 0;
    return norm_of(input);  // sqrt(outputs) times sqrt(terms) times the root mean square
}

double tolerance_for(double accumulation, const ComparisonOptions& options) {
    return options.tolerance * (options.grows ? std::sqrt(std::max(1.0, accumulation / 1000)) : 1.0);
}

std::string shapes_of(const KernelCall& call) {
    std::string text;
    for (const Tensor* t : call.inputs) text += cat(text.empty() ? "" : " ", t->shape());
    if (const ops::Conv2dGeometry* g = call.convolution) {
        text += cat(" ", g->kernel_h, "x", g->kernel_w);
        if (g->stride_h != 1 || g->stride_w != 1) text += cat(" stride ", g->stride_h);
    }
    return text;
}

/// The best time between two marks, or a start and a mark, pauses left out.
class Stopwatch {
   public:
    explicit Stopwatch(Device device) : device_(device) { start(); }
    void start() {
        wait();
        spent_ = {};
        last_ = Clock::now();
    }
    void pause() {
        wait();
        spent_ += Clock::now() - last_;
    }
    void resume() {
        wait();
        last_ = Clock::now();
    }
    void mark() {
        pause();
        best_ = std::min(best_, Seconds(spent_).count());
        spent_ = {};
        last_ = Clock::now();
    }
    double best() const { return best_; }

   private:
    using Clock = std::chrono::steady_clock;
    void wait() const {
        if (!device_.is_host()) cuda::synchronize(device_);
    }
    Device device_;
    Clock::duration spent_{};
    Clock::time_point last_;
    double best_ = 1e30;
};

/// Compares calls as they come, those of a name and shape only once.
class KernelJudge {
   public:
    KernelJudge(const ComparisonOptions& options, bool in_double) : options_(options), in_double_(in_double) {}

    void operator()(const KernelCall& call) {
        longest_ = std::max(longest_, accumulation_of(call));
        if (!listening_) return;
        const std::string shapes = shapes_of(call),
                          key = cat(call.name, call.unary ? static_cast<int>(*call.unary) : -1, shapes);
        if (const auto known = index_.find(key); known != index_.end()) {
            ++rows_[known->second].calls;
            return;
        }
        index_.emplace(key, rows_.size());
        ComparedCall row;
        row.name = call.unary ? cat(call.name, " ", ops::unary_names[static_cast<std::size_t>(*call.unary)])
                              : std::string(call.name);
        row.detail = shapes;
        row.accumulation = accumulation_of(call);
        row.tolerance = tolerance_for(row.accumulation, options_);
        const std::vector<Tensor> wanted = once(call, {reference_device, in_double_ ? DType::f64 : DType::f32, false});
        std::vector<Tensor> wanted_integers;
        if (exact_on_integers(call)) wanted_integers = once(call, {reference_device, DType::u8, true});
        for (const Device device : options_.devices) {
            DeviceFigures f;
            f.device = device;
            f.missing = !call.exists(device);
            if (!f.missing) {
                Stopwatch watch(device);
                // The first call may prepare something; its time is not the best one.
                const std::vector<Tensor> got =
                    call.replay({device, DType::u8, false}, options_.repetitions + 1, [&] { watch.mark(); });
                f.seconds = watch.best();
                f.error = largest_distance(got, wanted, [&](std::size_t i) { return sum_norm(call, wanted[i]); });
                if (!wanted_integers.empty())
                    f.exact = same_values(once(call, {device, DType::u8, true}), wanted_integers);
            }
            row.figures.push_back(f);
        }
        rows_.push_back(std::move(row));
    }

    void stop_listening() { listening_ = false; }
    /// The longest sum since the last call of this.
    double take_longest() { return std::exchange(longest_, 1.0); }
    std::vector<ComparedCall> take_rows() { return std::move(rows_); }

   private:
    static std::vector<Tensor> once(const KernelCall& call, const Replay& replay) {
        return call.replay(replay, 1, [] {});
    }

    const ComparisonOptions& options_;
    bool in_double_, listening_ = true;
    double longest_ = 1;
    std::map<std::string, std::size_t> index_;
    std::vector<ComparedCall> rows_;
};

/// A leaf module's call in the step.
struct LayerCall {
    Module* module;
    std::vector<Tensor> inputs;  ///< on the host
};

class InputCollector final : public CallObserver {
   public:
    void after_call(Module& module, std::span<const Var> inputs, Var&) override {
        LayerCall call{&module, {}};
        for (const Var& v : inputs) call.inputs.push_back(v.value().clone().to(cpu_device));
        calls.push_back(std::move(call));
    }
    std::vector<LayerCall> calls;
};

/// A module's parameters and buffers while it runs elsewhere; they come back with the scope.
class BorrowedModule {
   public:
    BorrowedModule(Module& module, Device device, DType dtype) : module_(module) {
        for (const auto& [path, parameter] : module.named_parameters())
            parameters_.emplace_back(parameter, parameter->value.clone());
        for (const auto& [path, buffer] : module.named_buffers()) buffers_.emplace_back(buffer, buffer->clone());
        module.to(dtype);
        module.to(device);
    }
    ~BorrowedModule() {
        module_.to(DType::f32);
        module_.to(cpu_device);
        for (auto& [parameter, value] : parameters_) parameter->value = value, parameter->grad = Tensor();
        for (auto& [buffer, value] : buffers_) *buffer = value;
    }
    BorrowedModule(const BorrowedModule&) = delete;
    BorrowedModule& operator=(const BorrowedModule&) = delete;

   private:
    Module& module_;
    std::vector<std::pair<Parameter*, Tensor>> parameters_;
    std::vector<std::pair<Tensor*, Tensor>> buffers_;
};

/// Output and gradients (of inputs and parameters) of one layer, forward and backward on the clock. The output's
/// gradient is drawn from the seed.
std::vector<Tensor> run_layer(const LayerCall& call, Device device, DType parameters, DType activations,
                              const ComparisonOptions& options, Stopwatch* watch = nullptr) {
    const BorrowedModule borrowed(*call.module, device, parameters);
    Tape tape;
    Context context{tape};
    context.training = true;
    context.seed = options.seed;
    std::vector<Var> inputs;
    for (const Tensor& input : call.inputs) inputs.push_back(tape.input(input.to(activations).to(device), true));
    if (watch) watch->start();
    const Var y = (*call.module)(context, std::span<const Var>(inputs));
    if (watch) watch->pause();
    std::vector<Tensor> results{y.value().clone()};
    if (!y.requires_grad()) {
        if (watch) watch->resume(), watch->mark();
        return results;
    }
    Tensor seed = Tensor::empty(y.shape());
    Rng rng(options.seed, "gradient of a layer's output");
    fill_normal(seed, 0, 1, rng);
    seed = seed.to(activations).to(y.dtype()).to(device);
    if (watch) watch->resume();
    tape.backward(y, seed);
    if (watch) watch->mark();
    for (const Var& input : inputs)
        if (const Tensor& grad = tape.grad(input); grad.defined()) results.push_back(grad.clone());
    for (const auto& [path, parameter] : call.module->named_parameters())
        if (parameter->grad.defined()) results.push_back(parameter->grad.clone());
    return results;
}

bool has_transforms(Module& module) {
    if (module.has_hooks()) return true;
    const auto parameters = module.named_parameters();
    return std::any_of(parameters.begin(), parameters.end(),
                       [](const auto& p) { return !p.second->transforms.empty(); });
}

ComparedCall compare_layer(const LayerCall& call, double accumulation, const ComparisonOptions& options) {
    ComparedCall row;
    row.name = call.module->path();
    row.detail = std::string(call.module->type());
    row.accumulation = accumulation;
    row.tolerance = tolerance_for(accumulation, options);
    const DType wide = has_transforms(*call.module) ? DType::f32 : DType::f64;
    // bf16 inputs are exact in the yardstick's type.
    const std::vector<Tensor> wanted = run_layer(call, reference_device, wide, wide, options);
    for (const Device device : options.devices) {
        DeviceFigures f;
        f.device = device;
        Stopwatch watch(device);
        for (int i = 0; i < options.repetitions; ++i) {
            const std::vector<Tensor> got = run_layer(call, device, DType::f32, options.activations, options, &watch);
            // The gradient of a scale sums terms that cancel, over the weight whose gradient stands in front of it.
            const auto floor = [&](std::size_t k) { return k > 0 && wanted[k].numel() == 1 ? norm_of(wanted[k - 1]) : 0.0; };
            f.error = std::max(f.error, largest_distance(got, wanted, floor));
        }
        f.seconds = watch.best();
        row.figures.push_back(f);
    }
    return row;
}

std::vector<std::int32_t> random_labels(std::int64_t count, std::int64_t classes, std::uint64_t seed) {
    std::vector<std::int32_t> labels(static_cast<std::size_t>(count));
    Rng rng(seed, "labels");
    for (std::int32_t& label : labels)
        label = static_cast<std::int32_t>(rng.below(static_cast<std::uint64_t>(classes)));
    return labels;
}

}  // namespace

bool ComparedCall::passed() const {
    return std::all_of(figures.begin(), figures.end(), [this](const DeviceFigures& f) { return passed(f); });
}

Comparison compare_backends(Module& network, const Tensor& images, std::int64_t classes,
                            const ComparisonOptions& options) {
    require(!options.devices.empty() && options.devices.front() == cpu_device,
            "compare_backends: the step runs on the cpu, which must be the first device");
    KernelJudge ops_judge(options, true), quant_judge(options, false);
    const auto listen_ops = [&](const KernelCall& call) { ops_judge(call); };
    const auto listen_quant = [&](const KernelCall& call) { quant_judge(call); };
    InputCollector collector;
    Comparison result;
    const KernelTap<ops::OpKernels> tap(cpu_device, listen_ops);
    const KernelTap<quant::QuantKernels> quant_tap(cpu_device, listen_quant);
    const KernelTap<bsq::BsqKernels> bsq_tap(cpu_device, listen_quant);
    {
        const BorrowedModule borrowed(network, cpu_device, DType::f32);
        Tape tape;
        Context context{tape};
        context.training = true;
        context.seed = options.seed;
        context.observer = &collector;
        const Var x = tape.input(images.to(options.activations), true);
        const Tensor labels = Tensor::from({images.dim(0)}, random_labels(images.dim(0), classes, options.seed));
        tape.backward(ops::cross_entropy(network(context, x), labels));
    }
    ops_judge.stop_listening();
    quant_judge.stop_listening();
    for (const LayerCall& call : collector.calls) {
        ops_judge.take_longest();
        run_layer(call, cpu_device, DType::f32, options.activations, options);  // for the length of its sums
        result.layers.push_back(compare_layer(call, ops_judge.take_longest(), options));
    }
    result.kernels = ops_judge.take_rows();
    for (ComparedCall& row : quant_judge.take_rows()) result.kernels.push_back(std::move(row));
    return result;
}

}  // namespace bitloom
