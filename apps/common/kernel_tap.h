#pragma once
// Kernel tables that listen: a table of the same type whose entries hand each call, before it runs, to an observer.

#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "engine/kernel_list.h"
#include "ops/kernels.h"
#include "quant/bsq/kernels.h"
#include "quant/kernels.h"

namespace bitloom {

/// Where a table's kernels are listed, found and registered.
template <class Table>
struct KernelTable;
template <>
struct KernelTable<ops::OpKernels> {
    static constexpr const auto& list = ops::op_kernel_list;
    static const ops::OpKernels& of(Device device) { return ops::op_kernels(device); }
    static void install(DeviceKind kind, const ops::OpKernels& table) { ops::register_op_kernels(kind, table); }
};
template <>
struct KernelTable<quant::QuantKernels> {
    static constexpr const auto& list = quant::quant_kernel_list;
    static const quant::QuantKernels& of(Device device) { return quant::quant_kernels(device); }
    static void install(DeviceKind kind, const quant::QuantKernels& table) {
        quant::register_quant_kernels(kind, table);
    }
};

template <>
struct KernelTable<bsq::BsqKernels> {
    static constexpr const auto& list = bsq::bsq_kernel_list;
    static const bsq::BsqKernels& of(Device device) { return bsq::bsq_kernels(device); }
    static void install(DeviceKind kind, const bsq::BsqKernels& table) { bsq::register_bsq_kernels(kind, table); }
};

/// How a call is repeated elsewhere: its inputs moved there, floating-point ones in `dtype` (where that is not u8) and
/// filled with small integers where `integers` says so.
struct Replay {
    Device device;
    DType dtype = DType::u8;
    bool integers = false;
};

/// The copy of an argument that a replay gets. Outputs (mutable tensors) are filled with a value that a kernel which
/// writes all of them leaves nowhere.
Tensor replayed_input(const Tensor& original, const Replay& replay);
Tensor replayed_output(const Tensor& original, const Replay& replay);

template <class A>
class ReplayedArgument {
   public:
    ReplayedArgument(const std::remove_reference_t<A>& original, const Replay&) : value_(original) {}
    A get() { return value_; }
    const Tensor* output() const { return nullptr; }

   private:
    std::remove_cvref_t<A> value_;
};
template <>
class ReplayedArgument<const Tensor&> {
   public:
    ReplayedArgument(const Tensor& original, const Replay& replay) : tensor_(replayed_input(original, replay)) {}
    const Tensor& get() { return tensor_; }
    const Tensor* output() const { return nullptr; }

   private:
    Tensor tensor_;
};
template <>
class ReplayedArgument<const Tensor*> {
   public:
    ReplayedArgument(const Tensor* original, const Replay& replay) {
        if (original) tensor_ = replayed_input(*original, replay);
    }
    const Tensor* get() { return tensor_ ? &*tensor_ : nullptr; }
    const Tensor* output() const { return nullptr; }

   private:
    std::optional<Tensor> tensor_;
};
template <>
class ReplayedArgument<Tensor&> {
   public:
    ReplayedArgument(Tensor& original, const Replay& replay) : tensor_(replayed_output(original, replay)) {}
    Tensor& get() { return tensor_; }
    const Tensor* output() const { return &tensor_; }

   private:
    Tensor tensor_;
};
template <>
class ReplayedArgument<Tensor*> {
   public:
    ReplayedArgument(Tensor* original, const Replay& replay) {
        if (original) tensor_ = replayed_output(*original, replay);
    }
    Tensor* get() { return tensor_ ? &*tensor_ : nullptr; }
    const Tensor* output() const { return tensor_ ? &*tensor_ : nullptr; }

   private:
    std::optional<Tensor> tensor_;
};

/// Sums of squares, doubles in memory of the device.
template <>
class ReplayedArgument<std::span<const bsq::GroupNorms>> {
   public:
    ReplayedArgument(std::span<const bsq::GroupNorms> original, const Replay& replay) : rows_(original.begin(), original.end()) {
        for (const bsq::GroupNorms& row : rows_) sums_.push_back(row.sums->to(cpu_device).to(replay.device));
    }
    std::span<const bsq::GroupNorms> get() {
        for (std::size_t i = 0; i < rows_.size(); ++i) rows_[i].sums = &sums_[i];
        return rows_;
    }
    const Tensor* output() const { return nullptr; }

