#include "apps/common/optparse.h"

#include <algorithm>

namespace bitloom {
namespace {

/// The options of a bundle, or nothing where a letter is none.
std::vector<std::string> bundle(const std::string& letters, const std::string& switches, const std::string& valued) {
    std::vector<std::string> options;
    for (std::size_t i = 0; i < letters.size(); ++i) {
        const bool takes_value = valued.find(letters[i]) != std::string::npos;
        if (!takes_value && switches.find(letters[i]) == std::string::npos) return {};
        options.push_back(std::string("-") + letters[i]);
        if (takes_value && i + 1 < letters.size()) {
            options.push_back(letters.substr(i + 1));
            break;
        }
    }
    return options;
}

}  // namespace

std::vector<std::string> expand_short_options(int argc, const char* const* argv, const std::string& switches,
                                              const std::string& valued) {
    std::vector<std::string> arguments;
    bool flags_ended = false, is_value = false;
    for (int i = 0; i < argc; ++i) {
        const std::string argument = argv[i];
        const bool candidate = i > 0 && !flags_ended && !is_value && argument.size() >= 2 && argument[0] == '-' &&
                               argument[1] != '-' && argument.find('=') == std::string::npos;
        flags_ended = flags_ended || argument == "--";
        is_value = false;
        std::vector<std::string> options;
        if (candidate) options = bundle(argument.substr(1), switches, valued);
        if (options.empty()) options = {argument};
        arguments.insert(arguments.end(), options.begin(), options.end());
        const std::string& last = options.back();
        is_value = candidate && last.size() == 2 && last[0] == '-' && valued.find(last[1]) != std::string::npos;
    }
    return arguments;
}

void parse_short_options(Flags& flags, int argc, const char* const* argv, const std::string& switches,
                         const std::string& valued) {
    const std::vector<std::string> arguments = expand_short_options(argc, argv, switches, valued);
    std::vector<const char*> pointers;
    for (const std::string& argument : arguments) pointers.push_back(argument.c_str());
    flags.parse(static_cast<int>(pointers.size()), pointers.data());
}

void add_plotting_flags(Flags& flags, CommonFlags& common) {
    common.out_dir = "plots/";
    add_common_flags(flags, common);
    flags.alias("outdir", "out-dir");
    flags.alias("o", "out-dir");
}

std::vector<std::string> split_semicolons(const std::string& text) {
    std::vector<std::string> items;
    for (std::size_t begin = 0; begin <= text.size();) {
        const std::size_t end = std::min(text.find(';', begin), text.size());
        std::string item = text.substr(begin, end - begin);
        item.erase(0, std::min(item.find_first_not_of(" \t"), item.size()));
        item.erase(item.find_last_not_of(" \t") + 1);
        if (!item.empty()) items.push_back(item);
        begin = end + 1;
    }
    return items;
}

}  // namespace bitloom
