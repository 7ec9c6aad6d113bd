#pragma once
// Where a tensor lives and which table of kernels works on it.

#include <compare>
#include <ostream>
#include <string>
#include <string_view>

namespace bitloom {

enum class DeviceKind : unsigned char { cpu, reference, cuda };
inline constexpr int device_kind_count = 3;

/// `cpu`: fast kernels; `reference`: plain loops in host memory, f32 and f64, the yardstick of the others; `cuda:N`.
struct Device {
    DeviceKind kind = DeviceKind::cpu;
    int index = 0;
    auto operator<=>(const Device&) const = default;
    /// True where the host may dereference the tensor's memory.
    bool is_host() const { return kind != DeviceKind::cuda; }
};

inline constexpr Device cpu_device{DeviceKind::cpu, 0};
inline constexpr Device reference_device{DeviceKind::reference, 0};

/// Reads "cpu", "reference", "cuda" or "cuda:N". Throws UsageError otherwise.
Device parse_device(std::string_view text);
std::string to_string(Device device);
std::string_view name_of(DeviceKind kind);
inline std::ostream& operator<<(std::ostream& out, Device device) { return out << to_string(device); }

}  // namespace bitloom
