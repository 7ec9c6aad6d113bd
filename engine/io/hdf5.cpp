#include "engine/io/hdf5.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>
#include <functional>
#include <set>

#include "engine/io/flag_values.h"
#include "engine/io/hdf5_handle.h"

namespace bitloom::hdf5 {

std::string reason() {
    std::string text;
    const auto innermost = [](unsigned n, const H5E_error2_t* error, void* out) -> herr_t {
        if (n == 0 && error->desc) *static_cast<std::string*>(out) = error->desc;
        return 0;
    };
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, innermost, &text);
    H5Eclear2(H5E_DEFAULT);
    constexpr std::string_view system_message = "error message = '";
    if (const auto at = text.find(system_message); at != std::string::npos) {
        const auto first = at + system_message.size();
        text = text.substr(first, text.find('\'', first) - first);
    }
    std::replace(text.begin(), text.end(), '\n', ' ');
    return text.empty() ? "HDF5 gives no reason" : text;
}

std::string label(const std::string& path, std::string_view object) {
    return object.empty() ? path : cat(path, ": ", in_quotes(object));
}

Id type_of(DType dtype) {
    const auto copy = [](hid_t type) { return Id(H5Tcopy(type), H5Tclose, "HDF5 type"); };
    switch (dtype) {
        case DType::f32:
            return copy(H5T_NATIVE_FLOAT);
        case DType::f64:
            return copy(H5T_NATIVE_DOUBLE);
        case DType::i32:
            return copy(H5T_NATIVE_INT32);
        case DType::i8:
            return copy(H5T_NATIVE_INT8);
        case DType::u8:
            return copy(H5T_NATIVE_UINT8);
        case DType::bf16:
            break;
    }
    Id type = copy(H5T_IEEE_F32LE);
    // Fields before the size: HDF5 refuses a size that cuts the present ones off.
    check(H5Tset_fields(type, 15, 7, 8, 0, 7), "HDF5 type bf16");
    check(H5Tset_precision(type, 16), "HDF5 type bf16");
    check(H5Tset_size(type, 2), "HDF5 type bf16");
    check(H5Tset_ebias(type, 127), "HDF5 type bf16");
    return type;
}

bool exists(hid_t file, std::string_view object) {
    std::string path;
    while (!object.empty()) {
        const std::string_view head = object.substr(0, object.find('/'));
        object.remove_prefix(std::min(object.size(), head.size() + 1));
        if (head.empty()) continue;
        path += (path.empty() ? "" : "/") + std::string(head);
        if (H5Lexists(file, path.c_str(), H5P_DEFAULT) <= 0 || H5Oexists_by_name(file, path.c_str(), H5P_DEFAULT) <= 0)
            return false;
    }
    return true;
}

