#include "engine/module.h"

#include <gtest/gtest.h>

#include "engine/graph.h"

namespace bitloom {
namespace {

/// Passes its input on; has a weight and a buffer.
class Leaf final : public Module {
   public:
    Leaf() {
        weight.value = Tensor::full({2}, 1);
        moving = Tensor::zeros({1});
        register_parameter("weight", weight);
        register_parameter("bias", no_bias);
        register_buffer("moving", moving);
    }
    std::string_view type() const override { return "Leaf"; }
    Parameter weight, no_bias;
    Tensor moving;
    int calls = 0;

   protected:
    Var forward(Context&, std::span<const Var> inputs) override {
        ++calls;
        return inputs[0];
    }
};

class Join final : public Module {
   public:
    std::string_view type() const override { return "Join"; }

   protected:
    Var forward(Context&, std::span<const Var> inputs) override { return inputs[0]; }
};

class Net final : public Module {
   public:
    Net() : a(add<Leaf>("a")), b(add<Leaf>("b")), join(add<Join>("join")) { assign_paths(); }
    std::string_view type() const override { return "Net"; }
    Leaf &a, &b;
    Join& join;

   protected:
    Var forward(Context& c, std::span<const Var> in) override {
        Var x = a(c, in[0]);
        Var y = b(c, x);
        return join(c, {y, x});
    }
};

Tensor run(Net& net) {
    Tape tape(Tape::Mode::inference);
    Context context{tape};
    return net(context, tape.input(Tensor::full({2}, 7))).value();
}

TEST(Module, NamesPathsAndLookups) {
    Net net;
    const auto parameters = net.named_parameters();
    ASSERT_EQ(parameters.size(), 2u) << "an undefined bias is not a parameter";
    EXPECT_EQ(parameters[0].first, "a.weight");
    EXPECT_EQ(parameters[1].first, "b.weight");
    EXPECT_EQ(net.a.weight.path, "a.weight");
    EXPECT_EQ(net.named_buffers()[1].first, "b.moving");
    EXPECT_EQ(&net.at("b"), &net.b);
    EXPECT_EQ(net.parameter_count(), 4);
    EXPECT_THROW(net.at("c"), Error);
    EXPECT_THROW(net.at("a.x"), Error);
}

TEST(Module, ConvertsStateBetweenTypesAndDevices) {
    Net net;
    net.to(DType::f64);
    net.to(reference_device);
    EXPECT_EQ(net.a.weight.value.dtype(), DType::f64);
    EXPECT_EQ(net.b.moving.device(), reference_device);
}

TEST(Graph, ListsCallsWithEdgesThroughIdentityModules) {
    Net net;
    const Graph graph = Graph::trace(net, {2});
    ASSERT_EQ(graph.calls().size(), 3u);
    EXPECT_EQ(graph.at("a").inputs, (std::vector<int>{-1}));
    EXPECT_EQ(graph.at("b").inputs, (std::vector<int>{0}));
    EXPECT_EQ(graph.at("join").inputs, (std::vector<int>{1, 0}));
    EXPECT_EQ(graph.consumers(0), (std::vector<int>{1, 2}));
    EXPECT_NE(graph.to_string().find("join"), std::string::npos);
    EXPECT_THROW(graph.at("nowhere"), Error);
}

/// Replaces by a constant and counts.
class Constant final : public ActivationTransform {
   public:
    explicit Constant(double value) : value_(value) {}
    std::string_view name() const override { return "constant"; }
    TransformState state() override { return {{{"alpha", &alpha}}, {}}; }
    Var apply(Context& context, Module&, const Var& x) override {
        return context.tape.constant(Tensor::full(x.shape(), value_));
    }
    Parameter alpha{Tensor::full({1}, 10)};

   private:
    double value_;
};
class Skip final : public LayerTransform {
   public:
    std::string_view name() const override { return "skip"; }
    Var forward(Context& context, Module&, std::span<const Var> in) override {
        return context.tape.constant(Tensor::full(in[0].shape(), 99));
    }
};

TEST(Module, HooksReplaceForwardOrFollowIt) {
    Net net;
    EXPECT_EQ(run(net).values<float>()[0], 7);
    net.b.activation_transform = std::make_shared<Constant>(5);
    EXPECT_EQ(run(net).values<float>()[0], 5);
    EXPECT_EQ(net.b.calls, 1) << "the replaced forward does not run";
    net.join.output_transform = std::make_shared<Constant>(6);
    EXPECT_EQ(run(net).values<float>()[0], 6);
    EXPECT_EQ(net.named_parameters()[2].first, "b.constant.alpha");
    EXPECT_EQ(net.named_parameters()[3].first, "join.output.constant.alpha");
    net.join.output_transform = nullptr;
    net.b.layer_transform = std::make_shared<Skip>();
    EXPECT_EQ(run(net).values<float>()[0], 99);
    EXPECT_TRUE(net.b.has_hooks());
}

}  // namespace
}  // namespace bitloom
