#include "engine/data/mat_file.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "engine/data/files.h"
#include "engine/error.h"

namespace bitloom {

namespace {

constexpr std::uint32_t type_matrix = 14, type_compressed = 15, type_dimensions = 5, type_flags = 6;
constexpr std::uint32_t class_double = 6, class_uint8 = 9, class_uint64 = 15;
constexpr std::uint64_t header_bytes = 128, tag_bytes = 8;

/// Bytes of one value of a numeric element type; 0 for other types.
std::size_t width_of(std::uint32_t type) {
    constexpr std::array<std::uint8_t, 14> widths{0, 1, 1, 2, 2, 4, 4, 4, 0, 8, 0, 0, 8, 8};
    return type < widths.size() ? widths[type] : 0;
}

template <class T>
double value_of(const unsigned char* bytes, bool swap) {
    std::array<unsigned char, sizeof(T)> raw;
    std::copy_n(bytes, sizeof(T), raw.begin());
    if (swap) std::reverse(raw.begin(), raw.end());
    return static_cast<double>(std::bit_cast<T>(raw));
}

double number(std::uint32_t type, const unsigned char* bytes, bool swap) {
    switch (type) {
        case 1:
            return value_of<std::int8_t>(bytes, swap);
        case 2:
            return value_of<std::uint8_t>(bytes, swap);
        case 3:
            return value_of<std::int16_t>(bytes, swap);
        case 4:
            return value_of<std::uint16_t>(bytes, swap);
        case 5:
            return value_of<std::int32_t>(bytes, swap);
        case 6:
            return value_of<std::uint32_t>(bytes, swap);
        case 7:
            return value_of<float>(bytes, swap);
        case 9:
            return value_of<double>(bytes, swap);
        case 12:
            return value_of<std::int64_t>(bytes, swap);
        default:
            return value_of<std::uint64_t>(bytes, swap);
    }
}

}  // namespace

/// Inflates the bytes of one compressed variable.
class MatFile::Inflater {
   public:
    Inflater(MatFile& source, std::uint64_t compressed) : source_(source), left_(compressed) {
        require(inflateInit(&stream_) == Z_OK, source.path_, ": zlib cannot be started");
    }
    ~Inflater() { inflateEnd(&stream_); }
    Inflater(const Inflater&) = delete;
    Inflater& operator=(const Inflater&) = delete;

    /// Fills the target as far as the data reach; how many bytes that are.
    std::uint64_t read(unsigned char* target, std::uint64_t bytes) {
        std::uint64_t done = 0;
        while (done < bytes && !ended_) {
            if (stream_.avail_in == 0) refill();
            const auto room = static_cast<uInt>(std::min<std::uint64_t>(bytes - done, 1u << 30));
            stream_.next_out = target + done;
            stream_.avail_out = room;
            const int status = inflate(&stream_, Z_NO_FLUSH);
            done += room - stream_.avail_out;
            ended_ = status == Z_STREAM_END;
            const bool starved = status == Z_BUF_ERROR && stream_.avail_in == 0 && left_ > 0;
            require(status == Z_OK || ended_ || starved, source_.path_, ": truncated or damaged compressed data");
        }
        return done;
    }
    /// True where nothing but the end with its checksum follows.
    bool at_end() {
        unsigned char byte;
        return read(&byte, 1) == 0 && ended_;
    }

   private:
    void refill() {
        const auto wanted = std::min<std::uint64_t>(left_, input_.size());
        source_.read_file(input_.data(), wanted);
        left_ -= wanted;
        stream_.next_in = input_.data();
        stream_.avail_in = static_cast<uInt>(wanted);
    }

