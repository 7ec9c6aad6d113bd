// Flag files, by way of --flagfile. What is read must read back equal from its own record.
#include <cstdlib>

#include "engine/error.h"
#include "fuzz/flags.h"
#include "fuzz/harness.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace bitloom;
    const fuzz::InputFile file(data, size);
    fuzz::check_reader(size, [&] {
        fuzz::EveryFlag first;
        const std::string argument = "--flagfile=" + file.path();
        const char* arguments[] = {"fuzz", argument.c_str()};
        try {
            first.flags.parse(2, arguments);
        } catch (const HelpRequested&) {
            return;
        }
        fuzz::EveryFlag second;
        const std::string record = first.flags.to_json();
        second.flags.fill_from_json(record, "record");
        if (second.flags.to_json() != record) std::abort();
    });
    return 0;
}
