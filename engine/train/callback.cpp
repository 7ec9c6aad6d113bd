#include "engine/train/callback.h"

namespace bitloom {

double EpochRecord::metric(std::string_view name) const {
    if (name == "loss") return loss;
    if (name == "accuracy") return accuracy;
    if (name == "val_loss") return validation_loss;
    if (name == "val_accuracy") return validation_accuracy;
    if (name == "lr") return learning_rate;
    if (name == "regularization") return regularization;
    const auto found = extra.find(std::string(name));
    require(found != extra.end(), "no metric '", name,
            "'; known: loss, accuracy, val_loss, val_accuracy, lr, regularization");
    return found->second;
}

bool larger_is_better(std::string_view metric) { return metric.find("acc") != std::string_view::npos; }

namespace {
template <class Map>
const auto& field(const Map& map, const std::string& name) {
    const auto found = map.find(name);
    require(found != map.end(), "checkpoint: the field '", name,
            "' is missing; it was written by a run with other settings");
    return found->second;
}
}  // namespace

std::int64_t integer_field(const Checkpoint& checkpoint, const std::string& name) {
    return field(checkpoint.integers, name);
}
const std::vector<double>& doubles_field(const Checkpoint& checkpoint, const std::string& name) {
    return field(checkpoint.doubles, name);
}
double double_field(const Checkpoint& checkpoint, const std::string& name) {
    const std::vector<double>& values = field(checkpoint.doubles, name);
    require(values.size() == 1, "checkpoint: the field '", name, "' holds ", values.size(), " numbers, not one");
    return values[0];
}
const std::string& string_field(const Checkpoint& checkpoint, const std::string& name) {
    return field(checkpoint.strings, name);
}

}  // namespace bitloom
