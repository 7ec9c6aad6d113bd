// The writing half of hdf5::File. A file is built in memory and written to disk in one atomic act when it is closed: no
// half-written file is ever seen, and a full disk meets plain system calls instead of HDF5's cache.

#include <cstdlib>
#include <cstring>
#include <exception>

#include "engine/io/atomic_file.h"
#include "engine/io/hdf5.h"
#include "engine/io/hdf5_handle.h"

namespace bitloom::hdf5 {

namespace {

Id make_space(const Shape& shape, const std::string& who) {
    if (shape.rank() == 0) return Id(H5Screate(H5S_SCALAR), H5Sclose, who);
    hsize_t extents[Shape::max_rank];
    for (int i = 0; i < shape.rank(); ++i) extents[i] = static_cast<hsize_t>(shape[i]);
    return Id(H5Screate_simple(shape.rank(), extents, nullptr), H5Sclose, who);
}

/// Little-endian in the file whatever the machine.
Id file_type(DType dtype, const std::string& who) {
    Id type = type_of(dtype);
    if (size_of(dtype) > 1) check(H5Tset_order(type, H5T_ORDER_LE), who);
    return type;
}

Id string_type(const std::string& who) {
    Id type(H5Tcopy(H5T_C_S1), H5Tclose, who);
    check(H5Tset_size(type, H5T_VARIABLE), who);
    check(H5Tset_cset(type, H5T_CSET_UTF8), who);
    return type;
}

void require_no_nul(const std::string& text, const std::string& who) {
    require(text.find('\0') == std::string::npos, who, ": a string with a NUL byte cannot be stored");
}

std::vector<const char*> pointers_to(const std::vector<std::string>& texts, const std::string& who) {
    std::vector<const char*> pointers;
    pointers.reserve(texts.size());
    for (const std::string& text : texts) {
        require_no_nul(text, who);
        pointers.push_back(text.c_str());
    }
    return pointers;
}

/// Makes the groups above an object. (HDF5 could by itself, but would stamp them with the time.)
void make_groups(File::Handle& handle, std::string_view name, const std::string& who) {
    for (std::size_t slash = name.find('/'); slash != std::string_view::npos; slash = name.find('/', slash + 1)) {
        const std::string group(name.substr(0, slash));
        if (group.empty() || !handle.groups_made.insert(group).second) continue;
        Id(H5Gcreate2(handle.file, group.c_str(), H5P_DEFAULT, handle.group_creation, H5P_DEFAULT), H5Gclose, who);
    }
}

void write_dataset(File::Handle& handle, std::string_view name, hid_t type, hid_t memory_type, const Shape& shape,
                   const void* values) {
    const std::string who = label(handle.path, name);
    require(handle.writing && handle.file.valid(), who, ": the file is not open for writing");
    const std::string text(name);
    make_groups(handle, name, who);
    const Id space = make_space(shape, who);
    const hid_t created =
        H5Dcreate2(handle.file, text.c_str(), type, space, H5P_DEFAULT, handle.dataset_creation, H5P_DEFAULT);
    if (created < 0) {
        const std::string why = reason();
        fail(who, ": ", exists(handle.file, name) ? "exists already" : why);
    }
    const Id id(created, H5Dclose, who);
    if (shape.numel() != 0) check(H5Dwrite(id, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values), who);
}

void write_any_attribute(File::Handle& handle, std::string_view object, std::string_view name, hid_t type,
                         hid_t memory_type, const Shape& shape, const void* values) {
    const std::string who = cat(label(handle.path, object), ": attribute '", name, "'");
    require(handle.writing && handle.file.valid(), who, ": the file is not open for writing");
    const std::string text(name);
    const Id owner = handle.open_object(object);
    if (H5Aexists(owner, text.c_str()) > 0) check(H5Adelete(owner, text.c_str()), who);
    const Id space = make_space(shape, who);
    const Id id(H5Acreate2(owner, text.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose, who);
    if (shape.numel() != 0) check(H5Awrite(id, memory_type, values), who);
}

// The memory of a file being built belongs to its Image: HDF5 asks for it here and leaves it behind when it closes the
// file. (H5Fget_file_image would copy it, and with a checksum that no reader accepts.)
void* image_reallocate(void*, size_t size, H5FD_file_image_op_t, void* image) {
    auto& memory = static_cast<Image*>(image)->memory;
    void* grown = std::realloc(memory, size);
    if (grown) memory = grown;
    return grown;
}
void* image_allocate(size_t size, H5FD_file_image_op_t, void* image) {
    return image_reallocate(nullptr, size, H5FD_FILE_IMAGE_OP_NO_OP, image);
}
void* image_copy(void* target, const void* source, size_t size, H5FD_file_image_op_t, void*) {
    return std::memcpy(target, source, size);
}
herr_t image_release(void*, H5FD_file_image_op_t, void*) { return 0; }
void* share_image(void* image) { return image; }
herr_t unshare_image(void*) { return 0; }

/// The image of a closed file, without the memory in reserve behind it. Only the superblock knows where the file ends:
/// version 2, 8-byte offsets, end-of-file address at byte 28, little-endian (HDF5 File Format Specification, II.A).
std::string_view file_bytes(const Image& image) {
    const auto* bytes = static_cast<const unsigned char*>(image.memory);
    std::size_t size = 0;
    for (int i = 7; i >= 0; --i) size = size << 8 | bytes[28 + i];
    return {static_cast<const char*>(image.memory), size};
}

Shape vector_shape(std::size_t size) { return Shape{static_cast<std::int64_t>(size)}; }

}  // namespace

File File::create(const std::string& path) {
    Lock lock;
    auto handle = std::make_unique<Handle>();
    handle->path = path;
    handle->writing = true;
    handle->exceptions = std::uncaught_exceptions();

    const Id access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose, path);
    check(H5Pset_fclose_degree(access, H5F_CLOSE_STRONG), path);
    constexpr std::size_t growth = std::size_t{1} << 20;
    check(H5Pset_fapl_core(access, growth, false), path);
    H5FD_file_image_callbacks_t callbacks{image_allocate, image_copy,    image_reallocate, image_release,
                                          share_image,    unshare_image, &handle->image};
    check(H5Pset_file_image_callbacks(access, &callbacks), path);
    // The 1.8 format checks its metadata by checksums and is read by every later release.
    check(H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_V18), path);

