#include "engine/io/checkpoint.h"

#include <zlib.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "engine/io/hdf5.h"
#include "engine/io/json_values.h"

namespace bitloom {

namespace {

constexpr std::string_view format_name = "bitloom-checkpoint";
constexpr int current_version = 1;

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

std::uint32_t crc(std::uint32_t start, const void* bytes, std::size_t count) {
    return static_cast<std::uint32_t>(::crc32_z(start, static_cast<const Bytef*>(bytes), count));
}
template <class T>
std::uint32_t crc_of(const std::vector<T>& values) {
    return crc(0, values.data(), values.size() * sizeof(T));
}
std::uint32_t crc_of(const std::string& text) { return crc(0, text.data(), text.size()); }

/// The checksum of the whole: model, config, and every dataset's name and own checksum in name order.
class Seal {
public:
    void add(const std::string& dataset, std::uint32_t checksum) { entries_.emplace_back(dataset, checksum); }
    std::uint32_t value(const std::string& model, const std::string& config) {
        std::sort(entries_.begin(), entries_.end());
        // With their terminating NULs, so that text cannot move from one to the next unseen.
        std::uint32_t sum = crc(crc(0, model.c_str(), model.size() + 1), config.c_str(), config.size() + 1);
        for (const auto& [name, checksum] : entries_) {
            unsigned char bytes[4];
            for (int i = 0; i < 4; ++i) bytes[i] = static_cast<unsigned char>(checksum >> (8 * i));
            sum = crc(crc(sum, name.c_str(), name.size() + 1), bytes, sizeof bytes);
        }
        return sum;
    }

private:
    std::vector<std::pair<std::string, std::uint32_t>> entries_;
};

class Writer {
public:
    Writer(hdf5::File& file, Seal& seal) : file_(file), seal_(seal) {}
    void tensors(const std::string& group, const NamedTensors& all) {
        for (const auto& [name, tensor] : all) {
            const Tensor host = tensor.device().is_host() ? tensor : tensor.to(cpu_device);
            const std::string path = group + "/" + name;
            file_.write(path, host);
            checksum(path, crc(0, host.raw(), host.bytes()));
        }
    }
    void integer(const std::string& path, std::int64_t value) {
        file_.write_i64(path, {value});
        checksum(path, crc(0, &value, sizeof value));
    }
    void doubles(const std::string& path, const std::vector<double>& values) {
        file_.write_f64(path, values);
        checksum(path, crc_of(values));
    }
    void text(const std::string& path, const std::string& value) {
        file_.write_strings(path, {value});
        checksum(path, crc_of(value));
    }

private:
    void checksum(const std::string& path, std::uint32_t value) {
        file_.write_attribute_i64(path, "crc32", value);
        seal_.add(path, value);
    }
    hdf5::File& file_;
    Seal& seal_;
};

class Reader {
public:
    Reader(const hdf5::File& file, Seal& seal) : file_(file), seal_(seal) {}
    void tensors(const std::string& group, NamedTensors& all) {
        for (const auto& [path, name] : datasets(group)) {
            Tensor tensor = file_.read(path, file_.dtype(path));
            verify(path, crc(0, tensor.raw(), tensor.bytes()));
            all.emplace_back(name, std::move(tensor));
        }
    }
    void integers(std::map<std::string, std::int64_t>& all) {
        for (const auto& [path, name] : datasets("state/integers")) {
            const auto values = file_.read_i64(path);
            require(values.size() == 1, file_.path(), ": '", path, "': holds ", values.size(), " integers, not one");
            verify(path, crc_of(values));
            all[name] = values.front();
        }
    }
    void doubles(std::map<std::string, std::vector<double>>& all) {
        for (const auto& [path, name] : datasets("state/doubles")) {
            auto values = file_.read_f64(path);
            verify(path, crc_of(values));
            all[name] = std::move(values);
        }
    }
    void strings(std::map<std::string, std::string>& all) {
        for (const auto& [path, name] : datasets("state/strings")) {
            auto values = file_.read_strings(path);
            require(values.size() == 1, file_.path(), ": '", path, "': holds ", values.size(), " strings, not one");
            verify(path, crc_of(values.front()));
            all[name] = std::move(values.front());
        }
    }

private:
    /// Full path and name within the group.
    std::vector<std::pair<std::string, std::string>> datasets(const std::string& group) const {
        std::vector<std::pair<std::string, std::string>> found;
        if (!file_.has(group)) return found;
        for (const std::string& path : file_.datasets(group)) found.emplace_back(path, path.substr(group.size() + 1));
        return found;
    }
    void verify(const std::string& path, std::uint32_t value) {
        const std::vector<double> stored = file_.attribute_f64(path, "crc32");
        require(stored.size() == 1 && stored[0] == static_cast<double>(value), file_.path(), ": '", path,
                "': checksum does not match (damaged file)");
        seal_.add(path, value);
    }
    const hdf5::File& file_;
    Seal& seal_;
};

/// {"name": "resnet20"} -> resnet20, for messages.
std::string model_name(const std::string& model) {
    const auto json = json_or_discarded<nlohmann::json>(model);
    if (json.is_object() && json.contains("name") && json["name"].is_string()) return json["name"].get<std::string>();
    return "an unnamed model";
}

bool has_format(const hdf5::File& file) {
    if (!file.has_attribute("", "format")) return false;
    try {
        return file.attribute_string("", "format") == format_name;
    } catch (const Error&) {  // some other program's idea of a format
        return false;
    }
}

}  // namespace

void save_checkpoint(const std::string& path, const Checkpoint& checkpoint) {
    hdf5::File file = hdf5::File::create(path);
    file.write_attribute("", "format", std::string(format_name));
    file.write_attribute_i64("", "version", current_version);
    file.write_attribute("", "model", checkpoint.model);
    file.write_attribute("", "config", checkpoint.config);
    Seal seal;
    Writer writer(file, seal);
    writer.tensors("parameters", checkpoint.parameters);
    writer.tensors("buffers", checkpoint.buffers);
    writer.tensors("optimizer", checkpoint.optimizer);
    for (const auto& [name, value] : checkpoint.integers) writer.integer("state/integers/" + name, value);
    for (const auto& [name, values] : checkpoint.doubles) writer.doubles("state/doubles/" + name, values);
    for (const auto& [name, value] : checkpoint.strings) writer.text("state/strings/" + name, value);
    file.write_attribute_i64("", "complete", seal.value(checkpoint.model, checkpoint.config));
    file.close();
}

Checkpoint load_checkpoint(const std::string& path) {
    const hdf5::File file = hdf5::File::open(path);
    require(has_format(file), path, ": not a bitloom checkpoint");
    const std::vector<double> version = file.attribute_f64("", "version");
    require(version.size() == 1 && version[0] >= 1 && version[0] == std::floor(version[0]), path,
            ": damaged checkpoint (no version)");
    require(version[0] <= current_version, path, ": checkpoint version ", version[0],
            ", this program reads up to version ", current_version, "; a newer bitloom is needed");
    require(file.has_attribute("", "complete"), path, ": incomplete checkpoint");
    Checkpoint checkpoint;
    checkpoint.model = file.attribute_string("", "model");
    checkpoint.config = file.attribute_string("", "config");
    Seal seal;
    Reader reader(file, seal);
    reader.tensors("parameters", checkpoint.parameters);
    reader.tensors("buffers", checkpoint.buffers);
    reader.tensors("optimizer", checkpoint.optimizer);
    reader.integers(checkpoint.integers);
    reader.doubles(checkpoint.doubles);
    reader.strings(checkpoint.strings);
    const std::vector<double> complete = file.attribute_f64("", "complete");
    require(complete.size() == 1 && complete[0] == static_cast<double>(seal.value(checkpoint.model, checkpoint.config)),
            path, ": checksum of the whole does not match (damaged file)");
    return checkpoint;
}

bool is_checkpoint(const std::string& path) { return has_format(hdf5::File::open(path)); }

void gather(Module& module, Checkpoint& checkpoint) {
    // A copy even of host memory: training goes on while the checkpoint waits to be written.
    const auto copy = [](const Tensor& t) { return t.device() == cpu_device ? t.clone() : t.to(cpu_device); };
    checkpoint.parameters.clear();
    checkpoint.buffers.clear();
    for (const auto& [name, parameter] : module.named_parameters())
        checkpoint.parameters.emplace_back(name, copy(parameter->value));
    for (const auto& [name, buffer] : module.named_buffers())
        if (buffer->defined()) checkpoint.buffers.emplace_back(name, copy(*buffer));
}

namespace {

/// Pairs the model's tensors with the checkpoint's. Throws Error naming the first that has no partner of its shape.
void match(const std::string& who, std::string_view kind, const std::vector<std::pair<std::string, Tensor*>>& wanted,
           const NamedTensors& found, std::vector<std::pair<Tensor*, const Tensor*>>& pairs) {
    std::map<std::string_view, const Tensor*> by_name;
    for (const auto& [name, tensor] : found) by_name[name] = &tensor;
    for (const auto& [name, target] : wanted) {
        if (!target->defined()) continue;
        const auto entry = by_name.find(name);
        require(entry != by_name.end(), who, ": no ", kind, " '", name, "' in the checkpoint");
        require(entry->second->shape() == target->shape(), who, ": ", kind, " '", name, "' has shape ",
                entry->second->shape(), " in the checkpoint, ", target->shape(), " in the model");
        pairs.emplace_back(target, entry->second);
        by_name.erase(entry);
    }
    if (!by_name.empty()) fail(who, ": no ", kind, " '", by_name.begin()->first, "' in the model");
}

}  // namespace

void restore(Module& module, const Checkpoint& checkpoint) {
    const std::string who = cat("checkpoint of ", model_name(checkpoint.model), " does not fit");
    std::vector<std::pair<std::string, Tensor*>> parameters;
    for (const auto& [name, parameter] : module.named_parameters()) parameters.emplace_back(name, &parameter->value);
    // Everything is compared before anything is written: a failed restore leaves the module as it was.
    std::vector<std::pair<Tensor*, const Tensor*>> pairs;
    match(who, "parameter", parameters, checkpoint.parameters, pairs);
    match(who, "buffer", module.named_buffers(), checkpoint.buffers, pairs);
    for (const auto& [target, source] : pairs) target->copy_from(*source);
}

}  // namespace bitloom
