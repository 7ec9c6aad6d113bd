// SVHN's MATLAB files.
#include "engine/data/readers.h"
#include "fuzz/harness.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace bitloom;
    const fuzz::InputFile file(data, size);
    fuzz::check_reader(size, [&] { read_svhn_mat(file.path()); });
    return 0;
}
