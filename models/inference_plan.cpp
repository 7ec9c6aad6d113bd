#include "models/inference_plan.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <limits>

#include "engine/threads.h"
#include "models/folding.h"
#include "models/layers/activation.h"
#include "models/layers/convolution.h"
#include "models/layers/dense.h"
#include "models/layers/dropout.h"
#include "models/layers/normalization.h"
#include "models/layers/pooling.h"
#include "models/layers/shaping.h"

namespace bitloom {

using namespace layers;
using ops::NormEpilogue;
using ops::OpKernels;

namespace {

constexpr int none = -2;  // no residual
constexpr int network_input = -1;
constexpr int never = std::numeric_limits<int>::max();

/// Layers that pass their input on as it is.
bool is_identity(const Module& module) {
    if (is_folded(module)) return !module.output_transform;
    if (module.has_hooks()) return false;
    return dynamic_cast<const Dropout*>(&module) || dynamic_cast<const DropPath*>(&module);
}

Tensor effective(Parameter& parameter) {
    if (!parameter.value.defined()) return {};
    Tape tape(Tape::Mode::inference);
    Context context{tape};
    return parameter.effective(context).value();
}

const Tensor* optional(const Tensor& t) { return t.defined() ? &t : nullptr; }

}  // namespace

InferencePlan::InferencePlan(Module& network, const Shape& input) : input_shape_(input) {
    if (const auto parameters = network.named_parameters(); !parameters.empty()) {
        dtype_ = parameters.front().second->value.dtype();
        device_ = parameters.front().second->value.device();
    }
    const Graph graph = Graph::trace(network, input, dtype_, device_);
    for (const GraphCall& call : graph.calls())
        for (std::size_t i = 0; i < call.inputs.size(); ++i)
            require(call.inputs[i] != network_input || call.input_shapes[i] == input, "inference plan: ", call.path,
                    " reads a value of shape ", call.input_shapes[i], " that no leaf module made");
    list_steps(graph);
    fuse_epilogues();
    place_buffers();
}

void InferencePlan::list_steps(const Graph& graph) {
    std::vector<int> origin(graph.calls().size());  // of a value: itself, or what an identity passed on
    const auto resolve = [&](int value) { return value < 0 ? value : origin[static_cast<std::size_t>(value)]; };
    for (const GraphCall& call : graph.calls()) {
        const auto index = static_cast<std::size_t>(call.index);
        origin[index] = is_identity(*call.module) ? resolve(call.inputs.at(0)) : call.index;
        if (origin[index] != call.index) continue;
        Step step;
        step.module = call.module;
        step.label = call.path;
        for (const int value : call.inputs) step.inputs.push_back(resolve(value));
        step.output = call.index;
        step.shape = call.output_shape;
        if (!call.module->has_hooks()) choose_kernel(step, call.input_shapes.at(0));
        steps_.push_back(std::move(step));
    }
    values_.resize(graph.calls().size());
    output_ = graph.calls().empty() ? network_input : resolve(graph.calls().back().index);
    output_shape_ = graph.calls().empty() ? input_shape_ : graph.calls().back().output_shape;
}

void InferencePlan::choose_kernel(Step& step, const Shape& x) const {
    if (auto* convolution = dynamic_cast<Conv2d*>(step.module)) {
        step.kind = Kind::convolution;
        step.weight = effective(convolution->weight);
        step.bias = effective(convolution->bias);
        step.convolution = ops::conv2d_geometry(x, step.weight.shape(), convolution->options_for(x[1], x[2]));
    } else if (auto* dense = dynamic_cast<Dense*>(step.module)) {
        step.kind = Kind::dense;
        step.weight = effective(dense->weight);
        step.bias = effective(dense->bias);
    } else if (auto* bn = dynamic_cast<BatchNorm*>(step.module)) {
        step.kind = Kind::batch_norm;
        step.weight = effective(bn->weight);
        step.bias = effective(bn->bias);
    } else if (auto* max_pool = dynamic_cast<MaxPool2d*>(step.module)) {
        step.kind = Kind::max_pool;
        step.pool = ops::pool2d_geometry(x, pool_options(max_pool->config(), x[1], x[2]));
    } else if (auto* avg_pool = dynamic_cast<AvgPool2d*>(step.module)) {
        step.kind = Kind::avg_pool;
        step.pool = ops::pool2d_geometry(x, pool_options(avg_pool->config(), x[1], x[2]));
        step.include_pad = avg_pool->include_pad();
    } else if (dynamic_cast<GlobalAvgPool2d*>(step.module)) {
        step.kind = Kind::avg_pool;
        step.pool = ops::pool2d_geometry(x, {x[1], x[2], 1, 1, {}});
    } else if (dynamic_cast<ReLU*>(step.module)) {
        step.kind = Kind::relu;
    } else if (dynamic_cast<Add*>(step.module) && step.inputs.size() == 2) {
        step.kind = Kind::add;
    } else if (dynamic_cast<Flatten*>(step.module)) {
        step.kind = Kind::reshape;
    }
}

void InferencePlan::fuse_epilogues() {
    const auto reader_of = [&](int value) {
        int reader = none;
        for (std::size_t i = 0; i < steps_.size(); ++i) {
            const auto reads = std::count(steps_[i].inputs.begin(), steps_[i].inputs.end(), value);
            if (reads == 0) continue;
            if (reads > 1 || reader != none) return none;
            reader = static_cast<int>(i);
        }
        return value == output_ ? none : reader;
    };
    // A fused step takes the place of what it absorbs, where every operand is there: a shortcut may run after the
    // convolution that its sum goes into.
    std::size_t i = 0;
    while (i < steps_.size()) {
        Step& step = steps_[i];
        const bool sums = step.kind == Kind::convolution || step.kind == Kind::batch_norm;
        const int at = step.epilogue == NormEpilogue::none ? reader_of(step.output) : none;
        Step* reader = at == none ? nullptr : &steps_[static_cast<std::size_t>(at)];
        if (reader && reader->kind == Kind::relu && (sums || step.kind == Kind::dense)) {
            step.epilogue = NormEpilogue::relu;
        } else if (reader && reader->kind == Kind::add && sums && step.residual == none) {
            step.residual = reader->inputs[0] == step.output ? reader->inputs[1] : reader->inputs[0];
            step.inputs.push_back(step.residual);
        } else {
            ++i;
            continue;
        }
        step.label += " + " + reader->label;
        step.output = reader->output;
        *reader = std::move(step);
        steps_.erase(steps_.begin() + static_cast<std::ptrdiff_t>(i));
    }
}

void InferencePlan::place_buffers() {
    std::vector<int> root(values_.size()), last_use(values_.size(), -1), buffer_of(values_.size(), -1);
    const auto root_of = [&](int value) { return value < 0 ? value : root[static_cast<std::size_t>(value)]; };
    for (std::size_t i = 0; i < steps_.size(); ++i) {
        const Step& step = steps_[i];
        root[static_cast<std::size_t>(step.output)] =
            step.kind == Kind::reshape ? root_of(step.inputs[0]) : step.output;
        for (const int value : step.inputs)
            if (root_of(value) >= 0) last_use[static_cast<std::size_t>(root_of(value))] = static_cast<int>(i);
    }
    if (root_of(output_) >= 0) last_use[static_cast<std::size_t>(root_of(output_))] = never;

    std::vector<std::int64_t> sizes;
    std::vector<bool> is_free;
    const auto take = [&](std::int64_t size) {
        int best = -1;
        for (std::size_t b = 0; b < sizes.size(); ++b)
            if (is_free[b] && sizes[b] >= size && (best < 0 || sizes[b] < sizes[static_cast<std::size_t>(best)]))
                best = static_cast<int>(b);
        if (best < 0) {
            best = static_cast<int>(sizes.size());
            sizes.push_back(size);
            is_free.push_back(true);
        }
        is_free[static_cast<std::size_t>(best)] = false;
        return best;
    };
    for (std::size_t i = 0; i < steps_.size(); ++i) {
        const Step& step = steps_[i];
        if (step.kind == Kind::reshape || step.kind == Kind::module) continue;
        // The sum is formed in the residual's memory where this step is the last to read it.
        const int residual = step.kind == Kind::convolution && step.residual != none ? root_of(step.residual) : -1;
        const bool in_place = residual >= 0 && buffer_of[static_cast<std::size_t>(residual)] >= 0 &&
                              last_use[static_cast<std::size_t>(residual)] == static_cast<int>(i) &&
                              root_of(step.inputs[0]) != residual;
        int& buffer = buffer_of[static_cast<std::size_t>(step.output)];
        buffer = in_place ? buffer_of[static_cast<std::size_t>(residual)] : take(step.shape.numel());
        for (const int value : step.inputs) {
            const int source = root_of(value);
            if (source < 0 || last_use[static_cast<std::size_t>(source)] != static_cast<int>(i)) continue;
            const int released = buffer_of[static_cast<std::size_t>(source)];
            if (released >= 0 && released != buffer) is_free[static_cast<std::size_t>(released)] = true;
        }
    }
    for (const std::int64_t size : sizes) buffers_.push_back(Tensor::empty({size}, dtype_, device_));
    for (const Step& step : steps_) {
        const int buffer = buffer_of[static_cast<std::size_t>(step.output)];
        if (buffer >= 0)
            values_[static_cast<std::size_t>(step.output)] =
                buffers_[static_cast<std::size_t>(buffer)].rows(0, step.shape.numel()).reshape(step.shape);
    }
}

void InferencePlan::execute(const Step& step, const Tensor& network_x) {
    const Tensor& x = value(step.inputs[0], network_x);
    Tensor& y = values_[static_cast<std::size_t>(step.output)];
    const Tensor* bias = optional(step.bias);
    const Tensor* residual = step.residual == none ? nullptr : &value(step.residual, network_x);
    switch (step.kind) {
        case Kind::convolution:
            ops::kernel(device_, "conv2d_inference", &OpKernels::conv2d_inference)(step.convolution, x, step.weight,
                                                                                   bias, residual, step.epilogue, y);
            break;
        case Kind::dense:
            ops::kernel(device_, "dense_inference", &OpKernels::dense_inference)(x, step.weight, bias, step.epilogue,
                                                                                 y);
            break;
        case Kind::batch_norm: {
            const auto& bn = static_cast<const BatchNorm&>(*step.module);
            ops::kernel(device_, "batch_norm_inference", &OpKernels::batch_norm_inference)(
                x, step.weight, step.bias, residual, bn.running_mean, bn.running_var, bn.config().epsilon,
                step.epilogue, y);
            break;
        }
        case Kind::relu:
            ops::kernel(device_, "unary_forward", &OpKernels::unary_forward)(ops::UnaryOp::relu, 0, 0, x, y);
            break;
        case Kind::add:
            ops::kernel(device_, "binary_forward", &OpKernels::binary_forward)(ops::BinaryOp::add, x,
                                                                               value(step.inputs[1], network_x), y);
            break;
        case Kind::max_pool:
            ops::kernel(device_, "max_pool2d_forward", &OpKernels::max_pool2d_forward)(step.pool, x, y, nullptr);
            break;
        case Kind::avg_pool:
            ops::kernel(device_, "avg_pool2d_forward", &OpKernels::avg_pool2d_forward)(step.pool, step.include_pad, x,
                                                                                       y);
            break;
        case Kind::reshape:
            y = x.reshape(step.shape);
            break;
        case Kind::module: {
            Tape tape(Tape::Mode::inference);
            Context context{tape};
            std::vector<Var> inputs;
            for (const int index : step.inputs) inputs.push_back(tape.constant(value(index, network_x)));
            y = (*step.module)(context, std::span<const Var>(inputs)).value();
            break;
        }
    }
}

const Tensor& InferencePlan::run(const Tensor& x) {
    require(x.shape() == input_shape_, "inference plan: made for inputs ", input_shape_, ", got ", x.shape());
    require(x.dtype() == dtype_ && x.device() == device_, "inference plan: made for ", name_of(dtype_), " on ", device_,
            ", got ", name_of(x.dtype()), " on ", x.device());
    for (const Step& step : steps_) execute(step, x);
    output_value_ = value(output_, x);
    return output_value_;
}

std::vector<std::string> InferencePlan::steps() const {
    std::vector<std::string> labels;
    for (const Step& step : steps_) labels.push_back(step.label);
    return labels;
}

std::size_t InferencePlan::buffer_bytes() const {
    std::size_t bytes = 0;
    for (const Tensor& buffer : buffers_) bytes += buffer.bytes();
    return bytes;
}

std::int64_t InferencePlan::multiplications_a_step() const {
    std::int64_t total = 0;
    for (const Step& step : steps_) {
        if (step.kind == Kind::convolution)
            total += step.shape.numel() * (step.weight.numel() / step.convolution.out_c);
        else if (step.kind == Kind::dense)
            total += input_shape_[0] * step.weight.numel();
    }
    return steps_.empty() ? 0 : total / std::ssize(steps_);
}

bool InferencePlan::runs_side_by_side() const {
    return device_.is_host() && std::none_of(steps_.begin(), steps_.end(), [](const Step& step) {
               return step.kind == Kind::module &&
                      (step.module->has_hooks() || !step.module->is_leaf() || !step.module->named_parameters().empty());
           });
}

InferencePlan& PlannedNetwork::plan(Plans& plans, const Tensor& x, std::int64_t images) {
    Shape shape = x.shape();
    shape.set(0, images);
    for (const auto& known : plans)
        if (known->input_shape() == shape) return *known;
    plans.push_back(std::make_unique<InferencePlan>(network_, shape));
    return *plans.back();
}

const PlannedNetwork::Profile& PlannedNetwork::profile(const Tensor& x) {
    Shape image = x.shape();
    image.set(0, 1);
    if (profile_.image != image) {
        const InferencePlan& single = plan(lanes_[0], x, 1);
        profile_ = {image, single.runs_side_by_side(), static_cast<std::int64_t>(single.buffer_bytes()),
                    single.multiplications_a_step()};
    }
    return profile_;
}

std::int64_t PlannedNetwork::images_a_run(const Tensor& x) {
    // A core's cache of the second level, where that is small. ResNet-20 runs five images at a time then.
    constexpr std::int64_t cache_bytes = 1 << 20;
    // Below so many multiplications a step, waking threads for each step costs more than they save.
    constexpr std::int64_t worth_threads = 16 << 20;
    const std::int64_t batch = x.dim(0), threads = thread_count();
    const Profile& one = profile(x);
    if (!one.side_by_side || (batch < threads && batch * one.multiplications_a_step >= worth_threads)) return 0;
    const std::int64_t cached = std::clamp<std::int64_t>(cache_bytes / std::max<std::int64_t>(one.bytes, 1), 1, batch);
    return deterministic() ? cached : std::min(cached, (batch + threads - 1) / threads);
}

const Tensor& PlannedNetwork::run(const Tensor& x) {
    require(x.rank() >= 1 && x.dim(0) >= 1, "PlannedNetwork: needs a batch of at least one image, got ", x.shape());
    const std::int64_t batch = x.dim(0), each = images_a_run(x);
    if (each == 0) return plan(lanes_[0], x, batch).run(x);
    if (each == batch) {
        const ThreadScope one(1);
        return plan(lanes_[0], x, batch).run(x);
    }
    // Plans are built here: tracing is for one thread.
    const std::int64_t runs = (batch + each - 1) / each, rest = batch - (runs - 1) * each;
    const int threads = static_cast<int>(std::min<std::int64_t>(runs, thread_count()));
    if (std::ssize(lanes_) < threads) lanes_.resize(static_cast<std::size_t>(threads));
    for (int lane = 0; lane < threads; ++lane)
        for (const std::int64_t images : {each, rest}) plan(lanes_[static_cast<std::size_t>(lane)], x, images);

    std::exception_ptr error;
    const auto run_lane = [&](int lane, char* output) {
        const ThreadScope one(1);
        for (std::int64_t r = runs * lane / threads; r < runs * (lane + 1) / threads; ++r) {
            const std::int64_t images = r == runs - 1 ? rest : each;
            const Tensor& y = plan(lanes_[static_cast<std::size_t>(lane)], x, images).run(x.rows(r * each, images));
            const std::size_t image_bytes = y.bytes() / static_cast<std::size_t>(images);
            std::memcpy(output + static_cast<std::size_t>(r * each) * image_bytes, y.raw(), y.bytes());
        }
    };
    Shape shape = plan(lanes_[0], x, each).output_shape();
    shape.set(0, batch);
    if (!output_.defined() || output_.shape() != shape || output_.dtype() != x.dtype() || !output_.unique())
        output_ = Tensor::empty(shape, x.dtype(), x.device());
    char* output = static_cast<char*>(output_.raw_write());
#pragma omp parallel for schedule(static, 1) num_threads(threads)
    for (int lane = 0; lane < threads; ++lane) {
        try {
            run_lane(lane, output);
        } catch (...) {
#pragma omp critical
            error = std::current_exception();
        }
    }
    if (error) std::rethrow_exception(error);
    return output_;
}

Var PlannedNetwork::forward(Context& context, std::span<const Var> inputs) {
    require(inputs.size() == 1, "PlannedNetwork takes one input, got ", inputs.size());
    require(!context.training && !context.tape.recording(), "PlannedNetwork is for inference only");
    return context.tape.constant(run(inputs[0].value()));
}

}  // namespace bitloom
