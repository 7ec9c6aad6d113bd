#include "ops/cpu/onednn.h"

#include <omp.h>
#include <oneapi/dnnl/dnnl_debug.h>
#include <sys/mman.h>

#include <atomic>
#include <memory>
#include <oneapi/dnnl/dnnl.hpp>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace bitloom::ops::cpu::onednn {

namespace {

using Dims = dnnl::memory::dims;
using Desc = dnnl::memory::desc;
constexpr auto f32 = dnnl::memory::data_type::f32;

/// The type of activations. Throws Error for what the cpu device does not compute in.
dnnl::memory::data_type activation_type(DType dtype, const char* who) {
    require(dtype == DType::f32 || dtype == DType::bf16, who, ": the cpu device needs f32 or bf16, got ",
            name_of(dtype), dtype == DType::f64 ? "; use --device reference for f64" : "");
    return dtype == DType::f32 ? f32 : dnnl::memory::data_type::bf16;
}

/// Beyond these a thread starts again with an empty cache, or overwrites the least recently used copy.
constexpr std::size_t max_plans = 1024;
constexpr std::size_t max_weight_copies = 32;
constexpr std::size_t max_weight_bytes = std::size_t{64} << 20;

const dnnl::engine& engine() {
    static const auto* e = new dnnl::engine(dnnl::engine::kind::cpu, 0);
    return *e;
}

dnnl::stream& stream() {
    thread_local dnnl::stream s(engine());
    return s;
}

/// Runs f; an error of oneDNN becomes one of ours.
template <class F>
decltype(auto) guarded(const char* who, F&& f) {
    try {
        return f();
    } catch (const dnnl::error& e) {
        fail(who, ": oneDNN failed: ", e.what());
    }
}

/// One thing a call binds memory to. The memory object lives as long as the plan; only its pointer changes.
class Argument {
   public:
    Argument() = default;
    explicit Argument(const Desc& desc) : memory_(desc, engine(), nullptr) {}
    void bind(const void* data) {
        if (data == bound_) return;
        memory_.set_data_handle(const_cast<void*>(data));
        bound_ = data;
    }
    dnnl_memory_t handle() const { return memory_.get(); }

   private:
    dnnl::memory memory_;
    const void* bound_ = nullptr;
};

void execute(const dnnl::primitive& primitive, std::span<const dnnl_exec_arg_t> arguments) {
    dnnl::error::wrap_c_api(
        dnnl_primitive_execute(primitive.get(), stream().get(), static_cast<int>(arguments.size()), arguments.data()),
        "primitive execution");
}

Tensor bytes(std::size_t n) { return Tensor::empty({static_cast<std::int64_t>(n)}, DType::u8); }

thread_local std::uint64_t weight_reorders = 0;
std::atomic<std::uint64_t> plans_created{0};

/// Reordered copies of the weights that met one primitive, by (id, address, version) of the weight.
class WeightCopies {
   public:
    WeightCopies() = default;
    WeightCopies(const Desc& ours, const Desc& wanted)
        : wanted_(wanted), source_(ours), reorder_(dnnl::reorder::primitive_desc(engine(), ours, engine(), wanted)) {}

    dnnl_memory_t find_or_make(const Tensor& weight) {
        ++clock_;
        const void* address = weight.raw();
        Copy* same_weight = nullptr;
        Copy* oldest = nullptr;
        for (const auto& copy : copies_) {
            if (copy->id == weight.id() && copy->address == address) {
                if (copy->version == weight.version()) {
                    copy->used = clock_;
                    return copy->target.handle();
                }
                same_weight = copy.get();
            }
            if (!oldest || copy->used < oldest->used) oldest = copy.get();
        }
        Copy& slot = same_weight ? *same_weight : full() ? *oldest : add();
        source_.bind(address);
        const dnnl_exec_arg_t arguments[] = {{DNNL_ARG_FROM, source_.handle()}, {DNNL_ARG_TO, slot.target.handle()}};
        slot.id = 0;  // not valid should the reorder throw
        execute(reorder_, arguments);
        ++weight_reorders;
        slot.id = weight.id();
        slot.address = address;
        slot.version = weight.version();
        slot.used = clock_;
        return slot.target.handle();
    }
    std::size_t held_bytes() const { return copies_.size() * wanted_.get_size(); }