    MatFile& source_;
    std::uint64_t left_;
    z_stream stream_{};
    bool ended_ = false;
    std::vector<unsigned char> input_ = std::vector<unsigned char>(1u << 16);
};

MatFile::MatFile(const std::string& path) : path_(path), file_bytes_(file_size(path)) {
    file_.open(path, std::ios::binary);
    require(file_.good(), path, ": cannot be opened");
    require(file_bytes_ >= header_bytes, path, ": truncated: shorter than a MATLAB header");
    std::array<unsigned char, header_bytes> header;
    read_file(header.data(), header.size());
    const bool little = header[126] == 'I' && header[127] == 'M', big = header[126] == 'M' && header[127] == 'I';
    const int version = little ? header[125] : header[124];
    require(little || big, path, ": not a MATLAB v5 file");
    require(version == 1, path, ": not a MATLAB v5 file", version == 2 ? " but a MATLAB v7.3 file" : "");
    swap_ = big == (std::endian::native == std::endian::little);
    next_variable_ = header_bytes;
}

MatFile::~MatFile() = default;

void MatFile::read_file(void* target, std::uint64_t bytes) {
    require(bytes <= file_bytes_ - std::min(file_bytes_, position_), path_, ": truncated: ends after ", file_bytes_,
            " bytes");
    file_.read(static_cast<char*>(target), static_cast<std::streamsize>(bytes));
    require(file_.gcount() == static_cast<std::streamsize>(bytes), path_, ": truncated while it was read");
    position_ += bytes;
}

/// Bytes of the present variable, inflated where it is compressed.
void MatFile::read_variable(void* target, std::uint64_t bytes) {
    require(bytes <= left_, path_, ": a variable ends early (damaged file)");
    left_ -= bytes;
    if (inflater_)
        require(inflater_->read(static_cast<unsigned char*>(target), bytes) == bytes, path_,
                ": truncated or damaged compressed data");
    else
        read_file(target, bytes);
}

std::uint32_t MatFile::word(const unsigned char* bytes) const {
    std::uint32_t value;
    std::memcpy(&value, bytes, sizeof value);
    return swap_ ? __builtin_bswap32(value) : value;
}

MatFile::Tag MatFile::read_tag() {
    unsigned char raw[tag_bytes];
    read_variable(raw, sizeof raw);
    const std::uint32_t first = word(raw);
    Tag tag{first, word(raw + 4)};
    if (const std::uint32_t bytes = first >> 16; bytes != 0) {  // the short form: length and type share a word
        tag = {first & 0xffff, bytes, true};
        require(bytes <= sizeof tag.data, path_, ": a short element of ", bytes, " bytes (damaged file)");
        std::memcpy(tag.data, raw + 4, sizeof tag.data);
    }
    return tag;
}

/// An element of the array's header, which the file may not make long.
std::vector<unsigned char> MatFile::read_small_element(const Tag& tag, const char* what, std::uint32_t most) {
    if (tag.small) return {tag.data, tag.data + tag.bytes};
    require(tag.bytes <= most, path_, ": ", what, " of ", tag.bytes, " bytes (damaged file)");
    std::vector<unsigned char> padded((tag.bytes + 7u) / 8 * 8);
    read_variable(padded.data(), padded.size());
    padded.resize(tag.bytes);
    return padded;
}

/// Flags, extents, name and the tag of the values; false where the variable is no numeric array.
bool MatFile::read_header() {
    const Tag flags_tag = read_tag();
    const std::vector<unsigned char> flags = read_small_element(flags_tag, "array flags", 8);
    require(flags_tag.type == type_flags && flags.size() == 8, path_, ": an array without flags (damaged file)");
    const std::uint32_t kind = word(flags.data()) & 0xff;
    if (kind < class_double || kind > class_uint64) return false;
    array_ = {};
    array_.is_uint8 = kind == class_uint8;
    array_.is_complex = (word(flags.data()) & 0x800) != 0;

    constexpr std::uint32_t most_axes = 32, longest_name = 4096;
    const Tag extents_tag = read_tag();
    const std::vector<unsigned char> extents = read_small_element(extents_tag, "extents", 4 * most_axes);
    require(extents_tag.type == type_dimensions && extents.size() >= 8 && extents.size() % 4 == 0, path_,
            ": an array without extents (damaged file)");
    const std::vector<unsigned char> name = read_small_element(read_tag(), "a name", longest_name);
    array_.name.assign(name.begin(), name.end());
    // Quoted in messages, which are one line.
    for (char& c : array_.name)
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';

    values_ = read_tag();
    const std::size_t width = width_of(values_.type);
    require(width != 0, path_, ": variable ", array_.name, " has values of an unknown type (damaged file)");
    const std::uint64_t room = values_.small ? values_.bytes : left_;
    array_.count = 1;
    for (std::size_t i = 0; i < extents.size(); i += 4) {
        array_.extents.push_back(word(extents.data() + i));
        require(!__builtin_mul_overflow(array_.count, array_.extents.back(), &array_.count) && array_.count <= room,
                path_, ": variable ", array_.name, " claims more elements than the file can hold");
    }
    require(values_.bytes == array_.count * width && values_.bytes <= room, path_, ": variable ", array_.name, " has ",
            array_.count, " elements but ", values_.bytes, " bytes of values (truncated or damaged file)");
    return true;
}

bool MatFile::next() {
    while (true) {
        inflater_.reset();
        if (next_variable_ >= file_bytes_) return false;
        file_.clear();
        file_.seekg(static_cast<std::streamoff>(next_variable_));
        position_ = next_variable_;
        left_ = file_bytes_ - position_;
        Tag tag = read_tag();
        require(!tag.small, path_, ": a variable in the short form (damaged file)");
        require(tag.bytes <= left_, path_, ": truncated: a variable of ", tag.bytes, " bytes begins at ",
                next_variable_);
        left_ = tag.bytes;
        next_variable_ = position_ + tag.bytes;
        if (tag.type == type_compressed) {
            constexpr std::uint64_t deflate_limit = 1032;  // zlib's documented greatest compression ratio
            inflater_ = std::make_unique<Inflater>(*this, tag.bytes);
            left_ = tag.bytes * deflate_limit;
            tag = read_tag();
            require(!tag.small, path_, ": a variable in the short form (damaged file)");
            left_ = std::min<std::uint64_t>(left_, tag.bytes);
        }
        if (tag.type == type_matrix && read_header()) return true;
    }
}

std::size_t MatFile::stored_width() const { return width_of(values_.type); }

void MatFile::read_bytes(std::span<std::uint8_t> target) {
    if (!values_.small) return read_variable(target.data(), target.size());
    require(target.size() <= values_.bytes, path_, ": a variable ends early (damaged file)");
    std::copy_n(values_.data, target.size(), target.data());
    std::copy(values_.data + target.size(), values_.data + values_.bytes, values_.data);
    values_.bytes -= static_cast<std::uint32_t>(target.size());
}

void MatFile::read_numbers(std::span<double> target) {
    const std::size_t width = stored_width();
    std::array<unsigned char, 8> raw;
    for (double& value : target) {
        read_bytes({raw.data(), width});
        value = number(values_.type, raw.data(), swap_);
    }
}

void MatFile::finish() {
    if (!inflater_) return;
    // What follows real values: padding, an imaginary part that nobody asked for.
    std::array<unsigned char, 256> rest;
    while (left_ > 0) {
        const std::uint64_t part = std::min<std::uint64_t>(left_, rest.size());
        read_variable(rest.data(), part);
    }
    require(inflater_->at_end(), path_, ": compressed data go on behind their end (damaged file)");
}

}  // namespace bitloom
