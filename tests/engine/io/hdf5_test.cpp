#include "engine/io/hdf5.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <hdf5.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <future>
#include <limits>
#include <memory>
#include <thread>

#include "engine/io/atomic_file.h"
#include "engine/io/hdf5_handle.h"
#include "tests/engine/io/raw_hdf5.h"
#include "tests/engine/io/temporary_folder.h"

namespace bitloom {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

hid_t half_type() {
    const hid_t type = H5Tcopy(H5T_IEEE_F32LE);
    H5Tset_fields(type, 15, 10, 5, 0, 10);
    H5Tset_precision(type, 16);
    H5Tset_size(type, 2);
    H5Tset_ebias(type, 15);
    return type;
}

template <class T>
class RoundTrip : public ::testing::Test {};
using Types = ::testing::Types<float, double, bf16, std::int32_t, std::int8_t, std::uint8_t>;
TYPED_TEST_SUITE(RoundTrip, Types);

TYPED_TEST(RoundTrip, KeepsBitsShapeAndType) {
    TemporaryFolder folder;
    std::vector<TypeParam> values;
    for (int i = 0; i < 24; ++i) values.push_back(TypeParam(i * 5));
    const Tensor written = Tensor::from<TypeParam>(Shape{2, 3, 4}, values);
    {
        hdf5::File file = hdf5::File::create(folder.file("a.h5"));
        file.write("group/inner/x", written);
        file.write("scalar", written.reshape({24}).rows(3, 1).reshape(Shape{}));
        file.write("empty", Tensor::empty({0, 7}, dtype_of<TypeParam>()));
        file.close();
    }
    const hdf5::File file = hdf5::File::open(folder.file("a.h5"));
    EXPECT_EQ(file.dtype("group/inner/x"), dtype_of<TypeParam>());
    const Tensor read = file.read("group/inner/x", dtype_of<TypeParam>());
    ASSERT_EQ(read.shape(), written.shape());
    EXPECT_EQ(std::memcmp(read.raw(), written.raw(), written.bytes()), 0);
    EXPECT_EQ(file.shape("scalar"), Shape{});
    EXPECT_EQ(file.read("scalar", DType::f64).item(), 15.0);
    EXPECT_EQ(file.shape("empty"), (Shape{0, 7}));
    EXPECT_EQ(file.read("empty", dtype_of<TypeParam>()).numel(), 0);
}

TEST(Hdf5, KeepsNonFiniteValues) {
    TemporaryFolder folder;
    const float inf = std::numeric_limits<float>::infinity();
    const std::vector<float> values{inf, -inf, std::nanf(""), -0.0f, 1e-42f};
    hdf5::File file = hdf5::File::create(folder.file("a.h5"));
    file.write("x", Tensor::from<float>(Shape{5}, values));
    file.close();
    const Tensor read = hdf5::File::open(folder.file("a.h5")).read("x");
    EXPECT_EQ(std::memcmp(read.raw(), values.data(), 20), 0);
}

TEST(Hdf5, ConvertsForeignTypes) {
    TemporaryFolder folder;
    const std::uint16_t halves[] = {0x3c00, 0xc000, 0x3555, 0x7bff, 0x0001};  // 1, -2, 0.33325, 65504, 2^-24
    const std::int64_t wide[] = {-(std::int64_t{1} << 40), 7};
    const std::uint16_t shorts[] = {65535, 1};
    const signed char booleans[] = {1, 0, 1};
    {
        RawFile raw(folder.file("a.h5"));
        const hid_t half = half_type();
        raw.dataset("half", half, half, {5}, halves);
        H5Tclose(half);
        raw.dataset("i64", H5T_STD_I64BE, H5T_NATIVE_INT64, {2}, wide);  // big-endian on purpose
        raw.dataset("u16", H5T_STD_U16LE, H5T_NATIVE_UINT16, {2}, shorts);
        const hid_t boolean = H5Tenum_create(H5T_STD_I8LE);
        signed char value = 0;
        H5Tenum_insert(boolean, "FALSE", &value);
        value = 1;
        H5Tenum_insert(boolean, "TRUE", &value);
        raw.dataset("bool", boolean, boolean, {3}, booleans);
        H5Tclose(boolean);
        const double tall[] = {1.5, 300.0};
        raw.dataset("f64", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, {2}, tall);
        const int one = 42;
        raw.attribute("answer", H5T_NATIVE_INT, {}, &one);
        raw.attribute("answers", H5T_NATIVE_INT, {1}, &one);
    }
    const hdf5::File file = hdf5::File::open(folder.file("a.h5"));
    EXPECT_EQ(file.dtype("half"), DType::f32);
    EXPECT_THAT(file.read("half").values<float>(), ElementsAre(1.0f, -2.0f, 0.333251953125f, 65504.0f, 0x1p-24f));
    EXPECT_EQ(file.dtype("i64"), DType::f64);
    EXPECT_THAT(file.read_i64("i64"), ElementsAre(wide[0], 7));
    EXPECT_THAT(file.read_f64("i64"), ElementsAre(-0x1p40, 7.0));
    EXPECT_EQ(file.dtype("u16"), DType::i32);
    EXPECT_THAT(file.read("u16", DType::i32).values<std::int32_t>(), ElementsAre(65535, 1));
    EXPECT_THAT(file.read("bool", DType::u8).values<std::uint8_t>(), ElementsAre(1, 0, 1));
    EXPECT_THAT(file.read_f64("bool"), ElementsAre(1, 0, 1));
    EXPECT_THAT(file.attribute_f64("", "answer"), ElementsAre(42));
    EXPECT_THAT(file.attribute_f64("", "answers"), ElementsAre(42));
    // Nothing is clipped or cut: a value that does not fit is an error.
    EXPECT_THAT(message_of([&] { file.read("i64", DType::i32); }), HasSubstr("a.h5: 'i64': a value does not fit i32"));
    EXPECT_THAT(message_of([&] { file.read("u16", DType::u8); }), HasSubstr("does not fit u8"));
    EXPECT_THAT(message_of([&] { file.read("f64", DType::i32); }), HasSubstr("does not fit i32"));
    EXPECT_THAT(message_of([&] { file.read_i64("f64"); }), HasSubstr("does not fit a 64-bit integer"));
}

TEST(Hdf5, ReadsStringsOfEveryKind) {
    TemporaryFolder folder;
    {
        RawFile raw(folder.file("a.h5"));
        const auto text = [&](const char* name, H5T_str_t padding, const char* bytes) {
            const hid_t type = H5Tcopy(H5T_C_S1);
            H5Tset_size(type, 4);
            H5Tset_strpad(type, padding);
            raw.dataset(name, type, type, {2}, bytes);
            raw.attribute(name, type, {2}, bytes);
            H5Tclose(type);
        };
        text("terminated", H5T_STR_NULLTERM, "ab\0cdef\0");
        text("padded", H5T_STR_NULLPAD, "abcdef\0\0");
        text("spaced", H5T_STR_SPACEPAD, "a b cd  ");
        const hid_t variable = H5Tcopy(H5T_C_S1);
        H5Tset_size(variable, H5T_VARIABLE);
        const char* words[] = {"", "longer than the others"};
        raw.dataset("variable", variable, variable, {2}, words);
        raw.dataset("scalar", variable, variable, {}, words + 1);
        raw.attribute("variable", variable, {2}, words);
        raw.attribute("scalar", variable, {}, words + 1);
        raw.dataset("none", variable, variable, {0}, nullptr);
        H5Tclose(variable);
    }
    const hdf5::File file = hdf5::File::open(folder.file("a.h5"));
    EXPECT_THAT(file.read_strings("terminated"), ElementsAre("ab", "def"));
    EXPECT_THAT(file.read_strings("padded"), ElementsAre("abcd", "ef"));
    EXPECT_THAT(file.read_strings("spaced"), ElementsAre("a b", "cd"));
    EXPECT_THAT(file.read_strings("variable"), ElementsAre("", "longer than the others"));
    EXPECT_THAT(file.read_strings("scalar"), ElementsAre("longer than the others"));
    EXPECT_THAT(file.read_strings("none"), ElementsAre());
    EXPECT_THAT(file.attribute_strings("", "padded"), ElementsAre("abcd", "ef"));
    EXPECT_THAT(file.attribute_strings("", "variable"), ElementsAre("", "longer than the others"));
    EXPECT_EQ(file.attribute_string("", "scalar"), "longer than the others");
    EXPECT_THAT(message_of([&] { (void)file.attribute_string("", "variable"); }),
                HasSubstr("holds 2 strings, not one"));
    EXPECT_THAT(message_of([&] { file.read("scalar"); }), HasSubstr("holds strings, not numbers"));
}

TEST(Hdf5, WritesAttributesAndStrings) {
    TemporaryFolder folder;
    const std::string path = folder.file("a.h5");
    const std::string long_text(200000, 'j');  // longer than an object header may be
    hdf5::File out = hdf5::File::create(path);
    out.write_i64("n", {1, -2});
    out.write_f64("d", {});
    out.write_strings("words", {"one", "", "zw\xc3\xb6lf"});
    out.write_attribute("", "config", long_text);
    out.write_attribute("n", "mean", std::vector<double>{0.5, 0.25});
    out.write_attribute("n", "names", std::vector<std::string>{"kernel:0", ""});
    out.write_attribute("n", "version", 1);
    out.write_attribute("n", "version", 2);  // replaced
    out.write_attribute_i64("", "count", std::int64_t{1} << 40);
    EXPECT_THAT(message_of([&] { out.write_i64("n", {1}); }), HasSubstr("'n': exists already"));
    EXPECT_THAT(message_of([&] { out.write_i64("n/below", {1}); }), StartsWith(path));
    EXPECT_THAT(message_of([&] { out.write_strings("nul", {std::string("a\0b", 3)}); }), HasSubstr("NUL"));
    EXPECT_THAT(message_of([&] { out.write_attribute("zz", "a", 1.0); }), HasSubstr("'zz': no such object"));
    out.close();
    EXPECT_THAT(message_of([&] { out.write_i64("m", {1}); }), HasSubstr("not open for writing"));
    const hdf5::File file = hdf5::File::open(path);
    EXPECT_THAT(file.attribute_strings("n", "names"), ElementsAre("kernel:0", ""));
    EXPECT_THAT(file.read_i64("n"), ElementsAre(1, -2));
    EXPECT_TRUE(file.read_f64("d").empty());
    EXPECT_THAT(file.read_strings("words"), ElementsAre("one", "", "zw\xc3\xb6lf"));
    EXPECT_EQ(file.attribute_string("", "config"), long_text);
    EXPECT_THAT(file.attribute_f64("n", "mean"), ElementsAre(0.5, 0.25));
    EXPECT_THAT(file.attribute_f64("n", "version"), ElementsAre(2));
    EXPECT_THAT(file.attribute_f64("", "count"), ElementsAre(0x1p40));
    EXPECT_TRUE(file.has_attribute("n", "mean"));
    EXPECT_FALSE(file.has_attribute("n", "std"));
    EXPECT_THAT(message_of([&] { file.attribute_f64("n", "std"); }),
                HasSubstr("'n': attribute 'std': no such attribute"));
}

TEST(Hdf5, ListsInNameOrderAndSurvivesCircles) {
    TemporaryFolder folder;
    {
        RawFile raw(folder.file("a.h5"));
        const float x = 1;
        for (const char* name : {"z", "b", "a.weight"}) raw.dataset(name, H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, {}, &x);
        const hid_t group = H5Gcreate2(raw, "g", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
        raw.dataset("g/y", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, {}, &x);
        H5Gclose(H5Gcreate2(raw, "g/sub", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
        H5Lcreate_hard(raw, "/", raw, "g/sub/circle", H5P_DEFAULT, H5P_DEFAULT);
        H5Lcreate_soft("/nowhere", raw, "dangling", H5P_DEFAULT, H5P_DEFAULT);
        H5Gclose(group);
    }
    const hdf5::File file = hdf5::File::open(folder.file("a.h5"));
    EXPECT_THAT(file.datasets(), ElementsAre("a.weight", "b", "g/y", "z"));
    EXPECT_THAT(file.datasets("g"), ::testing::Contains("g/y"));
    EXPECT_THAT(file.groups(), ElementsAre("g"));
    EXPECT_THAT(file.groups("g"), ElementsAre("sub"));
    EXPECT_TRUE(file.has("g/sub"));
    EXPECT_TRUE(file.has(""));
    EXPECT_FALSE(file.has("g/none/deeper"));
    EXPECT_FALSE(file.has("dangling"));
    EXPECT_THAT(message_of([&] { file.read("dangling"); }), HasSubstr("'dangling': no such object"));
    EXPECT_THAT(message_of([&] { file.read("g"); }), HasSubstr("'g': is not a dataset"));
    EXPECT_THAT(message_of([&] { file.datasets("b"); }), HasSubstr("'b': is not a group"));
}

TEST(Hdf5, RefusesWhatIsNoNumberOrDoesNotAddUp) {
    TemporaryFolder folder;
    {
        RawFile raw(folder.file("a.h5"));
        const hid_t compound = H5Tcreate(H5T_COMPOUND, 8);
        H5Tinsert(compound, "re", 0, H5T_NATIVE_FLOAT);
        H5Tinsert(compound, "im", 4, H5T_NATIVE_FLOAT);
        const float pair[] = {1, 2};
        raw.dataset("complex", compound, compound, {1}, pair);
        H5Tclose(compound);
        // Declared but never written; the second would be 8 exabytes, the third overflows.
        raw.dataset("unwritten", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, {4, 4}, nullptr);
        raw.dataset("huge", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, {hsize_t{1} << 30, hsize_t{1} << 28}, nullptr);
        const hid_t chunked = H5Pcreate(H5P_DATASET_CREATE);
        const hsize_t chunk[] = {16, 16, 16};
        H5Pset_chunk(chunked, 3, chunk);
        const hsize_t far = hsize_t{1} << 31;
        raw.dataset("overflow", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, {far, far, far}, nullptr, chunked);
        H5Pclose(chunked);
        const std::vector<hsize_t> deep(9, 1);
        const float x = 1;
        raw.dataset("deep", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, deep, &x);
    }
    const hdf5::File file = hdf5::File::open(folder.file("a.h5"));
    EXPECT_THAT(message_of([&] { file.read("complex"); }), HasSubstr("'complex': holds compound values, not numbers"));
    EXPECT_THAT(message_of([&] { file.read("unwritten"); }), HasSubstr("has shape [4, 4] but was never written"));
    EXPECT_THAT(message_of([&] { file.read("huge"); }), HasSubstr("never written"));
    EXPECT_THAT(message_of([&] { file.read("overflow"); }), HasSubstr("overflow"));
    EXPECT_THAT(message_of([&] { file.read("deep"); }), HasSubstr("has 9 axes"));
    EXPECT_THAT(message_of([&] { file.read_strings("huge"); }), HasSubstr("not strings"));
}

// What h5py calls Empty has a type and no elements.
TEST(Hdf5, NothingIsATensorWithoutElements) {
    TemporaryFolder folder;
    {
        RawFile raw(folder.file("a.h5"));
        const hid_t nothing = H5Screate(H5S_NULL);
        for (const auto& [name, type] : {std::pair{"number", H5T_IEEE_F32LE}, {"integer", H5T_STD_I64LE}})
            H5Dclose(H5Dcreate2(raw, name, type, nothing, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
        H5Sclose(nothing);
    }
    const hdf5::File file = hdf5::File::open(folder.file("a.h5"));
    EXPECT_EQ(file.shape("number"), (Shape{0}));
    EXPECT_EQ(file.read("number").shape(), (Shape{0}));
    EXPECT_TRUE(file.read_i64("integer").empty());
}

TEST(Hdf5, SaysWhatItHoldsInsteadOfNumbers) {
    TemporaryFolder folder;
    const hid_t sequence = H5Tvlen_create(H5T_NATIVE_INT), opaque = H5Tcreate(H5T_OPAQUE, 3);
    const hsize_t three[] = {3};
    const hid_t array = H5Tarray_create2(H5T_NATIVE_INT, 1, three);
    const std::vector<std::tuple<std::string, hid_t, std::string>> kinds{
        {"sequence", sequence, "variable-length sequences"}, {"opaque", opaque, "opaque values"},
        {"array", array, "arrays"},                          {"bits", H5T_STD_B8LE, "bit fields"},
        {"reference", H5T_STD_REF_OBJ, "references"},        {"time", H5T_UNIX_D32LE, "times"}};
    {
        RawFile raw(folder.file("a.h5"));
        for (const auto& [name, type, words] : kinds) raw.dataset(name.c_str(), type, type, {2}, nullptr);
        const hid_t colours = H5Tenum_create(H5T_NATIVE_INT);
        const int red = 1;
        H5Tenum_insert(colours, "red", &red);
        raw.dataset("colours", colours, colours, {1}, &red);
        raw.dataset("integers", H5T_STD_I32LE, H5T_NATIVE_INT, {1}, &red);
        H5Tclose(colours);
    }
    for (const hid_t type : {sequence, opaque, array}) H5Tclose(type);
    const hdf5::File file = hdf5::File::open(folder.file("a.h5"));
    for (const auto& [name, type, words] : kinds)
        EXPECT_THAT(message_of([&, &name = name] { file.read(name); }), HasSubstr(cat("'", name, "': holds ", words, ", not numbers")));
    EXPECT_THAT(message_of([&] { file.read_strings("colours"); }), HasSubstr("holds enumerated values, not strings"));
    EXPECT_THAT(message_of([&] { file.read_strings("integers"); }), HasSubstr("holds integers, not strings"));
    EXPECT_EQ(file.read("colours").item(), 1);  // numbers: h5py stores booleans so
}

TEST(Hdf5, FilesChangePlaces) {
    TemporaryFolder folder;
    for (const char* name : {"a.h5", "b.h5"}) {
        hdf5::File file = hdf5::File::create(folder.file(name));
        file.write(name, Tensor::full({2}, 1));
        file.close();
    }
    hdf5::File a = hdf5::File::open(folder.file("a.h5")), b = hdf5::File::open(folder.file("b.h5"));
    a = std::move(b);
    EXPECT_TRUE(a.has("b.h5"));
    EXPECT_EQ(a.path(), folder.file("b.h5"));
}

TEST(Hdf5, ReadsCompressedChunks) {
    TemporaryFolder folder;
    std::vector<float> values(100 * 70);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 13);
    const std::vector<float> zeros(1 << 20, 0.0f);  // as well compressed as deflate can
    {
        RawFile raw(folder.file("a.h5"));
        const hid_t packed = H5Pcreate(H5P_DATASET_CREATE);
        const hsize_t chunk[] = {32, 32};
        H5Pset_chunk(packed, 2, chunk);
        H5Pset_shuffle(packed);
        H5Pset_deflate(packed, 6);
        raw.dataset("x", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, {100, 70}, values.data(), packed);
        H5Pclose(packed);
        const hid_t flat = H5Pcreate(H5P_DATASET_CREATE);
        const hsize_t whole[] = {1 << 20};
        H5Pset_chunk(flat, 1, whole);
        H5Pset_deflate(flat, 9);
        raw.dataset("zeros", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, {1 << 20}, zeros.data(), flat);
        H5Pclose(flat);
    }
    const hdf5::File file = hdf5::File::open(folder.file("a.h5"));
    EXPECT_EQ(file.read("x").values<float>(), values);
    EXPECT_EQ(file.read("zeros").values<float>(), zeros);
}

TEST(Hdf5, NamesOfObjectsStayOneLineInMessages) {
    TemporaryFolder folder;
    const std::string path = folder.file("a.h5");
    {
        RawFile raw(path);
        const float x = 1;
        raw.dataset("two\nlines", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, {}, &x);
    }
    const hdf5::File file = hdf5::File::open(path);
    EXPECT_THAT(message_of([&] { file.read_strings("two\nlines"); }), HasSubstr("'two\\x0alines': holds floating"));
}

TEST(Hdf5, EqualContentsMakeEqualFilesAndAbandonedOnesNone) {
    TemporaryFolder folder;
    const auto write = [&](const std::string& path) {
        hdf5::File file = hdf5::File::create(path);
        file.write("a/b/c", Tensor::full({3, 3}, 1.5));
        file.write_attribute("", "text", std::string("words"));
        file.close();
    };
    write(folder.file("1.h5"));
    std::this_thread::sleep_for(std::chrono::milliseconds(1100));  // HDF5's time stamps count seconds
    write(folder.file("2.h5"));
    EXPECT_EQ(read_file(folder.file("1.h5")), read_file(folder.file("2.h5")));
    EXPECT_THROW(
        {
            hdf5::File file = hdf5::File::create(folder.file("3.h5"));
            file.write("x", Tensor::full({3}, 1));
            fail("the writer gives up");
        },
        Error);
    EXPECT_FALSE(std::filesystem::exists(folder.file("3.h5")));
    { hdf5::File::create(folder.file("4.h5")).write("x", Tensor::full({3}, 1)); }  // the destructor closes
    EXPECT_EQ(hdf5::File::open(folder.file("4.h5")).read("x").numel(), 3);
}

TEST(Hdf5, ManyThreads) {
    TemporaryFolder folder;
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&, t] {
            const std::string path = folder.file(cat(t, ".h5"));
            for (int i = 0; i < 5; ++i) {
                hdf5::File file = hdf5::File::create(path);
                file.write("x", Tensor::full({50}, t * 10 + i));
                file.close();
                EXPECT_EQ(hdf5::File::open(path).read("x").values<float>()[49], static_cast<float>(t * 10 + i));
                EXPECT_THROW(hdf5::File::open(path).read("y"), Error);
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
}

// A closed file still has property lists to give back to HDF5. Were that done without the lock, a child forked by
// another thread at that moment would find HDF5's own lock taken for ever.
TEST(Hdf5, AClosedFileWaitsForTheLockToo) {
    TemporaryFolder folder;
    auto file = std::make_unique<hdf5::File>(hdf5::File::create(folder.file("a.h5")));
    file->close();
    std::future<void> destroyed;
    {
        hdf5::Lock lock;
        destroyed = std::async(std::launch::async, [&] { file.reset(); });
        EXPECT_EQ(destroyed.wait_for(std::chrono::milliseconds(100)), std::future_status::timeout);
    }
    destroyed.get();
}

// Another part of a program may call HDF5 by itself and hold its lock while a file is opened here.
TEST(Hdf5, AHeldLibraryLockDelaysButNeverHangs) {
    hbool_t safe = false;
    H5is_library_threadsafe(&safe);
    if (!safe) GTEST_SKIP() << "this HDF5 has no lock of its own";
    TemporaryFolder folder;
    const std::string path = folder.file("a.h5");
    hdf5::File::create(path).close();
    const hid_t list = H5Pcreate(H5P_FILE_ACCESS);
    std::promise<void> inside, release;
    std::promise<void>* promises[] = {&inside, &release};
    std::thread holder([&] {
        const auto wait = [](hid_t, const char*, void* data) -> herr_t {
            auto** const both = static_cast<std::promise<void>**>(data);
            both[0]->set_value();
            both[1]->get_future().wait();
            return 1;  // the first property is enough
        };
        int first = 0;
        H5Piterate(list, &first, wait, promises);
    });
    inside.get_future().wait();
    EXPECT_NO_THROW(hdf5::probe(path, list, 1));
    release.set_value();
    holder.join();
    H5Pclose(list);
}

TEST(Hdf5, ReadsThePublishedModels) {
    const char* set = std::getenv("BITLOOM_MODELS");
    const std::string models = set ? set : std::string(BITLOOM_SOURCE_DIR) + "/../shared/models";
    const std::string path = models + "/bsq_resnet20_fp.h5";
    if (!std::filesystem::exists(path)) GTEST_SKIP() << "no " << path << " (set BITLOOM_MODELS)";
    const hdf5::File file = hdf5::File::open(path);
    EXPECT_EQ(file.shape("conv1.weight"), (Shape{16, 3, 3, 3}));
    EXPECT_EQ(file.attribute_string("", "shortcut"), "B");
    EXPECT_THAT(file.attribute_f64("", "mean_rgb"), ElementsAre(0.4914, 0.4822, 0.4465));
    const std::vector<std::string> names = file.read_strings("_names");
    EXPECT_EQ(names.front(), "conv1.weight");
    for (const std::string& name : names) EXPECT_GE(file.read(name).numel(), 1) << name;
}

}  // namespace
}  // namespace bitloom