   private:
    struct Copy {
        std::uint64_t id = 0, version = 0, used = 0;
        const void* address = nullptr;
        Tensor storage;
        Argument target;
    };
    bool full() const {
        return !copies_.empty() &&
               (copies_.size() >= max_weight_copies || (copies_.size() + 1) * wanted_.get_size() > max_weight_bytes);
    }
    Copy& add() {
        auto copy = std::make_unique<Copy>();
        copy->storage = bytes(wanted_.get_size());
        copy->target = Argument(wanted_);
        copy->target.bind(copy->storage.raw());
        copies_.push_back(std::move(copy));
        return *copies_.back();
    }
    Desc wanted_;
    Argument source_;
    dnnl::reorder reorder_;
    std::vector<std::unique_ptr<Copy>> copies_;
    std::uint64_t clock_ = 0;
};

/// What a plan computes. A matrix product keeps its five numbers in the first fields of the geometry.
struct Key {
    enum class Kind { forward, backward_data, backward_weights, matrix_product };
    Kind kind;
    bool with_bias;
    int threads;
    Conv2dGeometry geometry;
    DType activations;
    DType second = DType::f32, result = DType::f32;  ///< of a matrix product: b and c
    bool add_to_output = false, relu = false;        // of forward and of matrix products: what follows in the same pass
    bool operator==(const Key&) const = default;
};

struct KeyHash {
    std::size_t operator()(const Key& key) const {
        const Conv2dGeometry& g = key.geometry;
        std::uint64_t h = 0xcbf29ce484222325u;
        const auto mix = [&h](std::int64_t v) {
            h = (h ^ static_cast<std::uint64_t>(v)) * 0x9E3779B97F4A7C15u;
            h ^= h >> 29;
        };
        mix(static_cast<int>(key.kind) * 8 + key.with_bias + key.add_to_output * 2 + key.relu * 4);
        mix(key.threads);
        mix(static_cast<int>(key.activations) * 64 + static_cast<int>(key.second) * 8 + static_cast<int>(key.result));
        for (std::int64_t v :
             {g.batch, g.in_h, g.in_w, g.in_c, g.out_h, g.out_w, g.out_c, g.kernel_h, g.kernel_w, g.stride_h,
              g.stride_w, g.pad_top, g.pad_bottom, g.pad_left, g.pad_right, g.dilation_h, g.dilation_w, g.groups})
            mix(v);
        return h;
    }
};

struct Descriptors {
    Desc src, weights, weight_gradient, bias, dst;
    Desc our_weights;  // OHWI, where `weights` leaves the layout to the primitive
    Dims strides, dilates, pad_begin, pad_end;
};

Descriptors describe(const Key& key) {
    const Conv2dGeometry& g = key.geometry;
    const auto type = activation_type(key.activations, "conv2d");
    using Tag = dnnl::memory::format_tag;
    Descriptors d;
    d.src = Desc({g.batch, g.in_c, g.in_h, g.in_w}, type, Tag::nhwc);
    d.dst = Desc({g.batch, g.out_c, g.out_h, g.out_w}, type, Tag::nhwc);
    if (key.with_bias) d.bias = Desc({g.out_c}, f32, Tag::a);
    const std::int64_t in = g.in_c / g.groups, out = g.out_c / g.groups;
    const std::int64_t column = in, row = g.kernel_w * column, filter = g.kernel_h * row;
    if (g.groups == 1) {
        const Dims dims{out, in, g.kernel_h, g.kernel_w};
        d.weights = Desc(dims, type, Tag::any);
        d.weight_gradient = Desc(dims, f32, Tag::any);
        d.our_weights = Desc(dims, f32, Dims{filter, 1, row, column});
    } else {
        const Dims dims{g.groups, out, in, g.kernel_h, g.kernel_w};
        d.weights = Desc(dims, type, Tag::any);
        d.weight_gradient = Desc(dims, f32, Tag::any);
        d.our_weights = Desc(dims, f32, Dims{out * filter, filter, 1, row, column});
    }
    d.strides = {g.stride_h, g.stride_w};
    d.dilates = {g.dilation_h - 1, g.dilation_w - 1};
    d.pad_begin = {g.pad_top, g.pad_left};
    d.pad_end = {g.pad_bottom, g.pad_right};
    return d;
}

dnnl::primitive_attr user_scratchpad() {
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    return attributes;
}

/// With what the key wants to follow: the sum with what the output held, then ReLU.
dnnl::primitive_attr attributes_of(const Key& key) {
    dnnl::primitive_attr attributes = user_scratchpad();
    if (!key.add_to_output && !key.relu) return attributes;
    dnnl::post_ops following;
    if (key.add_to_output) following.append_sum(1);
    if (key.relu) following.append_eltwise(1, dnnl::algorithm::eltwise_relu, 0, 0);
    attributes.set_post_ops(following);
    return attributes;
}

/// oneDNN offers batch-reduced products (brgconv) first. With few channels, and for strided 1x1 kernels, its direct
/// convolution is faster, by up to 1.7 (measured on the layers of ResNet-20, LeNet-5 and the SVHN network, batch 128).
bool prefers_direct(const Conv2dGeometry& g) {
    if (g.groups != 1) return false;
    if (g.kernel_h == 1 && g.kernel_w == 1) return g.stride_h > 1 || g.stride_w > 1;
    return g.in_c < 16 || g.out_c < 32 || (g.in_c < 32 && g.out_c < 64);
}

/// Whether each position of the kernel's window along one axis meets at least one real cell.
bool windows_meet_cells(std::int64_t in, std::int64_t out, std::int64_t kernel, std::int64_t stride, std::int64_t pad,
                        std::int64_t dilation) {
    for (std::int64_t o = 0; o < out; ++o) {
        bool meets = false;
        for (std::int64_t k = 0; k < kernel && !meets; ++k) {
            const std::int64_t i = o * stride - pad + k * dilation;
            meets = i >= 0 && i < in;
        }
        if (!meets) return false;
    }
    return true;
}

/// oneDNN 2.6's batch-reduced convolution computes what follows it (attr) wrongly, or fails, where a window lies in the
/// padding alone.
bool brgconv_may_follow(const Conv2dGeometry& g) {
    return windows_meet_cells(g.in_h, g.out_h, g.kernel_h, g.stride_h, g.pad_top, g.dilation_h) &&
           windows_meet_cells(g.in_w, g.out_w, g.kernel_w, g.stride_w, g.pad_left, g.dilation_w);
}

dnnl::convolution_forward::primitive_desc forward_descriptor(const Key& key, const Descriptors& d,
                                                             const dnnl::primitive_attr& attributes) {
    using Forward = dnnl::convolution_forward;
    const auto prop = dnnl::prop_kind::forward_training;
    const auto direct = dnnl::algorithm::convolution_direct;
    // next_impl() reads this description again: it outlives every candidate.
    const auto desc =
        key.with_bias
            ? Forward::desc(prop, direct, d.src, d.weights, d.bias, d.dst, d.strides, d.dilates, d.pad_begin, d.pad_end)
            : Forward::desc(prop, direct, d.src, d.weights, d.dst, d.strides, d.dilates, d.pad_begin, d.pad_end);
    const auto first_that = [&](auto&& accepts) {
        Forward::primitive_desc candidate(desc, attributes, engine());
        do {
            if (accepts(std::string_view(candidate.impl_info_str()))) return candidate;
        } while (candidate.next_impl());
        return Forward::primitive_desc();
    };
    const auto is_direct = [](std::string_view name) {
        return name == "jit:avx512_core" || name == "jit_bf16:avx512_core_bf16";
    };
    // AMX's products beat every direct convolution.
    const auto decides = [&](std::string_view name) { return is_direct(name) || name.find("amx") != name.npos; };
    if (prefers_direct(key.geometry))
        if (auto found = first_that(decides)) return found;
    if (attributes.get_post_ops().len() > 0 && !brgconv_may_follow(key.geometry))
        return first_that([](std::string_view name) { return !name.starts_with("brgconv"); });
    return Forward::primitive_desc(desc, attributes, engine());
}

/// A primitive with all that its calls need.
struct Plan {
    dnnl::primitive primitive;
    std::string implementation;
    Argument inputs[2], bias, output, scratchpad;
    std::size_t scratch_bytes = 0;
    std::vector<dnnl_exec_arg_t> arguments;
    // Forward and backward_data: the weight as the primitive wants it, unless that is our own layout.
    bool reorders = false;
    std::size_t weight_argument = 0;  // its index in `arguments`
    WeightCopies copies;
    // backward_weights: the gradient as the primitive writes it, and the way back to ours.
    dnnl::primitive reorder_back;
    Argument ours;
    std::size_t gradient_bytes = 0;

