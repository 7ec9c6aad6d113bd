#pragma once
// MATLAB v5 files ("MAT-File Format", MathWorks, chapter 1), read in one pass: numeric arrays, plain or compressed.
// Written here rather than taken from a library: files come from anywhere, and every length in one is held against
// what is there before it is believed. matio 1.5.23 (Debian 12), tried in its place under the bound on memory of the
// fuzz targets, took 4.06 GB for a damaged file of 424 bytes within a minute of fuzzing. Used by the readers only.

#include <zlib.h>

#include <cstdint>
#include <fstream>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace bitloom {

/// The header of a numeric array.
struct MatArray {
    std::string name;
    std::vector<std::uint64_t> extents;  ///< at least two; the first runs fastest in the data
    bool is_uint8 = false;               ///< MATLAB's class of the values, whatever they are stored as
    bool is_complex = false;
    std::uint64_t count = 0;  ///< product of the extents; not more than the file can hold
};

/// Goes from variable to variable; the values of the present one can be read once, in order. Every failure is an Error
/// that names the file.
class MatFile {
   public:
    explicit MatFile(const std::string& path);
    ~MatFile();
    MatFile(const MatFile&) = delete;
    MatFile& operator=(const MatFile&) = delete;

    /// The next numeric array; other variables are passed over. False at the end of the file.
    bool next();
    const MatArray& array() const { return array_; }
    /// Bytes that the values of the array take in the file, one after the other: 1 to 8.
    std::size_t stored_width() const;
    /// The next bytes of values stored in one byte each.
    void read_bytes(std::span<std::uint8_t> target);
    /// The next values, whatever they are stored as.
    void read_numbers(std::span<double> target);
    /// Throws Error unless the compressed data end here with the right checksum.
    void finish();

   private:
    class Inflater;
    struct Tag {
        std::uint32_t type = 0, bytes = 0;
        bool small = false;  ///< its data lie within the tag
        unsigned char data[4] = {};
    };
    void read_file(void* target, std::uint64_t bytes);
    void read_variable(void* target, std::uint64_t bytes);
    std::uint32_t word(const unsigned char* bytes) const;
    Tag read_tag();
    std::vector<unsigned char> read_small_element(const Tag& tag, const char* what, std::uint32_t most);
    bool read_header();

    std::string path_;
    std::ifstream file_;
    std::uint64_t file_bytes_ = 0, position_ = 0;
    bool swap_ = false;
    std::uint64_t next_variable_ = 0;  // where it begins
    std::uint64_t left_ = 0;           // bytes of the present variable: stored, or if compressed the most it can have
    std::unique_ptr<Inflater> inflater_;
    MatArray array_;
    Tag values_;
};

}  // namespace bitloom
