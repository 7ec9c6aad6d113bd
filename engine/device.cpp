#include "engine/device.h"

#include <charconv>

#include "engine/error.h"

namespace bitloom {

Device parse_device(std::string_view text) {
    if (text == "cpu") return cpu_device;
    if (text == "reference") return reference_device;
    if (text == "cuda") return {DeviceKind::cuda, 0};
    if (text.starts_with("cuda:")) {
        int index = -1;
        const char* last = text.data() + text.size();
        const auto [end, error] = std::from_chars(text.data() + 5, last, index);
        if (error == std::errc{} && end == last && index >= 0) return {DeviceKind::cuda, index};
    }
    throw UsageError(cat("device: '", text, "' is none of cpu, reference, cuda, cuda:N"));
}

std::string_view name_of(DeviceKind kind) {
    switch (kind) {
        case DeviceKind::cpu: return "cpu";
        case DeviceKind::reference: return "reference";
        case DeviceKind::cuda: return "cuda";
    }
    return "?";
}

std::string to_string(Device device) {
    std::string text(name_of(device.kind));
    if (device.kind == DeviceKind::cuda) text += ":" + std::to_string(device.index);
    return text;
}

}  // namespace bitloom