    template <class PrimitiveDesc>
    void set_scratchpad(const PrimitiveDesc& pd) {
        implementation = pd.impl_info_str();
        scratch_bytes = pd.scratchpad_desc().get_size();
        if (scratch_bytes == 0) return;
        scratchpad = Argument(pd.scratchpad_desc());
        arguments.push_back({DNNL_ARG_SCRATCHPAD, scratchpad.handle()});
    }
    void add(int argument, Argument& target, const Desc& desc) {
        target = Argument(desc);
        arguments.push_back({argument, target.handle()});
    }
    void add_weight(const Desc& wanted, const Desc& ours_desc) {
        weight_argument = arguments.size();
        add(DNNL_ARG_WEIGHTS, inputs[1], wanted);
        reorders = wanted != ours_desc;
        if (reorders) copies = WeightCopies(ours_desc, wanted);
    }
    void bind_weight(const Tensor& weight) {
        if (reorders)
            arguments[weight_argument].memory = copies.find_or_make(weight);
        else
            inputs[1].bind(weight.raw());
    }
    void run() {
        Tensor scratch;
        if (scratch_bytes) {
            scratch = bytes(scratch_bytes);
            scratchpad.bind(scratch.raw());
        }
        execute(primitive, arguments);
    }
};

void build_forward(Plan& plan, const Key& key) {
    const Descriptors d = describe(key);
    const auto pd = forward_descriptor(key, d, attributes_of(key));
    plan.primitive = dnnl::convolution_forward(pd);
    plan.add(DNNL_ARG_SRC, plan.inputs[0], d.src);
    plan.add_weight(pd.weights_desc(), d.our_weights);
    if (key.with_bias) plan.add(DNNL_ARG_BIAS, plan.bias, d.bias);
    plan.add(DNNL_ARG_DST, plan.output, d.dst);
    plan.set_scratchpad(pd);
}

void build_backward_data(Plan& plan, const Key& key) {
    const Descriptors d = describe(key);
    const dnnl::convolution_backward_data::desc desc(dnnl::algorithm::convolution_direct, d.src, d.weights, d.dst,
                                                     d.strides, d.dilates, d.pad_begin, d.pad_end);
    const dnnl::convolution_backward_data::primitive_desc pd(desc, user_scratchpad(), engine(),
                                                             forward_descriptor(key, d, user_scratchpad()));
    plan.primitive = dnnl::convolution_backward_data(pd);
    plan.add(DNNL_ARG_DIFF_DST, plan.inputs[0], d.dst);
    plan.add_weight(pd.weights_desc(), d.our_weights);
    plan.add(DNNL_ARG_DIFF_SRC, plan.output, d.src);
    plan.set_scratchpad(pd);
}

void build_backward_weights(Plan& plan, const Key& key) {
    const Descriptors d = describe(key);
    using Backward = dnnl::convolution_backward_weights;
    const auto direct = dnnl::algorithm::convolution_direct;
    const auto desc = key.with_bias ? Backward::desc(direct, d.src, d.weight_gradient, d.bias, d.dst, d.strides,
                                                     d.dilates, d.pad_begin, d.pad_end)
                                    : Backward::desc(direct, d.src, d.weight_gradient, d.dst, d.strides, d.dilates,
                                                     d.pad_begin, d.pad_end);
    const Backward::primitive_desc pd(desc, user_scratchpad(), engine(), forward_descriptor(key, d, user_scratchpad()));
    plan.primitive = Backward(pd);
    plan.add(DNNL_ARG_SRC, plan.inputs[0], d.src);
    plan.add(DNNL_ARG_DIFF_DST, plan.inputs[1], d.dst);
    if (key.with_bias) plan.add(DNNL_ARG_DIFF_BIAS, plan.bias, d.bias);
    plan.add(DNNL_ARG_DIFF_WEIGHTS, plan.output, pd.diff_weights_desc());
    plan.set_scratchpad(pd);
    if (pd.diff_weights_desc() != d.our_weights) {
        plan.reorders = true;
        plan.ours = Argument(d.our_weights);
        plan.gradient_bytes = pd.diff_weights_desc().get_size();
        plan.reorder_back =
            dnnl::reorder(dnnl::reorder::primitive_desc(engine(), pd.diff_weights_desc(), engine(), d.our_weights));
    }
}

/// `second`: what b holds.
Key key_of(const MatrixProduct& p, DType second, bool with_bias) {
    Conv2dGeometry g{};
    g.batch = p.m;
    g.in_h = p.n;
    g.in_w = p.k;
    g.in_c = p.transpose_a;
    g.out_h = p.transpose_b;
    return {Key::Kind::matrix_product, with_bias, omp_get_max_threads(), g, p.activations, second, p.result, false,
            p.relu};
}

void build_matrix_product(Plan& plan, const Key& key) {
    const std::int64_t m = key.geometry.batch, n = key.geometry.in_h, k = key.geometry.in_w;
    const auto type = activation_type(key.activations, "dense");
    const Dims b_strides = key.geometry.out_h ? Dims{1, k} : Dims{n, 1};
    const Desc a({m, k}, type, key.geometry.in_c ? Dims{1, m} : Dims{k, 1});
    const Desc b({k, n}, type, b_strides), our_b({k, n}, activation_type(key.second, "dense"), b_strides);
    const Desc c({m, n}, activation_type(key.result, "dense"), Dims{n, 1});
    const Desc bias = key.with_bias ? Desc({1, n}, f32, Dims{n, 1}) : Desc();
    const auto desc = key.with_bias ? dnnl::matmul::desc(a, b, bias, c) : dnnl::matmul::desc(a, b, c);
    const dnnl::matmul::primitive_desc pd(desc, attributes_of(key), engine());
    plan.primitive = dnnl::matmul(pd);
    plan.add(DNNL_ARG_SRC, plan.inputs[0], a);
    plan.add_weight(b, our_b);
    if (key.with_bias) plan.add(DNNL_ARG_BIAS, plan.bias, bias);
    plan.add(DNNL_ARG_DST, plan.output, c);
    plan.set_scratchpad(pd);
}

using Plans = std::unordered_map<Key, std::unique_ptr<Plan>, KeyHash>;
Plans& plans() {
    thread_local Plans p;
    return p;
}

/// oneDNN 2 dies of a segmentation fault where the process may map no memory for the code that it generates: asked for
/// first, on behalf of a new plan.
void require_room() {
    constexpr std::size_t room = std::size_t{32} << 20;
    void* const probe = mmap(nullptr, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    require(probe != MAP_FAILED, "out of memory: no room for the code that oneDNN generates");
    munmap(probe, room);
}

Plan& plan_of(const Key& key) {
    Plans& all = plans();
    if (const auto found = all.find(key); found != all.end()) return *found->second;
    require_room();
    if (all.size() >= max_plans) all.clear();
    auto plan = std::make_unique<Plan>();
    switch (key.kind) {
        case Key::Kind::forward:
            build_forward(*plan, key);
            break;
        case Key::Kind::backward_data:
            build_backward_data(*plan, key);
            break;
        case Key::Kind::backward_weights:
            build_backward_weights(*plan, key);
            break;
        case Key::Kind::matrix_product:
            build_matrix_product(*plan, key);
            break;
    }
    plans_created.fetch_add(1, std::memory_order_relaxed);
    return *all.emplace(key, std::move(plan)).first->second;
}

Key key_of(ConvolutionPass pass, const Conv2dGeometry& g, bool with_bias, DType activations) {
    return {static_cast<Key::Kind>(pass), with_bias, omp_get_max_threads(), g, activations};
}

}  // namespace

void convolution_inference(const Conv2dGeometry& g, DType activations, const void* x, const Tensor& weight,
                           const float* bias, bool add_to_output, bool relu, void* y) {
    guarded("conv2d_forward", [&] {
        Key key = key_of(ConvolutionPass::forward, g, bias != nullptr, activations);
        key.add_to_output = add_to_output;
        key.relu = relu;
        Plan& plan = plan_of(key);
        plan.inputs[0].bind(x);
        plan.bind_weight(weight);
        if (bias) plan.bias.bind(bias);
        plan.output.bind(y);
        plan.run();
    });
}

void convolution_backward_data(const Conv2dGeometry& g, DType activations, const void* dy, const Tensor& weight,
                               void* dx) {
    guarded("conv2d_backward_data", [&] {
        Plan& plan = plan_of(key_of(ConvolutionPass::backward_data, g, false, activations));
        plan.inputs[0].bind(dy);
        plan.bind_weight(weight);
        plan.output.bind(dx);
        plan.run();
    });
}

void convolution_backward_weights(const Conv2dGeometry& g, DType activations, const void* x, const void* dy,
                                  float* dweight, float* dbias) {
    guarded("conv2d_backward_weights", [&] {
        Plan& plan = plan_of(key_of(ConvolutionPass::backward_weights, g, dbias != nullptr, activations));
        plan.inputs[0].bind(x);
        plan.inputs[1].bind(dy);
        if (dbias) plan.bias.bind(dbias);
        if (!plan.reorders) {
            plan.output.bind(dweight);
            plan.run();
            return;
        }
        const Tensor gradient = bytes(plan.gradient_bytes);
        plan.output.bind(gradient.raw());
        plan.run();
        plan.ours.bind(dweight);
        const dnnl_exec_arg_t back[] = {{DNNL_ARG_FROM, plan.output.handle()}, {DNNL_ARG_TO, plan.ours.handle()}};
        execute(plan.reorder_back, back);
    });
}

void matrix_product(const MatrixProduct& p, const void* a, const void* b, void* c) {
    guarded("dense", [&] {
        Plan& plan = plan_of(key_of(p, p.activations, false));
        plan.inputs[0].bind(a);
        plan.inputs[1].bind(b);
        plan.output.bind(c);
        plan.run();
    });
}

void weight_product(const MatrixProduct& p, const void* a, const Tensor& weight, const float* bias, void* c) {
    guarded("dense", [&] {
        Plan& plan = plan_of(key_of(p, DType::f32, bias != nullptr));
        plan.inputs[0].bind(a);
        plan.bind_weight(weight);
        if (bias) plan.bias.bind(bias);
        plan.output.bind(c);
        plan.run();
    });
}

std::string convolution_implementation(ConvolutionPass pass, const Conv2dGeometry& g, bool with_bias,
                                       DType activations) {
    return guarded("conv2d", [&] { return plan_of(key_of(pass, g, with_bias, activations)).implementation; });
}

std::uint64_t primitives_created() { return plans_created.load(std::memory_order_relaxed); }

bool multiplies_bf16() {
    switch (dnnl::get_effective_cpu_isa()) {
        case dnnl::cpu_isa::avx512_core_bf16:
        case dnnl::cpu_isa::avx512_core_amx:
        case dnnl::cpu_isa::all:
            return true;
        default:
            return false;
    }
}

bool multiplies_tiles_of_bf16() {
    const dnnl::cpu_isa isa = dnnl::get_effective_cpu_isa();
    return isa == dnnl::cpu_isa::avx512_core_amx || isa == dnnl::cpu_isa::all;
}
std::string instruction_set() { return dnnl_cpu_isa2str(static_cast<dnnl_cpu_isa_t>(dnnl::get_effective_cpu_isa())); }

CacheStats cache_stats() {
    CacheStats stats{.primitives = plans().size(), .weight_bytes = 0, .weight_reorders = weight_reorders};
    for (const auto& [key, plan] : plans()) stats.weight_bytes += plan->copies.held_bytes();
    return stats;
}

}  // namespace bitloom::ops::cpu::onednn
