#pragma once
// Module: a node of the network tree, with named parameters, buffers and children.

#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/context.h"
#include "engine/parameter.h"

namespace bitloom {

/// Base of layers (leaves, which compute) and containers (which compose). Every operation between layers that a tool may
/// want to see (add, concat, flatten) is itself a leaf module, so that one traced pass shows the whole network.
class Module {
   public:
    Module() = default;
    virtual ~Module() = default;
    Module(const Module&) = delete;
    Module& operator=(const Module&) = delete;

    /// Runs the module with its hooks: layer transform or activation replacement, forward, output transform, observer.
    Var operator()(Context& context, const Var& x) { return call(context, std::span<const Var>(&x, 1)); }
    Var operator()(Context& context, std::initializer_list<Var> inputs) {
        return call(context, std::span<const Var>(inputs.begin(), inputs.size()));
    }
    Var operator()(Context& context, std::span<const Var> inputs) { return call(context, inputs); }

    /// Class name in the field's terms: "Conv2d", "BatchNorm2d", ...
    virtual std::string_view type() const = 0;
    /// Dotted path from the root; empty for the root. Set by assign_paths.
    const std::string& path() const { return path_; }
    bool is_leaf() const { return children_.empty(); }
    const std::vector<std::pair<std::string, Module*>>& children() const { return children_; }
    /// The descendant at a dotted path. Throws Error naming the path where there is none.
    Module& at(std::string_view path);

    /// Depth-first, in order of registration; transforms' own leaves and buffers included, as `<path>.<transform>.<state>`.
    std::vector<std::pair<std::string, Parameter*>> named_parameters();
    std::vector<std::pair<std::string, Tensor*>> named_buffers();
    /// This module and all below it, depth-first.
    std::vector<Module*> modules();
    std::int64_t parameter_count();
    /// Moves parameters, buffers and transforms' state; gradients are dropped.
    void to(Device device);
    void to(DType dtype);
    /// Writes dotted paths into the tree; called once on a finished network (and again after its structure changes).
    void assign_paths(const std::string& prefix = "");

    // Hooks that schemes set. Each is null by default.
    std::shared_ptr<LayerTransform> layer_transform;            ///< replaces forward
    std::shared_ptr<ActivationTransform> activation_transform;  ///< replaces forward of an activation module
    std::shared_ptr<ActivationTransform> output_transform;      ///< applied to the output
    /// True where any of the three is set: fused paths then give way to the plain one.
    bool has_hooks() const { return layer_transform || activation_transform || output_transform; }

   protected:
    virtual Var forward(Context& context, std::span<const Var> inputs) = 0;

    /// Names a parameter or buffer that is a member of the derived class. An undefined parameter (no bias) is skipped.
    void register_parameter(std::string name, Parameter& parameter);
    void register_buffer(std::string name, Tensor& buffer);
    void register_child(std::string name, Module& child);
    /// Constructs a child that the module owns.
    template <class M, class... Args>
    M& add(std::string name, Args&&... args) {
        auto child = std::make_unique<M>(std::forward<Args>(args)...);
        M& reference = *child;
        owned_.push_back(std::move(child));
        register_child(std::move(name), reference);
        return reference;
    }
    Module& adopt(std::string name, std::unique_ptr<Module> child);

   private:
    Var call(Context& context, std::span<const Var> inputs);
    template <class F>
    void visit_state(const std::string& prefix, F&& f);

    std::string path_;
    std::vector<std::pair<std::string, Parameter*>> parameters_;
    std::vector<std::pair<std::string, Tensor*>> buffers_;
    std::vector<std::pair<std::string, Module*>> children_;
    std::vector<std::unique_ptr<Module>> owned_;
};

}  // namespace bitloom
