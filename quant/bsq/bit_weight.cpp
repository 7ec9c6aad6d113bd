#include "quant/bsq/bit_weight.h"

#include <algorithm>

#include "engine/step_capture.h"
#include "ops/kernels.h"

namespace bitloom::bsq {

namespace {

Tensor one(float value, Device device) { return Tensor::full({1}, value, DType::f32, device); }

const char* name_of(Representation representation) {
    switch (representation) {
        case Representation::floating: return "floating point";
        case Representation::bits: return "bit planes";
        case Representation::fixed: return "fixed precision";
    }
    return "";
}

}  // namespace

std::function<void(Parameter&)> clamped_to(double low, double high) {
    return [low, high](Parameter& parameter) {
        Tensor& value = parameter.value;
        ops::kernel(value.device(), "unary_forward", &ops::OpKernels::unary_forward)(ops::UnaryOp::clamp, low, high,
                                                                                     value, value);
    };
}

TransformState BitWeight::state() {
    switch (representation_) {
        case Representation::floating: return {};
        case Representation::bits: return {{{"planes", &planes_}, {"scale", &scale_}}, {}};
        case Representation::fixed: return {{{"scale", &scale_}}, {}};
    }
    return {};
}

Var BitWeight::apply(Context& context, Parameter&, const Var& weight) {
    return representation_ == Representation::bits ? apply_bits(context, weight) : apply_fixed(context, weight);
}

/// One storage from step to step: what convolutions keep of a weight (reordered copies) is kept under its identity.
Tensor BitWeight::output_like(const Tensor& weight) {
    if (step_is_being_captured()) return Tensor::empty_like(weight);
    const bool fits = output_.defined() && output_.unique() && output_.shape() == weight.shape() &&
                      output_.dtype() == weight.dtype() && output_.device() == weight.device();
    if (!fits) output_ = Tensor::empty_like(weight);
    return output_;
}

Var BitWeight::apply_bits(Context& context, const Var& weight) {
    const Var planes = context.tape.leaf(planes_), scale = context.tape.leaf(scale_);
    const QuantizationRule rule{bits_, zero_, forward_clamp_};
    const Device device = planes.device();
    Tensor value = output_like(weight.value());
    const bool measure = measured_ && context.tape.wants_node({planes});
    if (measure) make_norms();
    kernel(device, "planes_to_weights", &BsqKernels::planes_to_weights)(rule, planes.value(), scale.value(), value,
                                                                        measure ? &norms_ : nullptr);
    norms_current_ = measure;
    return context.tape.record(
        "bit_planes", {planes, scale}, std::move(value),
        [this, rule, planes = planes.value(), scale = scale.value()](BackwardContext& c) {
            // A regulariser's gradient waits for the first backward of these planes in the pass.
            const Tensor dnorm = std::exchange(norm_gradient_, Tensor());
            const GroupNorms norms{&norms_, norm_coefficient_};
            Tensor dplanes = Tensor::empty_like(planes), dscale = Tensor::empty_like(scale);
            kernel(planes.device(), "planes_backward", &BsqKernels::planes_backward)(
                rule, planes, scale, c.grad(), dnorm.defined() ? &norms : nullptr, dnorm.defined() ? &dnorm : nullptr,
                dplanes, dscale);
            c.give(0, std::move(dplanes));
            c.give(1, std::move(dscale));
        });
}

Var BitWeight::apply_fixed(Context& context, const Var& weight) {
    if (left_out_) return context.tape.constant(Tensor::zeros_like(weight.value()));
    const Var scale = context.tape.leaf(scale_);
    const QuantizationRule rule{bits_, zero_, true};
    Tensor value = output_like(weight.value());
    kernel(weight.device(), "fixed_to_weights", &BsqKernels::fixed_to_weights)(rule, weight.value(), scale.value(), value);
    return context.tape.record("fixed_precision", {weight, scale}, std::move(value),
                               [rule, x = weight.value(), scale = scale.value()](BackwardContext& c) {
                                   Tensor dx = Tensor::empty_like(x), dscale = Tensor::empty_like(scale);
                                   kernel(x.device(), "fixed_backward", &BsqKernels::fixed_backward)(
                                       rule, x, scale, c.grad(), dx, dscale);
                                   c.give(0, std::move(dx));
                                   c.give(1, std::move(dscale));
                               });
}

void BitWeight::require_representation(Representation wanted, const char* what) const {
    require(representation_ == wanted, parameter_.path, ": ", what, " needs ", name_of(wanted), ", it is in ",
            name_of(representation_));
}

/// Enters the representation: hooks, projections, and which leaves train.
void BitWeight::attach(Representation representation) {
    representation_ = representation;
    parameter_.detach();
    parameter_.projection = nullptr;
    parameter_.grad = planes_.grad = scale_.grad = Tensor();
    parameter_.trainable = representation != Representation::bits;
    planes_.path = parameter_.path + ".bsq.planes";
    scale_.path = parameter_.path + ".bsq.scale";
    if (representation == Representation::floating) return;
    parameter_.transforms.push_back(shared_from_this());
    if (representation == Representation::bits)
        planes_.projection = clamped_to(0, 2);
    else
        parameter_.projection = clamped_to(-1, 1);
}

Tensor BitWeight::host_values() const {
    const Tensor values = parameter_.value.to(cpu_device);
    return values.to(DType::f32);
}

void BitWeight::to_bits(int bits) {
    require_representation(Representation::floating, "the conversion to bits");
    set(bsq::to_bits(host_values(), bits));
}

void BitWeight::set(const BitTensor& tensor) {
    require(tensor.shape() == parameter_.value.shape(), parameter_.path, ": planes of ", tensor.shape(),
            " do not fit the shape ", parameter_.value.shape());
    const Device device = parameter_.value.device();
    planes_.value = tensor.planes.to(device);
    scale_.value = one(tensor.scale, device);
    bits_ = tensor.bits();
    has_precision_ = true;
    zero_ = tensor.zero;
    norms_current_ = false;
    if (representation_ != Representation::bits) attach(Representation::bits);
}

void BitWeight::set_fixed(const Tensor& normalized, float scale, int bits) {
    require(normalized.shape() == parameter_.value.shape(), parameter_.path, ": values of ", normalized.shape(),
            " do not fit the shape ", parameter_.value.shape());
    require(bits >= 0 && bits <= max_bits, parameter_.path, ": a precision of ", bits, " bits is not in 0..", max_bits);
    const Device device = parameter_.value.device();
    parameter_.value.copy_from(normalized);
    scale_.value = one(scale, device);
    bits_ = bits;
    has_precision_ = true;
    zero_ = false;
    planes_.value = Tensor();
    attach(Representation::fixed);
}

BitTensor BitWeight::bit_tensor() const {
    require_representation(Representation::bits, "reading planes");
    return {planes_.value.to(cpu_device), static_cast<float>(scale_.value.item()), zero_};
}

bool BitWeight::all_zero() const {
    if (representation_ == Representation::bits) return zero_ || bsq::all_zero(bit_tensor());
    if (representation_ == Representation::fixed && (bits_ == 0 || zero_)) return true;
    const std::vector<float> values = parameter_.value.values<float>();
    return std::all_of(values.begin(), values.end(), [](float v) { return v == 0; });
}

void BitWeight::to_float() {
    const BitTensor tensor = bit_tensor();
    const bool nothing = tensor.bits() == 1 && bsq::all_zero(tensor);
    parameter_.value.copy_from(to_values(tensor));
    planes_.value = scale_.value = Tensor();
    bits_ = nothing ? 0 : tensor.bits();
    zero_ = false;
    attach(Representation::floating);
}

void BitWeight::to_fixed() {
    const BitTensor tensor = bit_tensor();
    set_fixed(normalized(tensor), tensor.scale, tensor.bits() == 1 && bsq::all_zero(tensor) ? 0 : tensor.bits());
    zero_ = tensor.zero;
}

void BitWeight::fixed_to_bits() {
    require_representation(Representation::fixed, "the conversion from fixed precision");
    BitTensor tensor = normalized_to_bits(host_values(), static_cast<float>(scale_.value.item()), bits_);
    tensor.zero = tensor.zero || zero_;
    set(tensor);
}

void BitWeight::set_bits(int bits) {
    require(bits >= 0 && bits <= max_bits, parameter_.path, ": a precision of ", bits, " bits is not in 0..", max_bits);
    if (representation_ == Representation::bits) {
        if (bits != bits_) {
            require(bits >= 1 && bits <= bits_, parameter_.path, ": ", bits_, " planes cannot be cut to ", bits);
            set(first_planes(bit_tensor(), bits));
        }
        return;
    }
    bits_ = bits;
    has_precision_ = true;
}

void BitWeight::reshape_for(Representation representation, int bits, bool zero) {
    if (representation == Representation::bits) {
        BitTensor tensor = normalized_to_bits(Tensor::zeros(parameter_.value.shape()), 1, bits);
        tensor.zero = zero;
        set(tensor);
    } else if (representation == Representation::fixed) {
        set_fixed(Tensor::zeros(parameter_.value.shape()), 1, bits);
        zero_ = zero;
    }
}

/// Memory that stays as long as the planes do: a captured step writes it.
void BitWeight::make_norms() {
    const Device device = planes_.value.device();
    if (!norms_.defined() || norms_.numel() != bits_ || norms_.device() != device)
        norms_ = Tensor::empty({bits_}, DType::f64, device);
}

const Tensor& BitWeight::norms() {
    if (!norms_current_) {
        make_norms();
        kernel(planes_.value.device(), "plane_norms", &BsqKernels::plane_norms)(planes_.value, norms_);
    }
    norms_current_ = false;  // planes may change before the next call
    return norms_;
}

void BitWeight::give_norm_gradient(Tensor gradient, double coefficient) {
    norm_gradient_ = std::move(gradient);
    norm_coefficient_ = coefficient;
}

}  // namespace bitloom::bsq