namespace {

/// What a numeric reader needs to know of a dataset or an attribute.
struct Extent {
    Shape shape;
    std::int64_t count = 0;
};

Extent extent_of(hid_t space, const std::string& who) {
    Extent extent;
    switch (H5Sget_simple_extent_type(space)) {
        case H5S_SCALAR:
            extent.count = 1;
            return extent;
        case H5S_NULL:
            extent.shape = Shape{0};
            return extent;
        case H5S_SIMPLE:
            break;
        default:
            fail(who, ": ", reason());
    }
    const int rank = H5Sget_simple_extent_ndims(space);
    if (rank < 0) fail(who, ": ", reason());
    require(rank <= Shape::max_rank, who, ": has ", rank, " axes, at most ", Shape::max_rank, " are supported");
    hsize_t extents[Shape::max_rank];
    check(H5Sget_simple_extent_dims(space, extents, nullptr), who);
    extent.count = 1;
    for (int i = 0; i < rank; ++i) {
        std::int64_t product = 0;
        // Elements of 8 bytes must be countable in bytes as well.
        const bool overflow = extents[i] > (hsize_t{1} << 60) ||
                              __builtin_mul_overflow(extent.count, static_cast<std::int64_t>(extents[i]), &product) ||
                              product > (std::int64_t{1} << 60);
        require(!overflow, who, ": its extents overflow (damaged file?)");
        extent.shape.append(static_cast<std::int64_t>(extents[i]));
        extent.count = product;
    }
    return extent;
}

const char* class_name(H5T_class_t type_class) {
    switch (type_class) {
        case H5T_INTEGER:
            return "integers";
        case H5T_FLOAT:
            return "floating-point numbers";
        case H5T_TIME:
            return "times";
        case H5T_STRING:
            return "strings";
        case H5T_BITFIELD:
            return "bit fields";
        case H5T_OPAQUE:
            return "opaque values";
        case H5T_COMPOUND:
            return "compound values";
        case H5T_REFERENCE:
            return "references";
        case H5T_ENUM:
            return "enumerated values";
        case H5T_VLEN:
            return "variable-length sequences";
        case H5T_ARRAY:
            return "arrays";
        default:
            return "values of an unknown type";
    }
}

/// Enumerations count as numbers: h5py stores booleans so.
void require_numeric(hid_t type, const std::string& who) {
    const H5T_class_t type_class = H5Tget_class(type);
    require(type_class == H5T_INTEGER || type_class == H5T_FLOAT || type_class == H5T_ENUM, who, ": holds ",
            class_name(type_class), ", not numbers");
}

void require_strings(hid_t type, const std::string& who) {
    const H5T_class_t type_class = H5Tget_class(type);
    require(type_class == H5T_STRING, who, ": holds ", class_name(type_class), ", not strings");
}

/// Refuses a dataset whose stored bytes cannot make up its elements, before memory is asked for them.
void require_plausible(hid_t dataset, hid_t file, const Extent& extent, std::size_t element_bytes,
                       const std::string& who) {
    if (extent.count == 0) return;
    const Id creation(H5Dget_create_plist(dataset), H5Pclose, who);
    if (H5Pget_external_count(creation) > 0) fail(who, ": keeps its data in another file, which is not supported");
    const H5D_layout_t layout = H5Pget_layout(creation);
    require(layout != H5D_VIRTUAL, who, ": is a virtual dataset, which is not supported");
    const bool filtered = layout == H5D_CHUNKED && H5Pget_nfilters(creation) > 0;
    const double needed = static_cast<double>(extent.count) * static_cast<double>(element_bytes);
    const hsize_t stored = H5Dget_storage_size(dataset);
    hsize_t file_bytes = 0;
    check(H5Fget_filesize(file, &file_bytes), who);
    // No byte of deflate makes more than 1032; other filters that are seen in practice pack less.
    constexpr double most_expansion = 1100;
    const double possible = static_cast<double>(stored) * (filtered ? most_expansion : 1.0);
    require(stored != 0, who, ": has shape ", extent.shape, " but was never written");
    require(stored <= file_bytes && needed <= possible, who, ": shape ", extent.shape, " needs ", needed, " bytes, ",
            stored, " are stored (damaged or incomplete file?)");
}

/// The same for an attribute.
void require_stored(hid_t attribute, const Extent& extent, std::size_t element_bytes, const std::string& who) {
    const hsize_t stored = H5Aget_storage_size(attribute);
    require(static_cast<double>(extent.count) * static_cast<double>(element_bytes) <= static_cast<double>(stored), who,
            ": shape ", extent.shape, " needs more than the ", stored, " bytes stored (damaged file?)");
}

/// Called by HDF5 for every value that a conversion would change: only rounding passes, nothing is clipped or
/// truncated.
H5T_conv_ret_t refuse_loss(H5T_conv_except_t kind, hid_t, hid_t, void*, void*, void* lost) {
    if (kind == H5T_CONV_EXCEPT_PRECISION) return H5T_CONV_UNHANDLED;
    *static_cast<bool*>(lost) = true;
    return H5T_CONV_ABORT;
}

void read_numbers(hid_t dataset, hid_t memory_type, void* target, const std::string& who, std::string_view wanted) {
    const Id transfer(H5Pcreate(H5P_DATASET_XFER), H5Pclose, who);
    bool lost = false;
    if (H5Tget_class(memory_type) == H5T_INTEGER) check(H5Pset_type_conv_cb(transfer, refuse_loss, &lost), who);
    if (H5Dread(dataset, memory_type, H5S_ALL, H5S_ALL, transfer, target) >= 0) return;
    require(!lost, who, ": a value does not fit ", wanted);
    fail(who, ": cannot be read: ", reason());
}

/// Strings of a dataset or an attribute; `read(memory_type, buffer)` fetches them.
std::vector<std::string> read_text(hid_t type, hid_t space, const std::string& who,
                                   const std::function<herr_t(hid_t, void*)>& read) {
    const auto count = static_cast<std::size_t>(extent_of(space, who).count);
    std::vector<std::string> values(count);
    if (count == 0) return values;
    const Id memory_type(H5Tcopy(type), H5Tclose, who);
    if (H5Tis_variable_str(type) > 0) {
        std::vector<char*> pointers(count, nullptr);
        const herr_t status = read(memory_type, pointers.data());
        const std::string why = status < 0 ? reason() : std::string();
        for (std::size_t i = 0; status >= 0 && i < count; ++i)
            if (pointers[i]) values[i] = pointers[i];
        H5Dvlen_reclaim(memory_type, space, H5P_DEFAULT, pointers.data());
        require(status >= 0, who, ": cannot be read: ", why);
        return values;
    }
    const std::size_t width = H5Tget_size(type);
    const H5T_str_t padding = H5Tget_strpad(type);
    std::vector<char> bytes(count * width);
    if (read(memory_type, bytes.data()) < 0) fail(who, ": cannot be read: ", reason());
    for (std::size_t i = 0; i < count; ++i) {
        std::string_view text(bytes.data() + i * width, width);
        if (padding == H5T_STR_NULLTERM) {
            text = text.substr(0, text.find('\0'));
        } else {
            const auto last = text.find_last_not_of(padding == H5T_STR_SPACEPAD ? ' ' : '\0');
            text = text.substr(0, last == std::string_view::npos ? 0 : last + 1);
        }
        values[i] = text;
    }
    return values;
}

/// Names of the hard links of a group, in name order.
std::vector<std::string> links(hid_t group, const std::string& who) {
    std::vector<std::string> names;
    const auto add = [](hid_t, const char* name, const H5L_info_t* info, void* out) -> herr_t {
        if (info->type == H5L_TYPE_HARD) static_cast<std::vector<std::string>*>(out)->emplace_back(name);
        return 0;
    };
    check(H5Literate(group, H5_INDEX_NAME, H5_ITER_INC, nullptr, add, &names), who);
    return names;
}

H5O_info_t info_of(hid_t location, const std::string& name, const std::string& who) {
    H5O_info_t info;
    check(H5Oget_info_by_name2(location, name.c_str(), &info, H5O_INFO_BASIC, H5P_DEFAULT), who);
    return info;
}

/// Groups may be linked in circles: each is entered once.
void collect_datasets(hid_t group, const std::string& prefix, const std::string& path, std::set<haddr_t>& seen,
                      std::vector<std::string>& found) {
    for (const std::string& name : links(group, label(path, prefix))) {
        const std::string full = prefix.empty() ? name : prefix + "/" + name;
        const std::string who = label(path, full);
        const H5O_info_t info = info_of(group, name, who);
        if (info.type == H5O_TYPE_DATASET) found.push_back(full);
        if (info.type == H5O_TYPE_GROUP && seen.insert(info.addr).second)
            collect_datasets(Id(H5Gopen2(group, name.c_str(), H5P_DEFAULT), H5Gclose, who), full, path, seen, found);
    }
}

Id open_attribute(const File::Handle& handle, std::string_view object, std::string_view name, const std::string& who) {
    const Id owner = handle.open_object(object);
    require(H5Aexists(owner, std::string(name).c_str()) > 0, who, ": no such attribute");
    return Id(H5Aopen(owner, std::string(name).c_str(), H5P_DEFAULT), H5Aclose, who);
}

std::string attribute_label(const std::string& path, std::string_view object, std::string_view name) {
    return cat(label(path, object), ": attribute '", name, "'");
}

}  // namespace

