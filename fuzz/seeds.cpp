// fuzz_seeds FOLDER: writes small valid inputs of every fuzz target, FOLDER/<target>/<name>.

#include <hdf5.h>
#include <zlib.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>

#include "engine/error.h"
#include "engine/io/atomic_file.h"
#include "engine/io/checkpoint.h"
#include "engine/io/hdf5.h"
#include "fuzz/search_space.h"
#include "fuzz/small_network.h"
#include "quant/bsq/files.h"
#include "quant/qkeras/model_quantize.h"
#include "quant/scheme.h"

namespace {

using namespace bitloom;
using Bytes = std::string;

std::string folder;

std::string seed(const std::string& target, const std::string& name) {
    std::filesystem::create_directories(folder + "/" + target);
    return folder + "/" + target + "/" + name;
}
void put(const std::string& target, const std::string& name, const Bytes& contents) {
    write_file_atomically(seed(target, name), contents);
}

Bytes big(std::uint32_t word) {
    Bytes bytes;
    for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(word >> shift);
    return bytes;
}
Bytes little(std::uint32_t word) {
    const Bytes bytes = big(word);
    return {bytes.rbegin(), bytes.rend()};
}
Bytes counting(std::size_t count) {
    Bytes bytes;
    for (std::size_t i = 0; i < count; ++i) bytes += static_cast<char>(i * 7);
    return bytes;
}

void idx() {
    const Bytes images = big(0x803) + big(3) + big(4) + big(5) + counting(60),
                labels = big(0x801) + big(4) + "\1\2\3\4";
    put("idx", "images", images);
    put("idx", "labels", labels);
    for (const auto& [name, contents] : {std::pair{"images.gz", images}, {"labels.gz", labels}}) {
        gzFile file = gzopen(seed("idx", name).c_str(), "wb");
        gzwrite(file, contents.data(), static_cast<unsigned>(contents.size()));
        gzclose(file);
    }
}

void cifar() {
    put("cifar", "cifar10", "\3" + counting(3072));
    put("cifar", "two_of_cifar10", "\3" + counting(3072) + Bytes(1, '\0') + counting(3072));
    put("cifar", "cifar100", "\3\63" + counting(3072));
}

Bytes mat_element(std::uint32_t type, const Bytes& data) {
    return little(type) + little(static_cast<std::uint32_t>(data.size())) + data +
           Bytes((8 - data.size() % 8) % 8, '\0');
}
Bytes mat_array(const Bytes& name, std::uint32_t kind, std::uint32_t type, std::initializer_list<std::uint32_t> extents,
                const Bytes& values) {
    Bytes dimensions;
    for (const std::uint32_t extent : extents) dimensions += little(extent);
    return mat_element(14, mat_element(6, little(kind) + little(0)) + mat_element(5, dimensions) +
                               mat_element(1, name) + mat_element(type, values));
}
Bytes mat_compressed(const Bytes& element) {
    Bytes packed(compressBound(element.size()), '\0');
    uLongf size = packed.size();
    compress(reinterpret_cast<Bytef*>(packed.data()), &size, reinterpret_cast<const Bytef*>(element.data()),
             element.size());
    packed.resize(size);
    return little(15) + little(static_cast<std::uint32_t>(size)) + packed;
}

void mat() {
    const Bytes header = "MATLAB 5.0 MAT-file" + Bytes(105, ' ') + Bytes("\0\1IM", 4);
    const Bytes x = mat_array("X", 9, 2, {4, 3, 3, 2}, counting(72)), y = mat_array("y", 9, 2, {2, 1}, "\12\1");
    Bytes doubles(16, '\0');
    const double values[] = {10, 1};
    std::memcpy(doubles.data(), values, sizeof values);
    const Bytes wide = mat_array("y", 6, 9, {2, 1}, doubles);
    const Bytes text = mat_array("note", 4, 4, {1, 2}, Bytes("a\0b\0", 4));
    // The short form of an element, as MATLAB writes labels that fit four bytes.
    const Bytes shorter =
        mat_element(14, mat_element(6, little(6) + little(0)) + mat_element(5, little(2) + little(1)) +
                            little(1u << 16 | 1) + Bytes("y\0\0\0", 4) + little(2u << 16 | 2) + Bytes("\12\1\0\0", 4));
    put("mat", "plain", header + x + y);
    put("mat", "labels_first", header + text + wide + x);
    put("mat", "short", header + x + shorter);
    put("mat", "compressed", header + mat_compressed(x) + mat_compressed(shorter));
}

/// A file of the C interface in the library's oldest format, as h5py writes it.
void old_hdf5(const std::string& path, const std::function<void(hid_t)>& fill) {
    const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    require(file >= 0, path, ": cannot be made");
    fill(file);
    H5Fclose(file);
}
void add_dataset(hid_t file, const char* name, hid_t type, std::vector<hsize_t> extents, const void* values,
                 hid_t creation = H5P_DEFAULT) {
    const hid_t space = extents.empty() ? H5Screate(H5S_SCALAR)
                                        : H5Screate_simple(static_cast<int>(extents.size()), extents.data(), nullptr);
    const hid_t set = H5Dcreate2(file, name, type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    require(set >= 0 && H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0, name, ": cannot be written");
    H5Dclose(set);
    H5Sclose(space);
}
void add_attribute(hid_t file, const char* name, hid_t type, const void* value) {
    const hid_t space = H5Screate(H5S_SCALAR), id = H5Acreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    require(id >= 0 && H5Awrite(id, type, value) >= 0, name, ": cannot be written");
    H5Aclose(id);
    H5Sclose(space);
}

void hdf5_files() {
    const float numbers[24] = {1, 2, 3};
    const std::uint8_t pixels[2 * 4 * 4 * 3] = {9, 8, 7};
    const std::int64_t labels[] = {1, 0};
    const hid_t variable = H5Tcopy(H5T_C_S1), fixed = H5Tcopy(H5T_C_S1);
    H5Tset_size(variable, H5T_VARIABLE);
    H5Tset_size(fixed, 4);
    const char* words[] = {"one", "two"};
    const float mean[] = {0.5f};
    old_hdf5(seed("hdf5", "numbers"), [&](hid_t file) {
        add_dataset(file, "w", H5T_NATIVE_FLOAT, {4, 6}, numbers);
        add_dataset(file, "s", H5T_NATIVE_FLOAT, {}, numbers);
        add_attribute(file, "mean_rgb", H5T_NATIVE_FLOAT, mean);
    });
    old_hdf5(seed("hdf5", "strings"), [&](hid_t file) {
        add_dataset(file, "v", variable, {2}, words);
        add_dataset(file, "f", fixed, {2}, "one\0two");
        add_attribute(file, "format", variable, words);
        add_attribute(file, "model", fixed, "abc");
    });
    old_hdf5(seed("hdf5", "chunks"), [&](hid_t file) {
        const hid_t packed = H5Pcreate(H5P_DATASET_CREATE);
        const hsize_t chunk[] = {2, 3};
        H5Pset_chunk(packed, 2, chunk);
        H5Pset_shuffle(packed);
        H5Pset_deflate(packed, 6);
        add_dataset(file, "w", H5T_NATIVE_FLOAT, {4, 6}, numbers, packed);
        H5Pclose(packed);
    });
    old_hdf5(seed("hdf5", "group"), [&](hid_t file) {
        const hid_t group = H5Gcreate2(file, "layer", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
        add_dataset(group, "kernel", H5T_NATIVE_FLOAT, {4, 6}, numbers);
        H5Gclose(group);
    });
    old_hdf5(seed("hdf5", "images"), [&](hid_t file) {
        add_dataset(file, "images", H5T_NATIVE_UINT8, {2, 4, 4, 3}, pixels);
        add_dataset(file, "labels", H5T_NATIVE_INT64, {2}, labels);
    });
    H5Tclose(variable);
    H5Tclose(fixed);
    hdf5::File file = hdf5::File::create(seed("hdf5", "ours"));
    file.write("a/weight", Tensor::full({3, 2}, 1.5));
    file.write_strings("names", {"a", "b"});
    file.write_attribute("", "format", std::string("x"));
    file.close();
}

void checkpoints() {
    Checkpoint small;
    small.model = R"({"name": "lenet5"})";
    small.parameters = {{"conv1.weight", Tensor::full({2, 3}, 0.25)}};
    save_checkpoint(seed("checkpoint", "small"), small);
    small.buffers = {{"bn.mean", Tensor::full({3}, 1, DType::f64)}};
    small.integers = {{"trainer.step", 3}};
    small.doubles = {{"trainer.sums", {1, 2}}};
    small.strings = {{"optimizer.name", "sgd"}};
    save_checkpoint(seed("checkpoint", "training"), small);
    save_checkpoint(seed("checkpoint", "empty"), Checkpoint{});
}

/// An input whose first byte chooses what reads the rest.
void chosen(const std::string& target, char kind, const Bytes& rest) {
    static std::map<std::string, int> numbers;
    put(target, std::to_string(numbers[target]++), kind + rest);
}

void texts() {
    put("flagfile", "flags", "# a comment\n--epochs=3\n--lr 0.5\n--Filters=1,2,3\n-names=\"a,b\",c\n--noresume\n");
    put("flagfile", "more", "// x\n--optimizer=adam\n--schedule=cosine\n--Dropout=0.5,.25\n--n=0x10\n--resume=True\n");
    put("config", "flags", R"({"epochs": 3, "lr": 0.5, "Filters": [1, 2], "names": ["a"], "resume": true})");
    put("config", "texts", R"({"epochs": "3", "optimizer": "adam", /* c */ "Dropout": "0.5,0.1", "schedule": null})");
    put("config", "model", R"({"name": "svhn_cnn", "input": [32, 32, 3], "classes": 10, "filters": [16, 16, 24]})");
    put("config", "score",
        R"({"fold":0,"val_loss":1,"val_accuracy":0.5,"test_loss":1,"test_accuracy":0.5,"epochs":2,"tested_epoch":1,)"
        R"("stop_reason":"","classes":2,"confusion":[1,2,3,4]})");
    const auto text = [](char kind, const Bytes& rest) { chosen("strings", kind, rest); };
    for (const char* s : {"crop4,flip,shift0.1,rotate8,cutout16", "none", "crop0,cutout2"}) text('\0', s);
    for (const char* s : {"constant", "step:1,3:0.5", "every:2:0.1", "cosine:min_lr=1e-5",
                          "warmup:2+plateau:metric=val_loss,factor=0.1,patience=1,min_delta=1e-4,cooldown=1,min_lr=0"})
        text('\1', s);
    for (const char* s : {"unit", "per-pixel", "per-channel", "0.5,0.5,0.5/0.2,0.2,0.2", "cifar-bsq"}) text('\2', s);
    text('\3', "a,\"b,\"\"c\", d");
    text('\4', "loss,accuracy,val_loss,val_accuracy,lr\n1.5,0.5,1.25,0.75,0.1\n1e-3,,nan,1,2\n");
}

void quantizers() {
    for (const char* q : {"quantized_bits(4,0,1,alpha='auto_po2',scale_axis=3,elements_per_scale=[2])", "binary(alpha='auto')",
                          "quantized_linear(8, 1, keep_negative=False)", "ternary(threshold=0.5)", "quantized_relu(3,1,use_sigmoid=1)",
                          "stochastic_ternary(number_of_unrolls=2)", "quantized_po2(4,max_value=2,quadratic_approximation=True)",
                          "quantized_hswish(8,2,relu_shift=3,relu_upper_bound=6)", "quantized_ulaw(6,u=128)", "bernoulli(temperature=3)",
                          "quantized_tanh(4,0,use_stochastic_rounding=1)", "quantized_bits(4,post_training_scale=[0.5,1,1,2])"}) {
        chosen("quantizers", '\0', q);
        chosen("quantizers", '\5', q);
    }
    chosen("quantizers", '\2', R"({"class_name": "quantized_bits", "config": {"bits": 4, "alpha": null, "scale_axis": [0, 3]}})");
    chosen("quantizers", '\2', "\"quantized_relu(4)\"");
}

void schemes() {
    const Bytes dictionary =
        R"json({"conv_0": {"kernel_quantizer": "quantized_bits(4,0,alpha=1)", "bias_quantizer": "quantized_bits(4)"},)json"
        R"json( "QDense": {"kernel_quantizer": {"class_name": "ternary", "config": {}}, "activation": "quantized_relu(4)"},)json"
        R"json( "QActivation": {"relu": "quantized_relu(4)"}, "QBatchNormalization": {}})json";
    const Bytes pruning = R"({"schedule": "polynomial", "final_sparsity": 0.75, "begin_step": 0, "end_step": 10, "power": 2, )"
                          R"("block": [2, 2], "block_pooling": "MAX", "overrides": {"conv_1": {"granularity": "2:4"}}})";
    const Bytes bsq = R"({"bits": 4, "alpha": 0.1, "reweigh": false, "activation": "relu6", "activation_bits": 4, "grow": false})";
    chosen("schemes", '\0', R"({"bits": 4, "activation_bits": 3, "sigmoid": "real", "compat": "0.8"})");
    chosen("schemes", '\0', dictionary);
    chosen("schemes", '\0', R"({"predefined": "mix", "fold_batch_norm": true, "folding_mode": "batch_stats_folding"})");
    chosen("schemes", '\1', pruning);
    chosen("schemes", '\1', R"({"schedule": "constant", "granularity": "channel", "layers": ["conv_0"], "gradient": "masked"})");
    chosen("schemes", '\2', bsq);
    chosen("schemes", '\3', R"({"pruning": )" + pruning + R"(, "qkeras": )" + dictionary + "}");
    chosen("schemes", '\4', R"({"schemes": )" + quant::SchemeList({"qkeras", "pruning"}, R"({"qkeras": {"bits": 2}})").configuration() + "}");
    chosen("schemes", '\5', dictionary);
    for (const std::string& name : quant::qkeras::predefined_dictionary_names())
        chosen("schemes", '\5', quant::qkeras::predefined_dictionary(name));
}

void searches() {
    chosen("search", '\0', R"({"Dense": [4, [ "binary", "ternary"], 8], "conv_[01]$": [2], "Activation": [8], "default": [4]})");
    chosen("search", '\1', "conv_.*|dense_[01]");
    chosen("search", '\2', "output*");
    chosen("search", '\3', "c.*_0$,c.*_1$,\"d(ense)?.{1,3}0$\",[^o]+_(?=1)");
    const fuzz::Tuners tuners;
    char kind = 4;
    for (search::Tuner* tuner : {tuners.random.get(), tuners.hyperband.get(), tuners.bayesian.get()}) {
        for (int i = 0; i < 3; ++i) tuner->tell(tuner->ask()->id, 0.5 + 0.1 * i, {{"loss", 1.5}});
        tuner->fail(tuner->ask()->id);
        tuner->ask();
        chosen("search", kind++, tuner->save());
    }
    chosen("search", '\7', R"({"units": 8, "rate": 1e-3, "activation": "relu", "bias": true})");
}

void networks_in_bits() {
    const auto network = fuzz::small_network();
    bsq::BitNetwork bits(*network);
    bsq::FileInfo info{describe(fuzz::small_options()), 3, 50, 60, {}};
    info.normalization.mean = {0.5f, 0.5f, 0.5f};
    info.normalization.std = {0.2f, 0.2f, 0.2f};
    bsq::write_network(seed("bsq", "float"), bits, info);
    bits.to_bits(3);
    bsq::write_network(seed("bsq", "planes"), bits, info);
    bits.requantize();
    bsq::write_network(seed("bsq", "codes"), bits, info);
    put("bsq", "table", bsq::to_json(bits.table()));
    put("bsq", "result", R"({"accuracy": 0.5, "cross_entropy": 1, "best_accuracy": 0.5, "epochs": 2, "parameters": 9, "bits": 8, )"
                         R"("nonzero_bits": 7, "precision": {"fc": [8, 8]}})");
    bits.to_fixed();
    bsq::write_network(seed("bsq", "fixed"), bits, info);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) {
        std::fputs("usage: fuzz_seeds FOLDER\n", stderr);
        return 2;
    }
    folder = argv[1];
    try {
        idx();
        cifar();
        mat();
        hdf5_files();
        checkpoints();
        texts();
        quantizers();
        schemes();
        searches();
        networks_in_bits();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "fuzz_seeds: %s\n", error.what());
        return 1;
    }
}
