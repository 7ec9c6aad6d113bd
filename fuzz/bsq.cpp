// Files of networks in bits, read into a small network; and, where the input is no HDF5 file, precision tables and results of
// runs, which are text.
#include "apps/bsq/run.h"
#include "fuzz/harness.h"
#include "fuzz/small_network.h"
#include "quant/bsq/files.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace bitloom;
    const std::string text(reinterpret_cast<const char*>(data), size);
    if (text.starts_with("\x89HDF")) {
        const fuzz::InputFile file(data, size);
        fuzz::check_reader(size, [&] {
            const auto network = fuzz::small_network();
            bsq::BitNetwork bits(*network);
            bsq::read_network(file.path(), bits);
            bits.sizes();
        });
        return 0;
    }
    fuzz::check_reader(size, [&] {
        const auto network = fuzz::small_network();
        bsq::BitNetwork bits(*network);
        bits.set_precision(bsq::precision_table_from_json(text));
        bits.to_bits(8);
    });
    fuzz::check_reader(size, [&] { bsq::to_json(bsq::result_from_json(text)); });
    return 0;
}
