#include "engine/io/npz.h"

#include <gtest/gtest.h>
#include <zip.h>

#include <cstring>
#include <fstream>
#include <sstream>

#include "engine/error.h"
#include "tests/engine/io/temporary_folder.h"

namespace bitloom {
namespace {

std::string entry(const std::string& path, const char* name) {
    zip_t* archive = zip_open(path.c_str(), ZIP_RDONLY, nullptr);
    if (!archive) return {};
    zip_stat_t stat;
    zip_stat(archive, name, 0, &stat);
    std::string contents(stat.size, '\0');
    zip_file_t* file = zip_fopen(archive, name, 0);
    zip_fread(file, contents.data(), contents.size());
    zip_fclose(file);
    zip_close(archive);
    return contents;
}

TEST(Npz, HoldsArraysAsNumPyWritesThem) {
    TemporaryFolder folder;
    const std::string path = folder.file("scores.npz");
    write_npz(path, {{"arr_0", {0.25, 0.9375}}, {"other", {1, 2, 3}}});
    const std::string npy = entry(path, "arr_0.npy");
    ASSERT_EQ(npy.size(), 128u + 2 * 8) << "a header of two times 64 bytes, two doubles";
    EXPECT_EQ(npy.substr(0, 8), std::string("\x93NUMPY\x01\x00", 8));
    EXPECT_NE(npy.find("'descr': '<f8'"), std::string::npos);
    EXPECT_NE(npy.find("'shape': (2,)"), std::string::npos);
    double values[2];
    std::memcpy(values, npy.data() + 128, sizeof values);
    EXPECT_EQ(values[0], 0.25);
    EXPECT_EQ(values[1], 0.9375);
    EXPECT_EQ(entry(path, "other.npy").size() % 64, 24u);
}

TEST(Npz, EqualContentsGiveEqualFilesAndAMissingFolderIsAnError) {
    TemporaryFolder folder;
    const auto bytes = [&](const char* name) {
        write_npz(folder.file(name), {{"arr_0", {1}}});
        std::ostringstream text;
        text << std::ifstream(folder.file(name), std::ios::binary).rdbuf();
        return text.str();
    };
    EXPECT_EQ(bytes("a.npz"), bytes("b.npz"));
    EXPECT_THROW(write_npz(folder.file("nowhere/a.npz"), {{"arr_0", {1}}}), Error);
}

}  // namespace
}  // namespace bitloom
