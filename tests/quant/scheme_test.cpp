// The registry of schemes and lists of them.

#include "quant/scheme.h"

#include <gtest/gtest.h>

#include "models/registry.h"
#include "quant/kernels.h"
#include "tests/quant/kernel_rows.h"

namespace bitloom::quant {
namespace {

/// Doubles every weight once, and remembers its settings.
class Doubling : public Scheme {
   public:
    Doubling(std::string name, std::string json) : name_(std::move(name)), json_(std::move(json)) {}
    std::string name() const override { return name_; }
    std::string configuration() const override { return json_; }
    void attach(Module& network) override {
        for (auto& [path, parameter] : network.named_parameters())
            for (float* p = parameter->value.write<float>(), *end = p + parameter->value.numel(); p != end; ++p) *p *= 2;
    }
    std::string report(Module&) const override { return R"({"doubled": true})"; }

   private:
    std::string name_, json_;
};

void register_doublings() {
    static const bool done = [] {
        for (const std::string name : {"test-first", "test-second"})
            register_scheme({name, "doubles", [name](const std::string& json) {
                                 return std::make_unique<Doubling>(name, json);
                             }});
        return true;
    }();
    static_cast<void>(done);
}

TEST(SchemeRegistry, UnknownNamesAreListed) {
    register_doublings();
    try {
        make_scheme("test-third", "");
        FAIL();
    } catch (const UsageError& error) {
        EXPECT_NE(std::string(error.what()).find("test-first"), std::string::npos) << error.what();
    }
    EXPECT_THROW(register_scheme({"test-first", "", nullptr}), Error);
}

TEST(SchemeList, AttachesInOrderAndRebuildsFromItsRecord) {
    register_doublings();
    const SchemeList list({"test-first", "test-second"}, R"({"test-second": {"a": 1}})");
    EXPECT_EQ(list.configuration(),
              R"([{"scheme":"test-first","configuration":{}},{"scheme":"test-second","configuration":{"a":1}}])");
    EXPECT_EQ(SchemeList::from_configuration(list.configuration()).configuration(), list.configuration());
    const auto network = make_model({.name = "lenet5", .input = {28, 28, 1}, .classes = 10});
    const double before = network->named_parameters()[0].second->value.values<double>()[0];
    list.attach(*network);
    EXPECT_DOUBLE_EQ(network->named_parameters()[0].second->value.values<double>()[0], 4 * before);
    EXPECT_EQ(list.report(*network), R"({"test-first":{"doubled":true},"test-second":{"doubled":true}})");
}

TEST(SchemeList, BadConfigurationsAreUsageErrors) {
    register_doublings();
    EXPECT_THROW(SchemeList({"test-first"}, "{"), UsageError);
    EXPECT_THROW(SchemeList({"test-first"}, "[1]"), UsageError);
    EXPECT_THROW(SchemeList({"test-first", "test-second"}, R"({"other": {}})"), UsageError);
}

TEST(QuantKernels, ReferenceAndCpuAreComplete) {
    for (const Device device : {cpu_device, reference_device})
        for_each_kernel([&](std::string_view name, auto member) { EXPECT_NO_THROW(kernel(device, name, member)); });
    EXPECT_THROW(quant_kernels({DeviceKind::cuda, 0}), Error);
}

TEST(QuantKernels, StayWithinTheirOperands) {
    test::expect_guards_untouched(cpu_quant_kernels(), bsq::cpu_bsq_kernels());
    test::expect_guards_untouched(reference_quant_kernels(), bsq::reference_bsq_kernels());
}

}  // namespace
}  // namespace bitloom::quant