Id File::Handle::open_object(std::string_view object) const {
    const std::string who = label(path, object);
    require(file.valid(), path, ": used after it was closed");
    const hid_t id = H5Oopen(file, object.empty() ? "/" : std::string(object).c_str(), H5P_DEFAULT);
    if (id < 0) {
        const std::string why = reason();
        fail(who, ": ", exists(file, object) ? why : "no such object");
    }
    return Id(id, H5Oclose, who);
}

Id File::Handle::open_dataset(std::string_view dataset) const {
    Id id = open_object(dataset);
    require(H5Iget_type(id) == H5I_DATASET, label(path, dataset), ": is not a dataset");
    return id;
}

File::File(std::unique_ptr<Handle> handle) : handle_(std::move(handle)) {}
File::File(File&&) noexcept = default;

File& File::operator=(File&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
}

File::~File() {
    if (!handle_) return;
    if (handle_->writing && handle_->file.valid() && std::uncaught_exceptions() == handle_->exceptions) {
        try {
            close();
        } catch (const std::exception&) {  // close() is there for those who want to know
        }
    }
    // A closed file still owns property lists.
    Lock lock;
    handle_.reset();
}

const std::string& File::path() const { return handle_->path; }

File File::open(const std::string& path) {
    // The system knows best why a file cannot be opened.
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    require(descriptor >= 0, path, ": ", std::strerror(errno));
    struct stat status {};
    const bool regular = ::fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode);
    ::close(descriptor);
    require(regular, path, ": ", S_ISDIR(status.st_mode) ? "is a folder" : "not a regular file");

    Lock lock;
    const Id access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose, path);
    check(H5Pset_fclose_degree(access, H5F_CLOSE_STRONG), path);
    check(H5Pset_file_locking(access, false, true), path);  // locks fail on read-only and network file systems
    probe(path, access);
    require(H5Fis_hdf5(path.c_str()) > 0, path, ": not an HDF5 file");
    auto handle = std::make_unique<Handle>();
    handle->path = path;
    handle->file = Id(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access), H5Fclose, path);
    return File(std::move(handle));
}

