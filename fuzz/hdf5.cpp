// The HDF5 wrapper: everything in a file through every reading call, and data sets of images.
#include "engine/io/hdf5.h"

#include "engine/data/readers.h"
#include "engine/error.h"
#include "fuzz/harness.h"

namespace {

using namespace bitloom;

/// Calls that must each be able to fail without harm to the next.
template <class F>
void attempt(F&& call) {
    try {
        call();
    } catch (const Error&) {
    }
}

/// True where the file looks like a data set of images.
bool read_everything(const std::string& path) {
    const hdf5::File file = hdf5::File::open(path);
    attempt([&] {
        for (const std::string& name : file.datasets()) {
            attempt([&] { file.shape(name); });
            attempt([&] { file.read(name, file.dtype(name)); });
            attempt([&] { file.read_i64(name); });
            attempt([&] { file.read_f64(name); });
            attempt([&] { file.read_strings(name); });
            attempt([&] { file.attribute_f64(name, "crc32"); });
        }
    });
    attempt([&] { file.groups(); });
    for (const char* name : {"format", "version", "model", "mean_rgb"}) {
        attempt([&] { file.attribute_f64("", name); });
        attempt([&] { file.attribute_strings("", name); });
    }
    return file.has("images");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const fuzz::InputFile file(data, size);
    bool images = false;
    fuzz::check_reader(size, [&] { images = read_everything(file.path()); });
    if (images) fuzz::check_reader(size, [&] { read_hdf5_images(file.path()); });
    return 0;
}
