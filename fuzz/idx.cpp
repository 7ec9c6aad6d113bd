// MNIST's IDX files, plain and gzip (what begins like gzip is read as such).
#include "engine/data/readers.h"
#include "fuzz/harness.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace bitloom;
    const fuzz::InputFile file(data, size);
    fuzz::check_reader(size, [&] { read_idx_images(file.path()); });
    fuzz::check_reader(size, [&] { read_idx_labels(file.path()); });
    return 0;
}
