#include "engine/tape.h"

#include <gtest/gtest.h>

#include "engine/context.h"
#include "engine/kernels.h"
#include "engine/parameter.h"

namespace bitloom {
namespace {

/// y = a * b element by element, on one-element f64 tensors, so that the tape can be tested without ops/.
Var multiply(const Var& a, const Var& b, int* backward_calls = nullptr) {
    const double x = a.value().item(), y = b.value().item();
    return a.tape().record("multiply", {a, b}, Tensor::from<double>({1}, {x * y}), [=](BackwardContext& c) {
        if (backward_calls) ++*backward_calls;
        const double g = c.grad().item();
        if (c.needs(0)) c.give(0, Tensor::from<double>({1}, {g * y}));
        if (c.needs(1)) c.give(1, Tensor::from<double>({1}, {g * x}));
    });
}
/// y = a + b, whose backward hands one gradient tensor to both inputs.
Var add(const Var& a, const Var& b) {
    return a.tape().record("add", {a, b}, Tensor::from<double>({1}, {a.value().item() + b.value().item()}),
                           [](BackwardContext& c) { c.give(0, c.grad()), c.give(1, c.grad()); });
}
Tensor number(double value) { return Tensor::from<double>({1}, {value}); }

TEST(Tape, ChainRuleAndSharedInputs) {
    Tape tape;
    Var x = tape.input(number(3), true), y = tape.input(number(4), true);
    Var z = add(multiply(x, y), multiply(x, x));  // xy + x^2
    tape.backward(z);
    EXPECT_EQ(tape.grad(x).item(), 4 + 2 * 3);
    EXPECT_EQ(tape.grad(y).item(), 3);
}

TEST(Tape, OneGradientTensorGivenTwiceIsNotOverwritten) {
    Tape tape;
    Var x = tape.input(number(3), true), y = tape.input(number(5), true);
    Var s = add(x, y);            // both get the same tensor
    Var t = add(s, multiply(x, y));  // and x, y get a second gradient on top
    tape.backward(t);
    EXPECT_EQ(tape.grad(x).item(), 1 + 5);
    EXPECT_EQ(tape.grad(y).item(), 1 + 3);
}

TEST(Tape, ConstantsRecordNothingAndSkipWork) {
    Tape tape;
    int calls = 0;
    Var c = tape.constant(number(2)), d = tape.input(number(3));
    Var e = multiply(c, d, &calls);
    EXPECT_EQ(tape.node_count(), 0);
    EXPECT_FALSE(e.requires_grad());
    EXPECT_THROW(tape.backward(e), Error);
    EXPECT_EQ(calls, 0);
}

TEST(Tape, DeadBranchesAreNotRun) {
    Tape tape;
    int calls = 0;
    Var x = tape.input(number(2), true);
    multiply(x, x, &calls);
    Var y = multiply(x, x);
    tape.backward(y);
    EXPECT_EQ(calls, 0);
    EXPECT_EQ(tape.grad(x).item(), 4);
}

TEST(Tape, InferenceRecordsNothing) {
    Tape tape(Tape::Mode::inference);
    Parameter p(number(3));
    Var y = multiply(tape.leaf(p), tape.input(number(2), true));
    EXPECT_EQ(tape.node_count(), 0);
    EXPECT_EQ(y.value().item(), 6);
}

TEST(Tape, ParametersReceiveGradientsOverwrittenOrAccumulated) {
    Parameter p(number(3));
    Tape tape;
    for (int i = 0; i < 2; ++i) {
        tape.reset();
        tape.backward(multiply(tape.leaf(p), tape.leaf(p)));
        EXPECT_EQ(p.grad.item(), 6);
    }
    tape.reset();
    tape.backward(multiply(tape.leaf(p), tape.leaf(p)), {}, true);
    EXPECT_EQ(p.grad.item(), 12);
    p.trainable = false;
    tape.reset();
    EXPECT_FALSE(tape.leaf(p).requires_grad());
}

TEST(Tape, SeedAndItsShape) {
    Tape tape;
    Var x = tape.input(number(3), true);
    Var y = multiply(x, x);
    EXPECT_THROW(tape.backward(y, Tensor::zeros({2}, DType::f64)), Error);
    tape.backward(y, number(10));
    EXPECT_EQ(tape.grad(x).item(), 60);
}

TEST(Tape, BackwardFreesWhatNodesSaved) {
    Tape tape;
    Tensor saved = number(1);
    Var x = tape.input(number(3), true);
    Var y = tape.record("hold", {x}, number(3), [saved](BackwardContext& c) { c.give(0, c.grad()); });
    EXPECT_FALSE(saved.unique());
    tape.backward(y);
    EXPECT_TRUE(saved.unique());
    tape.record("hold", {x}, number(3), [saved](BackwardContext&) {});
    tape.reset();
    EXPECT_TRUE(saved.unique()) << "reset frees what was never run";
}

TEST(Tape, ManyNodesSpillOverArenaChunks) {
    Tape tape;
    for (int round = 0; round < 3; ++round) {
        tape.reset();
        Var x = tape.input(number(1), true), y = x;
        for (int i = 0; i < 5000; ++i) y = add(y, x);
        tape.backward(y);
        EXPECT_EQ(tape.grad(x).item(), 5001);
    }
}

/// Doubles its input; counts applications, so that caching shows.
class Doubling final : public WeightTransform {
   public:
    std::string_view name() const override { return "doubling"; }
    TransformState state() override { return {{{"gain", &gain}}, {}}; }
    Var apply(Context& context, Parameter&, const Var& w) override {
        ++applications;
        return multiply(w, context.tape.leaf(gain));
    }
    Parameter gain{number(2)};
    int applications = 0;
};

TEST(Parameter, TransformsChainOnTheTapeAndTrainTheirOwnLeaves) {
    Parameter p(number(3));
    auto doubling = std::make_shared<Doubling>();
    p.transforms = {doubling, doubling};
    Tape tape;
    Context context{tape};
    Var w = p.effective(context);
    EXPECT_EQ(w.value().item(), 12);
    tape.backward(w);
    EXPECT_EQ(p.grad.item(), 4);
    EXPECT_EQ(doubling->gain.grad.item(), 3 * 2 + 6);
}

TEST(Parameter, ATapeWhereAnotherOneLayKnowsNothingOfItsLeaves) {
    Parameter p(number(3));
    for (int pass = 0; pass < 3; ++pass) {
        Tape tape;  // at one address every time
        const Var x = tape.input(number(5), pass == 1);
        tape.backward(multiply(x, tape.leaf(p)));
        EXPECT_EQ(p.grad.item(), 5);
    }
}

TEST(Parameter, EffectiveValueIsCachedUnderVersionsInInference) {
    Parameter p(number(3));
    auto doubling = std::make_shared<Doubling>();
    p.transforms = {doubling};
    Tape tape(Tape::Mode::inference);
    Context context{tape};
    EXPECT_EQ(p.effective(context).value().item(), 6);
    EXPECT_EQ(p.effective(context).value().item(), 6);
    EXPECT_EQ(doubling->applications, 1);
    p.value.fill(5);
    EXPECT_EQ(p.effective(context).value().item(), 10);
    doubling->gain.value.fill(3);
    EXPECT_EQ(p.effective(context).value().item(), 15);
    EXPECT_EQ(doubling->applications, 3);
}

}  // namespace
}  // namespace bitloom