    handle->group_creation = Id(H5Pcreate(H5P_GROUP_CREATE), H5Pclose, path);
    check(H5Pset_obj_track_times(handle->group_creation, false), path);
    handle->dataset_creation = Id(H5Pcreate(H5P_DATASET_CREATE), H5Pclose, path);
    check(H5Pset_obj_track_times(handle->dataset_creation, false), path);  // equal content makes equal files

    // HDF5 may know an open file of this very name: in memory the name is only a name.
    const Id creation(H5Pcreate(H5P_FILE_CREATE), H5Pclose, path);
    check(H5Pset_obj_track_times(creation, false), path);
    handle->file = Id(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, creation, access), H5Fclose, path);
    return File(std::move(handle));
}

void File::close() {
    {
        Lock lock;
        if (!handle_ || !handle_->file.valid()) return;
        if (!handle_->file.close()) fail(path(), ": ", reason());
    }
    if (handle_->writing) write_file_atomically(path(), file_bytes(handle_->image));
}

void File::write(std::string_view dataset, const Tensor& value) {
    const Tensor host = value.device().is_host() ? value : value.to(cpu_device);
    Lock lock;
    const std::string who = label(path(), dataset);
    write_dataset(*handle_, dataset, file_type(host.dtype(), who), type_of(host.dtype()), host.shape(), host.raw());
}

void File::write_i64(std::string_view dataset, const std::vector<std::int64_t>& values) {
    Lock lock;
    write_dataset(*handle_, dataset, H5T_STD_I64LE, H5T_NATIVE_INT64, vector_shape(values.size()), values.data());
}

void File::write_f64(std::string_view dataset, const std::vector<double>& values) {
    Lock lock;
    write_dataset(*handle_, dataset, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, vector_shape(values.size()), values.data());
}

void File::write_strings(std::string_view dataset, const std::vector<std::string>& values) {
    Lock lock;
    const std::string who = label(path(), dataset);
    const std::vector<const char*> pointers = pointers_to(values, who);
    const Id type = string_type(who);
    write_dataset(*handle_, dataset, type, type, vector_shape(values.size()), pointers.data());
}

void File::write_attribute(std::string_view object, std::string_view name, double value) {
    Lock lock;
    write_any_attribute(*handle_, object, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, Shape{}, &value);
}

void File::write_attribute(std::string_view object, std::string_view name, const std::string& value) {
    Lock lock;
    const std::string who = label(path(), object);
    require_no_nul(value, who);
    const Id type = string_type(who);
    const char* pointer = value.c_str();
    write_any_attribute(*handle_, object, name, type, type, Shape{}, &pointer);
}

void File::write_attribute(std::string_view object, std::string_view name, const std::vector<double>& values) {
    Lock lock;
    write_any_attribute(*handle_, object, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, vector_shape(values.size()),
                        values.data());
}

void File::write_attribute(std::string_view object, std::string_view name, const std::vector<std::string>& values) {
    Lock lock;
    const std::string who = label(path(), object);
    const std::vector<const char*> pointers = pointers_to(values, who);
    const Id type = string_type(who);
    write_any_attribute(*handle_, object, name, type, type, vector_shape(values.size()), pointers.data());
}

void File::write_attribute_i64(std::string_view object, std::string_view name, std::int64_t value) {
    Lock lock;
    write_any_attribute(*handle_, object, name, H5T_STD_I64LE, H5T_NATIVE_INT64, Shape{}, &value);
}

}  // namespace bitloom::hdf5
