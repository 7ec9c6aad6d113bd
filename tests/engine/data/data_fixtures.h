#pragma once
// What the tests of data sets share: small images, hand-written files, and where the real sets lie.

#include <zlib.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "engine/data/dataset.h"
#include "tests/engine/io/temporary_folder.h"

namespace bitloom {

/// `count` images whose byte i of image n is (7 n + i) % 251, labels n % classes.
inline std::shared_ptr<MemoryDataset> counting_images(std::int64_t count, const Shape& image, int classes = 10) {
    Tensor images = Tensor::empty({count, image[0], image[1], image[2]}, DType::u8);
    std::uint8_t* out = images.write<std::uint8_t>();
    std::vector<std::int32_t> labels;
    for (std::int64_t n = 0; n < count; ++n) {
        for (std::int64_t i = 0; i < image.numel(); ++i) *out++ = static_cast<std::uint8_t>((7 * n + i) % 251);
        labels.push_back(static_cast<std::int32_t>(n % classes));
    }
    return std::make_shared<MemoryDataset>(images, labels, classes);
}

inline std::string big_endian(std::uint32_t word) {
    return {static_cast<char>(word >> 24), static_cast<char>(word >> 16), static_cast<char>(word >> 8),
            static_cast<char>(word)};
}

/// An IDX image file whose header claims `count` images of side x side, followed by `pixels`.
inline std::string idx_images(std::uint32_t count, std::uint32_t side, const std::string& pixels) {
    return big_endian(0x803) + big_endian(count) + big_endian(side) + big_endian(side) + pixels;
}
inline std::string idx_labels(std::uint32_t count, const std::string& labels) {
    return big_endian(0x801) + big_endian(count) + labels;
}

inline std::string gzip(const std::string& text) {
    TemporaryFolder folder;
    const std::string path = folder.file("packed.gz");
    gzFile file = gzopen(path.c_str(), "wb");
    gzwrite(file, text.data(), static_cast<unsigned>(text.size()));
    gzclose(file);
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

/// The folder of the real data sets: BITLOOM_DATA, or ../shared/data beside the sources.
inline std::filesystem::path real_data_folder() {
    const char* given = std::getenv("BITLOOM_DATA");
    return given ? std::filesystem::path(given) : std::filesystem::path(BITLOOM_SOURCE_DIR) / ".." / "shared" / "data";
}

}  // namespace bitloom