std::vector<std::string> File::datasets(std::string_view group) const {
    Lock lock;
    const Id id = handle_->open_object(group);
    require(H5Iget_type(id) == H5I_GROUP, label(path(), group), ": is not a group");
    std::vector<std::string> found;
    std::set<haddr_t> seen{info_of(id, ".", label(path(), group)).addr};
    collect_datasets(id, std::string(group), path(), seen, found);
    return found;
}

std::vector<std::string> File::groups(std::string_view group) const {
    Lock lock;
    const Id id = handle_->open_object(group);
    require(H5Iget_type(id) == H5I_GROUP, label(path(), group), ": is not a group");
    std::vector<std::string> found;
    for (const std::string& name : links(id, label(path(), group)))
        if (info_of(id, name, label(path(), name)).type == H5O_TYPE_GROUP) found.push_back(name);
    return found;
}

bool File::has(std::string_view object) const {
    Lock lock;
    require(handle_->file.valid(), path(), ": used after it was closed");
    return exists(handle_->file, object);
}

Shape File::shape(std::string_view dataset) const {
    Lock lock;
    const std::string who = label(path(), dataset);
    const Id id = handle_->open_dataset(dataset);
    return extent_of(Id(H5Dget_space(id), H5Sclose, who), who).shape;
}

DType File::dtype(std::string_view dataset) const {
    Lock lock;
    const std::string who = label(path(), dataset);
    const Id id = handle_->open_dataset(dataset);
    const Id type(H5Dget_type(id), H5Tclose, who);
    require_numeric(type, who);
    const std::size_t bytes = H5Tget_size(type);
    if (H5Tget_class(type) == H5T_FLOAT) {
        if (H5Tequal(type, type_of(DType::bf16)) > 0) return DType::bf16;
        return bytes <= 4 ? DType::f32 : DType::f64;
    }
    const Id base(H5Tget_class(type) == H5T_ENUM ? H5Tget_super(type) : H5Tcopy(type), H5Tclose, who);
    const bool is_signed = H5Tget_sign(base) == H5T_SGN_2;
    if (bytes == 1) return is_signed ? DType::i8 : DType::u8;
    return bytes == 2 || (bytes == 4 && is_signed) ? DType::i32 : DType::f64;
}

Tensor File::read(std::string_view dataset, DType dtype) const {
    Lock lock;
    const std::string who = label(path(), dataset);
    const Id id = handle_->open_dataset(dataset);
    const Id type(H5Dget_type(id), H5Tclose, who);
    require_numeric(type, who);
    const Extent extent = extent_of(Id(H5Dget_space(id), H5Sclose, who), who);
    require_plausible(id, handle_->file, extent, H5Tget_size(type), who);
    Tensor values = Tensor::empty(extent.shape, dtype);
    if (extent.count != 0) read_numbers(id, type_of(dtype), values.raw_write(), who, name_of(dtype));
    return values;
}

