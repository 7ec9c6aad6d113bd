#include "engine/io/npz.h"

#include <zip.h>

#include <bit>
#include <memory>

#include "engine/error.h"
#include "engine/io/atomic_file.h"

namespace bitloom {

namespace {

static_assert(std::endian::native == std::endian::little, "the header below says '<f8'");

/// Version 1.0 of the .npy format: magic, header length, a Python dictionary padded to a multiple of 64 bytes, the
/// values.
std::string npy(const std::vector<double>& values) {
    std::string header = cat("{'descr': '<f8', 'fortran_order': False, 'shape': (", values.size(), ",), }");
    constexpr std::size_t prefix = 10, alignment = 64;
    while ((prefix + header.size() + 1) % alignment != 0) header += ' ';
    header += '\n';
    std::string file("\x93NUMPY\x01\x00", 8);
    file += static_cast<char>(header.size() & 0xff);
    file += static_cast<char>(header.size() >> 8);
    file += header;
    file.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(double));
    return file;
}

}  // namespace

void write_npz(const std::string& path, const std::vector<std::pair<std::string, std::vector<double>>>& arrays) {
    zip_error_t error;
    zip_error_init(&error);
    // Built in memory, so that the file itself is written in one atomic step. The source outlives the archive.
    const std::unique_ptr<zip_source_t, decltype(&zip_source_free)> target(
        zip_source_buffer_create(nullptr, 0, 0, &error), &zip_source_free);
    require(target != nullptr, path, ": ", zip_error_strerror(&error));
    zip_source_keep(target.get());
    zip_t* archive = zip_open_from_source(target.get(), ZIP_TRUNCATE, &error);
    require(archive != nullptr, path, ": ", zip_error_strerror(&error));
    const auto check = [&](bool good) {
        if (good) return;
        const std::string reason = zip_strerror(archive);
        zip_discard(archive);
        fail(path, ": ", reason);
    };
    std::vector<std::string> files;
    files.reserve(arrays.size());  // libzip reads the buffers when the archive is closed
    for (const auto& [name, values] : arrays) {
        files.push_back(npy(values));
        zip_source_t* source = zip_source_buffer(archive, files.back().data(), files.back().size(), 0);
        check(source != nullptr);
        const zip_int64_t index = zip_file_add(archive, (name + ".npy").c_str(), source, ZIP_FL_ENC_UTF_8);
        if (index < 0) zip_source_free(source);
        check(index >= 0);
        const auto entry = static_cast<zip_uint64_t>(index);
        check(zip_set_file_compression(archive, entry, ZIP_CM_STORE, 0) == 0);
        // A fixed date: equal results give equal files.
        check(zip_file_set_dostime(archive, entry, 0, (1 << 5) | 1, 0) == 0);
    }
    check(zip_close(archive) == 0);
    std::string contents;
    require(zip_source_open(target.get()) == 0, path, ": ", zip_error_strerror(zip_source_error(target.get())));
    zip_source_seek(target.get(), 0, SEEK_END);
    contents.resize(static_cast<std::size_t>(zip_source_tell(target.get())));
    zip_source_seek(target.get(), 0, SEEK_SET);
    const zip_int64_t got = zip_source_read(target.get(), contents.data(), contents.size());
    zip_source_close(target.get());
    require(got == static_cast<zip_int64_t>(contents.size()), path, ": the archive could not be read back");
    write_file_atomically(path, contents);
}

}  // namespace bitloom
