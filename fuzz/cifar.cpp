// CIFAR-10 and CIFAR-100 binary files.
#include "engine/data/readers.h"
#include "fuzz/harness.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace bitloom;
    const fuzz::InputFile file(data, size);
    fuzz::check_reader(size, [&] { read_cifar_files({file.path()}, 1, 10); });
    fuzz::check_reader(2 * size, [&] { read_cifar_files({file.path(), file.path()}, 2, 100); });
    return 0;
}