namespace {
template <class T>
std::vector<T> read_vector(const File::Handle& handle, std::string_view dataset, hid_t memory_type,
                           std::string_view wanted) {
    const std::string who = label(handle.path, dataset);
    const Id id = handle.open_dataset(dataset);
    const Id type(H5Dget_type(id), H5Tclose, who);
    require_numeric(type, who);
    const Extent extent = extent_of(Id(H5Dget_space(id), H5Sclose, who), who);
    require_plausible(id, handle.file, extent, H5Tget_size(type), who);
    std::vector<T> values(static_cast<std::size_t>(extent.count));
    if (!values.empty()) read_numbers(id, memory_type, values.data(), who, wanted);
    return values;
}
}  // namespace

std::vector<std::int64_t> File::read_i64(std::string_view dataset) const {
    Lock lock;
    return read_vector<std::int64_t>(*handle_, dataset, H5T_NATIVE_INT64, "a 64-bit integer");
}

std::vector<double> File::read_f64(std::string_view dataset) const {
    Lock lock;
    return read_vector<double>(*handle_, dataset, H5T_NATIVE_DOUBLE, "f64");
}

std::vector<std::string> File::read_strings(std::string_view dataset) const {
    Lock lock;
    const std::string who = label(path(), dataset);
    const Id id = handle_->open_dataset(dataset);
    const Id type(H5Dget_type(id), H5Tclose, who);
    require_strings(type, who);
    const Id space(H5Dget_space(id), H5Sclose, who);
    require_plausible(id, handle_->file, extent_of(space, who), H5Tget_size(type), who);
    return read_text(type, space, who, [&](hid_t memory_type, void* buffer) {
        return H5Dread(id, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, buffer);
    });
}

bool File::has_attribute(std::string_view object, std::string_view name) const {
    Lock lock;
    return H5Aexists(handle_->open_object(object), std::string(name).c_str()) > 0;
}

std::vector<std::string> File::attributes(std::string_view object) const {
    Lock lock;
    std::vector<std::string> names;
    hsize_t position = 0;
    const auto collect = [](hid_t, const char* name, const H5A_info_t*, void* found) -> herr_t {
        static_cast<std::vector<std::string>*>(found)->emplace_back(name);
        return 0;
    };
    check(H5Aiterate2(handle_->open_object(object), H5_INDEX_NAME, H5_ITER_INC, &position, collect, &names),
          label(path(), object));
    return names;
}

bool File::attribute_is_text(std::string_view object, std::string_view name) const {
    Lock lock;
    const std::string who = attribute_label(path(), object, name);
    const Id type(H5Aget_type(open_attribute(*handle_, object, name, who)), H5Tclose, who);
    return H5Tget_class(type) == H5T_STRING;
}

std::vector<double> File::attribute_f64(std::string_view object, std::string_view name) const {
    Lock lock;
    const std::string who = attribute_label(path(), object, name);
    const Id id = open_attribute(*handle_, object, name, who);
    const Id type(H5Aget_type(id), H5Tclose, who);
    require_numeric(type, who);
    const Extent extent = extent_of(Id(H5Aget_space(id), H5Sclose, who), who);
    require_stored(id, extent, H5Tget_size(type), who);
    std::vector<double> values(static_cast<std::size_t>(extent.count));
    if (!values.empty()) check(H5Aread(id, H5T_NATIVE_DOUBLE, values.data()), who);
    return values;
}

std::vector<std::string> File::attribute_strings(std::string_view object, std::string_view name) const {
    Lock lock;
    const std::string who = attribute_label(path(), object, name);
    const Id id = open_attribute(*handle_, object, name, who);
    const Id type(H5Aget_type(id), H5Tclose, who);
    require_strings(type, who);
    const Id space(H5Aget_space(id), H5Sclose, who);
    require_stored(id, extent_of(space, who), H5Tget_size(type), who);
    return read_text(type, space, who,
                     [&](hid_t memory_type, void* buffer) { return H5Aread(id, memory_type, buffer); });
}

std::string File::attribute_string(std::string_view object, std::string_view name) const {
    std::vector<std::string> values = attribute_strings(object, name);
    require(values.size() == 1, attribute_label(path(), object, name), ": holds ", values.size(), " strings, not one");
    return std::move(values.front());
}

}  // namespace bitloom::hdf5
