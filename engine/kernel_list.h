#pragma once
// Kernel tables as lists that can be walked: each entry a name and the table's member.

#include <string_view>
#include <tuple>

namespace bitloom {

template <class Member>
struct NamedKernel {
    std::string_view name;
    Member member;
};
template <class Member>
NamedKernel(const char*, Member) -> NamedKernel<Member>;

/// Calls f(name, member pointer) for every entry.
template <class F, class... Members>
void for_each_entry(const std::tuple<NamedKernel<Members>...>& list, F&& f) {
    std::apply([&](const auto&... entry) { (f(entry.name, entry.member), ...); }, list);
}

}  // namespace bitloom
