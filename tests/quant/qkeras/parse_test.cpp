// Quantizers as text, both ways, and what is refused.

#include "quant/qkeras/parse.h"

#include <gtest/gtest.h>

#include "engine/random.h"

namespace bitloom::quant::qkeras {
namespace {

TEST(ParseQuantizer, ReadsAndPrints) {
    const std::vector<std::pair<std::string, std::string>> pairs{
        {"quantized_bits(4,0,1,alpha=1)", "quantized_bits(4,0,1,alpha=1)"},
        {"quantized_bits(4, 0, alpha=1.0)", "quantized_bits(4,0,0,alpha=1)"},
        {"quantized_bits(bits=4,integer=0,alpha=\"auto_po2\")", "quantized_bits(4,0,0,alpha='auto_po2')"},
        {"quantized_bits()", "quantized_bits(8,0,0)"},
        {"quantized_bits", "quantized_bits(8,0,0)"},
        {"quantized_bits(4,0,1,False)", "quantized_bits(4,0,1,keep_negative=False)"},
        {"quantized_bits(4,0,alpha='auto_po2',scale_axis=[1, 2],elements_per_scale=2,min_po2_exponent=-2,max_po2_exponent=0)",
         "quantized_bits(4,0,0,alpha='auto_po2',scale_axis=[1,2],elements_per_scale=2,min_po2_exponent=-2,max_po2_exponent=0)"},
        {"quantized_relu(4,2)", "quantized_relu(4,2)"},
        {"quantized_relu(6,2,1,0.125)", "quantized_relu(6,2,use_sigmoid=True,negative_slope=0.125)"},
        {"binary(alpha='auto_po2')", "binary(alpha='auto_po2')"},
        {" ternary ( threshold = 0.25 ) ", "ternary(threshold=0.25)"},
        {"quantized_po2(4,max_value=8)", "quantized_po2(4,max_value=8)"},
        {"quantized_relu_po2(6,None,quadratic_approximation=True)", "quantized_relu_po2(6,quadratic_approximation=True)"},
        {"stochastic_ternary(alpha='auto')", "stochastic_ternary(alpha='auto')"},
        {"quantized_linear(8,1)", "quantized_linear(8,1,1)"},
        {"hard_tanh", "hard_tanh()"},
        {"quantized_relu(10,2,enable_fast_inference=True)", "quantized_relu(10,2)"},
    };
    for (const auto& [text, printed] : pairs) {
        const Quantizer q = parse_quantizer(text);
        EXPECT_EQ(to_string(q), printed) << text;
        EXPECT_EQ(parse_quantizer(printed), q) << text;
    }
}

TEST(ParseQuantizer, RefusesInOneLine) {
    const std::vector<std::pair<std::string, std::string>> cases{
        {"quantised_bits(4)", "perhaps quantized_bits"},
        {"nonsense(4)", "unknown quantizer 'nonsense'"},
        {"quantized_bits(4,0", "unbalanced parentheses"},
        {"quantized_bits(4,", "unbalanced parentheses"},
        {"quantized_bits(", "unbalanced parentheses"},
        {"quantized_bits(4))", "unbalanced parentheses"},
        {"quantized_bits(0)", "bits must be 1 to 32, got 0"},
        {"quantized_relu(0,0)", "bits must be 1"},
        {"quantized_bits(-3)", "bits must be"},
        {"quantized_bits(3.5)", "bits must be an integer"},
        {"quantized_bits(nan)", "cannot read 'nan'"},
        {"quantized_bits(1e400)", "needs a value"},
        {"quantized_bits(4,bits=3)", "sets bits twice"},
        {"quantized_bits(bits=4,0)", "without a name"},
        {"quantized_bits(4,colour=1)", "no argument 'colour'"},
        {"quantized_bits(4,alpha='fast')", "alpha must be"},
        {"quantized_bits(4,alpha=auto)", "words stand in quotes"},
        {"quantized_bits(4,alpha='auto)", "unfinished quotes"},
        {"quantized_bits(4,alpha=-1)", "alpha must be positive"},
        {"quantized_bits(4) + 1", "cannot read '+ 1'"},
        {"__import__('os').system('ls')", "unknown quantizer"},
        {"quantized_relu(4,0,negative_slope=0.3)", "power of two"},
        {"ternary(1,0.2,0,4,5)", "at most 4 arguments"},
        {"hard_tanh(1)", "takes no arguments"},
        {"quantized_po2(4,log2_rounding='up')", "'rnd' or 'floor'"},
        {"quantized_bits(4,elements_per_scale=2)", "needs scale_axis"},
        {"", "needs the name"},
    };
    for (const auto& [text, why] : cases) {
        try {
            parse_quantizer(text);
            ADD_FAILURE() << text << " was accepted";
        } catch (const UsageError& error) {
            EXPECT_NE(std::string(error.what()).find(why), std::string::npos) << text << " -> " << error.what();
            EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
        }
    }
}

// Text that anybody may have written: it is read or refused, and what is read prints and reads back as itself.
TEST(ParseQuantizer, MutatedTextIsReadOrRefused) {
    const std::vector<std::string> seeds{"quantized_bits(4,0,1,alpha='auto_po2',scale_axis=[1,2],elements_per_scale=2)", "quantized_relu(6,2,1,0.125)",
                                         "ternary(alpha=1.0,threshold=0.25,number_of_unrolls=3)", "quantized_po2(4,max_value=8,log2_rounding='floor')"};
    const std::string alphabet = "()[],='\"0123456789.-+e_ \0\n\xff" "abTFN";
    Rng rng(1, "mutations");
    int read = 0;
    for (int i = 0; i < 20000; ++i) {
        std::string text = seeds[rng.below(seeds.size())];
        for (std::uint64_t n = 1 + rng.below(3); n-- > 0 && !text.empty();) {
            const std::size_t at = rng.below(text.size());
            switch (rng.below(3)) {
                case 0: text[at] = alphabet[rng.below(alphabet.size())]; break;
                case 1: text.erase(at, 1 + rng.below(4)); break;
                default: text.insert(at, 1, alphabet[rng.below(alphabet.size())]);
            }
        }
        try {
            const Quantizer q = parse_quantizer(text);
            EXPECT_EQ(parse_quantizer(to_string(q)), q) << text;
            ++read;
        } catch (const UsageError& error) {
            EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << text;
        }
    }
    EXPECT_GT(read, 200);
}

TEST(ParseQuantizer, OldTanhHasAnIntegerSecond) {
    EXPECT_EQ(parse_quantizer("quantized_tanh(4,1)", Release::v0_8).integer, 1);
    EXPECT_TRUE(parse_quantizer("quantized_tanh(4,1)").use_stochastic_rounding);
}

TEST(QuantizerFromJson, TextAndObject) {
    const Quantizer q = quantizer_from_json(
        R"({"class_name": "quantized_bits", "config": {"bits": 4, "integer": 0, "alpha": 1.0, "symmetric": 0, "keep_negative": true, "var_name": null}})");
    EXPECT_EQ(q, parse_quantizer("quantized_bits(4,0,alpha=1)"));
    EXPECT_EQ(quantizer_from_json("\"binary()\""), parse_quantizer("binary"));
    const Quantizer by_channel = quantizer_from_json(
        R"({"class_name": "quantized_bits", "config": {"bits": 5, "alpha": "auto_po2", "post_training_scale": [[[[0.5, 1, 0.25]]]]}})");
    EXPECT_EQ(by_channel.post_training_scale, (std::vector<double>{0.5, 1, 0.25}));
    EXPECT_THROW(quantizer_from_json(R"({"class_name": "quantized_bits", "config": {"post_training_scale": [[0.5], ["a"]]}})"), UsageError);
    EXPECT_THROW(quantizer_from_json("3"), UsageError);
    EXPECT_THROW(quantizer_from_json(R"({"class_name": "binary", "config": {"bits": 3}})"), UsageError);
}

TEST(LimitsOfQuantizers, MaximumMinimumRange) {
    const auto limits = [](const std::string& text) {
        const Quantizer q = parse_quantizer(text);
        return std::pair(min_value_of(q), max_value_of(q));
    };
    using Pair = std::pair<double, double>;
    EXPECT_EQ(limits("quantized_bits(4,1)"), Pair(-2, 2));
    EXPECT_EQ(limits("quantized_bits(4,-1)"), Pair(-1, 1));
    EXPECT_EQ(limits("quantized_bits(1,2)"), Pair(-1, 1));
    EXPECT_EQ(limits("quantized_bits(4,1,keep_negative=False)"), Pair(0, 2));
    EXPECT_EQ(limits("binary(alpha=3)"), Pair(-3, 3));
    EXPECT_EQ(limits("ternary(alpha='auto')"), Pair(-1, 1));
    EXPECT_EQ(limits("quantized_po2(4,2)"), Pair(-2, 2));
    EXPECT_EQ(limits("quantized_po2(4)"), Pair(-8, 8));
    EXPECT_EQ(limits("quantized_relu_po2(4,quadratic_approximation=True)"), Pair(0x1p-8, 64));
    EXPECT_EQ(range_of(parse_quantizer("quantized_bits(3,0)")), (std::vector<double>{0, .25, .5, .75, -1, -.75, -.5, -.25}));
    EXPECT_EQ(range_of(parse_quantizer("quantized_relu(2,1)")), (std::vector<double>{0, .5, 1, 1.5}));
    EXPECT_THROW(range_of(parse_quantizer("binary()")), Error);
}

TEST(LayerDefaults, AlphaLeftOpenBecomesAutoPo2) {
    EXPECT_EQ(to_string(with_layer_defaults(parse_quantizer("quantized_bits(4)"))), "quantized_bits(4,0,1,alpha='auto_po2')");
    EXPECT_EQ(to_string(with_layer_defaults(parse_quantizer("quantized_bits(4,alpha=1)"))), "quantized_bits(4,0,0,alpha=1)");
    EXPECT_EQ(to_string(with_layer_defaults(parse_quantizer("binary()"))), "binary(alpha='auto_po2')");
    EXPECT_EQ(to_string(with_layer_defaults(parse_quantizer("quantized_po2(4)"))), "quantized_po2(4)");
}

}  // namespace
}  // namespace bitloom::quant::qkeras
