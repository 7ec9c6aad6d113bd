#include "engine/io/flags.h"

#include <unistd.h>

#include <algorithm>
#include <boost/program_options/options_description.hpp>
#include <boost/program_options/value_semantic.hpp>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <sstream>

#include "engine/error.h"
#include "engine/io/atomic_file.h"
#include "engine/io/json_values.h"
#include "engine/io/terminal.h"

namespace bitloom {

struct Flags::Flag {
    std::string name, help, group;
    FlagTarget target;
    FlagRule rule;
    std::string default_text;
    std::vector<std::string> aliases;
    bool given = false;

    bool is_bool() const { return std::holds_alternative<bool*>(target); }
    void set(FlagValue value, const std::string& where) {
        try {
            check_rule(rule, value);
        } catch (const UsageError& error) {
            throw UsageError(cat(where, "--", name, ": ", error.what()));
        }
        assign(target, std::move(value));
    }
    void set_text(const std::string& text, const std::string& where) {
        FlagValue value;
        try {
            value = value_from_text(target, text);
        } catch (const UsageError& error) {
            throw UsageError(cat(where, "--", name, ": ", error.what()));
        }
        set(std::move(value), where);
    }
};

struct Flags::Occurrence {
    Flag* flag;
    std::string text, where;
};

/// The flags in the order in which they count, with flag files replaced by their lines.
struct Flags::Expansion {
    std::vector<Occurrence> occurrences;
    std::vector<std::pair<std::string, std::string>> configs;  // path, where
    std::vector<std::string> open_files;                       // being read, outermost first
    std::string where;                                         // "cnn.cfg:3: "; empty on the command line
    std::function<std::string()> next_value;  // the argument after the flag; UsageError where there is none
};

namespace {

template <class... Args>
[[noreturn]] void usage(const Args&... args) {
    throw UsageError(cat(args...));
}

std::string key_of(std::string name) {
    std::replace(name.begin(), name.end(), '_', '-');
    return name;
}

/// A shell leaves the tilde of --flagfile=~/x alone.
std::string expand_home(const std::string& path) {
    const char* home = std::getenv("HOME");
    return path.starts_with("~/") && home ? home + path.substr(1) : path;
}

/// read_file, whose failure here is wrong usage.
std::string read_named_file(const std::string& what, const std::string& path, const std::string& where) {
    try {
        constexpr std::size_t longest = std::size_t{16} << 20;  // nobody's flags; /dev/zero would never end
        return read_file(path, longest);
    } catch (const Error& error) {
        usage(where, what, " ", error.what());
    }
}

const std::vector<std::string> built_in{"help", "flagfile", "config"};

/// Columns of the terminal that the help goes to, within reason; elsewhere as many as read well.
unsigned help_width() {
    constexpr int least = 80, most = 110;
    const int columns = terminal_columns(STDOUT_FILENO);
    return static_cast<unsigned>(columns > 0 ? std::clamp(columns, least, most) : most);
}

/// Wrapped lines end in the blank at which they were cut.
std::string without_trailing_blanks(const std::string& text) {
    std::string out;
    for (const char c : text) {
        if (c == '\n') out.erase(out.find_last_not_of(' ') + 1);
        out += c;
    }
    return out;
}

/// The element of a JSON array or a JSON value as T, or nothing where it is of another kind.
template <class T>
std::optional<T> from_json(const nlohmann::json& json) {
    if constexpr (std::is_same_v<T, bool>) {
        if (json.is_boolean()) return json.get<bool>();
    } else if constexpr (std::is_same_v<T, std::int64_t>) {
        const bool fits = !json.is_number_unsigned() || json.get<std::uint64_t>() <= INT64_MAX;
        if (json.is_number_integer() && fits) return json.get<std::int64_t>();
    } else if constexpr (std::is_same_v<T, double>) {
        if (json.is_number() && std::isfinite(json.get<double>())) return json.get<double>();
    } else if constexpr (std::is_same_v<T, std::string>) {
        if (json.is_string()) return json.get<std::string>();
    } else {
        if (!json.is_array()) return std::nullopt;
        T values;
        for (const nlohmann::json& item : json) {
            auto value = from_json<typename T::value_type>(item);
            if (!value) return std::nullopt;
            values.push_back(std::move(*value));
        }
        return values;
    }
    return std::nullopt;
}

std::string dump(const nlohmann::json& json) {
    return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

Flags::Flags(std::string program, std::string summary) : program_(std::move(program)), summary_(std::move(summary)) {}
Flags::~Flags() = default;

void Flags::group(std::string title) { group_ = std::move(title); }

void Flags::add(const std::string& name, FlagTarget target, std::string help, FlagRule rule) {
    const std::string key = key_of(name);
    require(
        !name.empty() && !by_name_.contains(key) && std::find(built_in.begin(), built_in.end(), key) == built_in.end(),
        "flags: the name '", name, "' is taken");
    auto flag = std::make_unique<Flag>();
    flag->name = name;
    flag->help = std::move(help);
    flag->group = group_;
    flag->target = target;
    flag->rule = std::move(rule);
    flag->default_text = to_text(value_of(target));
    by_name_[key] = flag.get();
    flags_.push_back(std::move(flag));
}

void Flags::alias(const std::string& other, const std::string& name) {
    Flag& flag = at(name);
    require(by_name_.emplace(key_of(other), &flag).second, "flags: the name '", other, "' is taken");
    flag.aliases.push_back(other);
}

void Flags::positional(std::string name, std::string help, std::size_t least, std::size_t most) {
    positional_ = {std::move(name), std::move(help), least, most};
}

void Flags::example(std::string arguments, std::string explanation) {
    examples_.emplace_back(std::move(arguments), std::move(explanation));
}

Flags::Flag* Flags::find(const std::string& name) const {
    const auto found = by_name_.find(key_of(name));
    return found == by_name_.end() ? nullptr : found->second;
}

Flags::Flag& Flags::at(const std::string& name) const {
    Flag* flag = find(name);
    require(flag, "flags: no flag is called '", name, "'");
    return *flag;
}

void Flags::unknown(const std::string& name, const std::string& where) const {
    std::vector<std::string> candidates = built_in;
    for (const auto& flag : flags_) {
        candidates.push_back(flag->name);
        candidates.insert(candidates.end(), flag->aliases.begin(), flag->aliases.end());
        if (flag->is_bool()) candidates.push_back("no" + flag->name);
    }
    const std::string near = closest(name, candidates);
    if (!near.empty() && near == name) usage(where, in_quotes("--" + name), " belongs on the command line or in a flag file");
    usage(where, "unknown flag ", in_quotes("--" + name), near.empty() ? "" : "; did you mean --" + near + "?");
}

/// `name` without its dashes; `value` is what followed '=', null where nothing did.
void Flags::expand_argument(Expansion& expansion, const std::string& name, const std::string* value) const {
    const auto required = [&](const char* kind) {
        if (value) return *value;
        if (!expansion.next_value) usage(expansion.where, "--", name, " needs a value (", kind, ")");
        return expansion.next_value();
    };
    Flag* flag = find(name);
    if (!flag && (name == "help" || name == "h")) throw HelpRequested(help());
    if (!flag && name == "flagfile") return expand_file(expansion, expand_home(required("a file")));
    if (!flag && name == "config") {
        expansion.configs.emplace_back(expand_home(required("a JSON file")), expansion.where);
        return;
    }
    if (flag && flag->is_bool()) {
        expansion.occurrences.push_back({flag, value ? *value : "true", expansion.where});
        return;
    }
    if (flag) {
        expansion.occurrences.push_back(
            {flag, required(std::string(type_name(flag->target)).c_str()), expansion.where});
        return;
    }
    if (name.starts_with("no")) {
        Flag* negated = find(name.substr(name.starts_with("no-") || name.starts_with("no_") ? 3 : 2));
        if (negated && negated->is_bool()) {
            if (value) usage(expansion.where, "--", name, " takes no value; write --", negated->name, "=", *value);
            expansion.occurrences.push_back({negated, "false", expansion.where});
            return;
        }
    }
    unknown(name, expansion.where);
}

void Flags::expand_file(Expansion& expansion, const std::string& path) const {
    const std::string contents = read_named_file("flag file", path, expansion.where);
    std::error_code ignored;
    const std::string identity = std::filesystem::weakly_canonical(path, ignored).string();
    auto& open = expansion.open_files;
    if (std::find(open.begin(), open.end(), identity) != open.end())
        usage(expansion.where, "flag file ", path, " includes itself");
    open.push_back(identity);
    const std::string outer_where = std::exchange(expansion.where, "");
    const auto outer_next = std::exchange(expansion.next_value, nullptr);  // a value stands in its flag's own line

    std::istringstream lines(contents);
    std::string line;
    for (std::size_t number = 1; std::getline(lines, line); ++number) {
        if (number == 1 && line.starts_with("\xef\xbb\xbf")) line.erase(0, 3);  // a Windows editor's byte order mark
        constexpr const char* blanks = " \t\r\v\f";
        line.erase(0, std::min(line.find_first_not_of(blanks), line.size()));
        line.erase(line.find_last_not_of(blanks) + 1);
        if (line.empty() || line.starts_with('#') || line.starts_with("//")) continue;
        expansion.where = cat(path, ":", number, ": ");
        const std::size_t dashes = line.starts_with("--") ? 2 : line.starts_with('-') ? 1 : 0;
        if (dashes == 0 || line.size() == dashes)
            usage(expansion.where, in_quotes(line), " is not a flag (one a line: --name=value)");
        line.erase(0, dashes);
        const std::size_t end = std::min(line.find_first_of("= \t"), line.size());
        const std::string name = line.substr(0, end);
        if (end == line.size()) {
            expand_argument(expansion, name, nullptr);
            continue;
        }
        const bool assigned = line[end] == '=';
        std::string value = line.substr(end + 1);
        if (!assigned) value.erase(0, value.find_first_not_of(" \t"));
        if (const Flag* flag = find(name); !assigned && flag && flag->is_bool())
            usage(expansion.where, "--", name, " is a boolean: write --", name, "=", value);
        expand_argument(expansion, name, &value);
    }
    open.pop_back();
    expansion.where = outer_where;
    expansion.next_value = outer_next;
}

std::vector<std::string> Flags::parse(int argc, const char* const* argv) {
    Expansion expansion;
    std::vector<std::string> rest;
    int i = 1;
    for (; i < argc; ++i) {
        const std::string argument = argv[i];
        if (argument == "--") {
            rest.insert(rest.end(), argv + i + 1, argv + argc);
            break;
        }
        if (argument.size() < 2 || argument[0] != '-') {
            rest.push_back(argument);
            continue;
        }
        const std::string text = argument.substr(argument[1] == '-' ? 2 : 1);
        const std::size_t equals = std::min(text.find('='), text.size());
        const std::string name = text.substr(0, equals);
        const std::string value = equals < text.size() ? text.substr(equals + 1) : "";
        expansion.next_value = nullptr;
        if (i + 1 < argc) expansion.next_value = [&] { return std::string(argv[++i]); };
        expand_argument(expansion, name, equals < text.size() ? &value : nullptr);
    }
    if (rest.size() > positional_.most) {
        const bool truth = [&] {
            const std::string& word = rest[positional_.most];
            return word == "true" || word == "True" || word == "false" || word == "False";
        }();
        usage("unexpected argument ", in_quotes(rest[positional_.most]),
              truth ? " (a boolean's value follows '=': --flag=" : "", truth ? rest[positional_.most] + ")" : "");
    }
    if (rest.size() < positional_.least) usage("missing argument ", positional_.name, " (", positional_.help, ")");

    for (const auto& [path, where] : expansion.configs)
        apply_json(read_named_file("configuration", path, where), path, false);
    for (const Occurrence& occurrence : expansion.occurrences) {
        occurrence.flag->set_text(occurrence.text, occurrence.where);
        occurrence.flag->given = true;
    }
    return rest;
}

bool Flags::given(const std::string& name) const { return at(name).given; }

void Flags::apply_json(const std::string& text, const std::string& source, bool only_missing) {
    const std::string where = source + ": ";
    nlohmann::json json;
    try {
        json = json_from_text<nlohmann::json>(text, true);
    } catch (const nlohmann::json::exception& error) {
        std::string why = error.what();
        if (const auto end = why.find("] "); end != std::string::npos) why.erase(0, end + 2);
        std::replace_if(
            why.begin(), why.end(), [](unsigned char c) { return c < 0x20; }, ' ');
        usage(where, "not JSON: ", why);
    } catch (const Error& error) {
        usage(where, error.what());
    }
    if (!json.is_object()) usage(where, "needs a JSON object {\"flag\": value, ...}");
    for (const auto& item : json.items()) {
        const std::string& name = item.key();
        const nlohmann::json& value = item.value();
        Flag* flag = find(name);
        if (!flag) unknown(name, where);
        if (value.is_null() || (only_missing && flag->given)) continue;
        if (value.is_string()) {  // as it would be written on the command line
            flag->set_text(value.get<std::string>(), where);
        } else {
            const std::optional<FlagValue> typed = std::visit(
                [&]<class T>(T*) -> std::optional<FlagValue> {
                    auto read = from_json<T>(value);
                    if (!read) return std::nullopt;
                    return FlagValue(std::in_place_type<T>, std::move(*read));
                },
                flag->target);
            if (!typed)
                usage(where, "--", flag->name, ": needs ", type_name(flag->target), ", got ", in_quotes(dump(value)));
            flag->set(*typed, where);
        }
        if (!only_missing) flag->given = true;
    }
}

void Flags::fill_from_json(const std::string& json, const std::string& source) { apply_json(json, source, true); }

std::string Flags::to_json() const {
    nlohmann::ordered_json json = nlohmann::ordered_json::object();
    for (const auto& flag : flags_) std::visit([&](const auto* value) { json[flag->name] = *value; }, flag->target);
    return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

std::string Flags::help() const {
    namespace po = boost::program_options;
    const unsigned width = help_width(), least_description = width / 2;
    po::options_description all(width, least_description);
    std::vector<std::string> titles;
    for (const auto& flag : flags_)
        if (std::find(titles.begin(), titles.end(), flag->group) == titles.end()) titles.push_back(flag->group);
    const auto describe = [](po::options_description& into, const std::string& name, const std::string& value,
                             const std::string& text) {
        into.add_options()(name.c_str(), po::value<std::string>()->value_name(value), text.c_str());
    };
    for (const std::string& title : titles) {
        po::options_description section(title, width, least_description);
        for (const auto& flag : flags_) {
            if (flag->group != title) continue;
            std::string text = flag->help;
            const auto add = [&](const std::string& more) { text += (text.empty() ? "" : "; ") + more; };
            if (flag->rule.min) add(cat("at least ", *flag->rule.min));
            if (flag->rule.max) add(cat("at most ", *flag->rule.max));
            if (flag->rule.below) add(cat("below ", *flag->rule.below));
            if (!flag->rule.choices.empty()) {
                std::string choices;
                for (const std::string& choice : flag->rule.choices) choices += (choices.empty() ? "" : ", ") + choice;
                add("one of " + choices);
            }
            for (const std::string& other : flag->aliases) add((other.size() == 1 ? "also -" : "also --") + other);
            const std::string shown_default = flag->default_text.empty() ? "" : " (=" + flag->default_text + ")";
            if (flag->is_bool())
                describe(section, (flag->name.starts_with("no-") ? "" : "[no]") + flag->name, shown_default.substr(1), text);
            else
                describe(section, flag->name, std::string(type_name(flag->target)) + shown_default, text);
        }
        all.add(section);
    }
    po::options_description general("Everywhere", width, least_description);
    describe(general, "flagfile", "FILE",
             "flags from a file, one a line (--epochs=3), in place; lines with # or // are comments");
    describe(general, "config", "FILE", "flags from a JSON object {\"epochs\": 3}; flags on the command line win");
    general.add_options()("help", "this text");
    all.add(general);

    std::ostringstream out, sections;
    sections << all;
    out << program_ << ": " << summary_ << "\n\nUsage: " << program_ << " [flags]";
    if (positional_.most > 0) {
        out << (positional_.least ? " " + positional_.name : " [" + positional_.name + "]")
            << (positional_.most > 1 ? "..." : "");
        out << "\n\n  " << positional_.name << "  " << positional_.help;
    }
    out << "\n\n" << without_trailing_blanks(sections.str()) << '\n';
    if (!examples_.empty()) {
        out << "Examples:\n";
        for (const auto& [arguments, explanation] : examples_)
            out << "  " << program_ << (arguments.empty() ? "" : " ") << arguments << "\n      " << explanation << '\n';
        out << '\n';
    }
    out << "A flag is written --name=value or --name value, a boolean --name, --noname or --name=true. A later one "
           "wins.\n";
    return out.str();
}

}  // namespace bitloom