   private:
    std::vector<bsq::GroupNorms> rows_;
    std::vector<Tensor> sums_;
};
template <>
class ReplayedArgument<const bsq::GroupNorms*> {
   public:
    ReplayedArgument(const bsq::GroupNorms* original, const Replay& replay)
        : rows_(original ? std::span(original, 1) : std::span<const bsq::GroupNorms>(), replay) {}
    const bsq::GroupNorms* get() { return rows_.get().empty() ? nullptr : rows_.get().data(); }
    const Tensor* output() const { return nullptr; }

   private:
    ReplayedArgument<std::span<const bsq::GroupNorms>> rows_;
};

/// One call of a kernel, seen before it runs.
struct KernelCall {
    std::string_view name;
    std::vector<const Tensor*> inputs, outputs;
    const ops::Conv2dGeometry* convolution = nullptr;
    std::optional<ops::UnaryOp> unary;
    /// Repeats the call as `replay` says, `times` times, and returns its outputs. `each` runs after every repetition.
    std::function<std::vector<Tensor>(const Replay& replay, int times, const std::function<void()>& each)> replay;
    /// Whether the device has the kernel.
    std::function<bool(Device)> exists;
};
using KernelObserver = std::function<void(const KernelCall&)>;

/// While it lives, the kernels of `Table` on `kind` report to the observer. One at a time for each table; not for
/// programs that run networks on several threads.
template <class Table>
class KernelTap {
   public:
    KernelTap(Device device, KernelObserver observer)
        : device_(device), real_(KernelTable<Table>::of(device)), listening_(real_) {
        active() = this;
        observer_ = std::move(observer);
        fill(std::make_index_sequence<std::tuple_size_v<std::remove_cvref_t<decltype(KernelTable<Table>::list)>>>{});
        KernelTable<Table>::install(device.kind, listening_);
    }
    ~KernelTap() {
        KernelTable<Table>::install(device_.kind, real_);
        active() = nullptr;
    }
    KernelTap(const KernelTap&) = delete;
    KernelTap& operator=(const KernelTap&) = delete;

   private:
    static KernelTap*& active() {
        static KernelTap* tap = nullptr;
        return tap;
    }

    template <std::size_t I, class Member>
    struct Entry;
    template <std::size_t I, class... A>
    struct Entry<I, void (*Table::*)(A...)> {
        static void call(A... arguments) {
            KernelTap& tap = *active();
            constexpr const auto& entry = std::get<I>(KernelTable<Table>::list);
            KernelCall seen;
            seen.name = entry.name;
            (note(seen, arguments), ...);
            seen.exists = [](Device device) { return KernelTable<Table>::of(device).*entry.member != nullptr; };
            seen.replay = [&](const Replay& replay, int times, const std::function<void()>& each) {
                // The table that stands for the tapped kind is this one.
                const Table& table =
                    replay.device.kind == tap.device_.kind ? tap.real_ : KernelTable<Table>::of(replay.device);
                std::tuple<ReplayedArgument<A>...> copies{ReplayedArgument<A>(arguments, replay)...};
                return std::apply(
                    [&](auto&... copy) {
                        for (int t = 0; t < times; ++t) {
                            (table.*entry.member)(copy.get()...);
                            each();
                        }
                        std::vector<Tensor> outputs;
                        const auto keep = [&](const Tensor* output) {
                            if (output) outputs.push_back(*output);
                        };
                        (keep(copy.output()), ...);
                        return outputs;
                    },
                    copies);
            };
            tap.observer_(seen);
            (tap.real_.*entry.member)(arguments...);
        }
        static void note(KernelCall& seen, const Tensor& input) { seen.inputs.push_back(&input); }
        static void note(KernelCall& seen, Tensor& output) { seen.outputs.push_back(&output); }
        static void note(KernelCall& seen, const Tensor* input) {
            if (input) seen.inputs.push_back(input);
        }
        static void note(KernelCall& seen, Tensor* output) {
            if (output) seen.outputs.push_back(output);
        }
        static void note(KernelCall& seen, const ops::Conv2dGeometry& g) { seen.convolution = &g; }
        static void note(KernelCall& seen, ops::UnaryOp op) { seen.unary = op; }
        template <class Other>
        static void note(KernelCall&, const Other&) {}
    };

    template <std::size_t I>
    void set() {
        constexpr auto entry = std::get<I>(KernelTable<Table>::list);
        if (real_.*entry.member)
            listening_.*entry.member = &Entry<I, std::remove_cvref_t<decltype(entry.member)>>::call;
    }
    template <std::size_t... I>
    void fill(std::index_sequence<I...>) {
        (set<I>(), ...);
    }

    Device device_;
    const Table& real_;
    Table listening_;
    KernelObserver observer_;
};

}  // namespace bitloom
