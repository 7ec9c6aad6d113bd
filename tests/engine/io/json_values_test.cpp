#include "engine/io/json_values.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "engine/io/flags.h"
#include "tests/engine/io/temporary_folder.h"

namespace bitloom {
namespace {

using Json = nlohmann::ordered_json;
using testing::HasSubstr;
using testing::ThrowsMessage;

std::string lists(int deep) {
    const auto count = static_cast<std::size_t>(deep);
    return std::string(count, '[') + std::string(count, ']');
}

TEST(Json, HasABoundedDepth) {
    EXPECT_EQ(json_from_text<Json>(lists(deepest_json)).size(), 1u);
    EXPECT_THAT([] { json_from_text<Json>(lists(deepest_json + 2)); }, ThrowsMessage<Error>(HasSubstr("nested more than 100")));
    EXPECT_TRUE(json_or_discarded<Json>(lists(1'000'000)).is_discarded());
    std::string objects;
    for (int i = 0; i < 200; ++i) objects += "{\"a\": ";
    EXPECT_THROW(json_from_text<Json>(objects + "1" + std::string(200, '}')), Error);
    EXPECT_THROW(json_from_text<Json>(std::string(1'000'000, '[')), Error);  // which has no end either
}

TEST(Json, IsReadAsTheLibraryReadsIt) {
    const std::string text = R"({"b": [1, 2.5, null, true, "x\u00e9"], "a": {}})";
    EXPECT_EQ(json_from_text<Json>(text), Json::parse(text));
    EXPECT_EQ(json_from_text<Json>(text).begin().key(), "b");
    EXPECT_EQ(json_from_text<Json>("[1 /* one */]", true), Json::parse("[1]"));
    for (const char* bad : {"", "{", "[1 /* one */]", "{\"a\": 1,}", "nan", "\"\xff\""}) {
        EXPECT_THROW(json_from_text<Json>(bad), Json::exception) << bad;
        EXPECT_TRUE(json_or_discarded<Json>(bad).is_discarded()) << bad;
    }
    EXPECT_FALSE(json_or_discarded<Json>("null").is_discarded());
}

// Such a file used to end the program: what is wrong with a value was said by writing it out.
TEST(Json, ConfigurationFilesOfManyBracketsAreRefused) {
    TemporaryFolder folder;
    std::ofstream(folder.file("deep.json")) << "{\"epochs\": " << lists(100'000) << "}";
    std::int64_t epochs = 1;
    Flags flags("test", "Reads flags.");
    flags.add("epochs", epochs, "a number");
    const std::string argument = "--config=" + folder.file("deep.json");
    const char* arguments[] = {"test", argument.c_str()};
    EXPECT_THAT([&] { flags.parse(2, arguments); }, ThrowsMessage<UsageError>(HasSubstr("nested more than 100 deep")));
}

}  // namespace
}  // namespace bitloom
