#pragma once
// Command lines and configuration files of all programs, in the manner of absl flags.
//
//   std::int64_t epochs = 100;
//   Flags flags("train", "Trains a model on a data set.");
//   flags.group("Training");
//   flags.add("epochs", epochs, "passes over the training set", {.min = 1});
//   flags.example("--model lenet5 --epochs 3", "three epochs of LeNet-5");
//   flags.parse(argc, argv);
//
// Written --x=v or --x v, with one dash or two, '-' and '_' alike; booleans --x, --nox, --no-x, --x=true, --x=false. A
// later value replaces an earlier one. `--flagfile=F` stands for the flags in F, one a line, blank lines and lines that
// start with
// '#' or '//' ignored, nesting allowed. `--config=F` reads a JSON object {"flag": value}; flags, wherever they stand,
// win over it. `--` ends the flags. `--help` (also -h) explains.

#include <exception>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/io/flag_values.h"

namespace bitloom {

/// Thrown by Flags::parse for --help; run_program prints the text on stdout and exits with 0.
class HelpRequested : public std::exception {
public:
    explicit HelpRequested(std::string text) : text_(std::move(text)) {}
    const char* what() const noexcept override { return text_.c_str(); }

private:
    std::string text_;
};

class Flags {
public:
    /// `summary`: what the program does, a sentence or a paragraph.
    Flags(std::string program, std::string summary);
    ~Flags();
    Flags(const Flags&) = delete;
    Flags& operator=(const Flags&) = delete;

    /// Title over the flags that are added next.
    void group(std::string title);
    /// T: bool, int64, double, string, or a vector of the last three. `target` holds the default and must outlive the
    /// Flags. Throws Error where the name is taken.
    template <class T>
    void add(const std::string& name, T& target, std::string help, FlagRule rule = {}) {
        add(name, FlagTarget(&target), std::move(help), std::move(rule));
    }
    /// A second name of a flag (a published program's spelling, a single letter).
    void alias(const std::string& other, const std::string& name);
    /// Arguments that are no flags: without this call there may be none. `name` and `help` appear in the help.
    void positional(std::string name, std::string help, std::size_t least = 0, std::size_t most = SIZE_MAX);
    /// A worked command line (without the program's name) for the help.
    void example(std::string arguments, std::string explanation);

    /// Sets the targets; returns the positional arguments. Throws UsageError in one line that names the flag and where
    /// it stands ("cnn.cfg:3: --epochs: must be at least 1, got 0"), or HelpRequested.
    std::vector<std::string> parse(int argc, const char* const* argv);
    /// True where the flag was set by the command line, a flag file or a configuration file.
    bool given(const std::string& name) const;

    std::string help() const;
    /// All values as a JSON object in order of registration: the record of a run, which --config reads back.
    std::string to_json() const;
    /// Sets the flags that were not given from a record (a resumed run). `source` starts messages. Throws UsageError.
    void fill_from_json(const std::string& json, const std::string& source);

private:
    struct Flag;
    struct Occurrence;
    struct Expansion;
    void add(const std::string& name, FlagTarget target, std::string help, FlagRule rule);
    Flag* find(const std::string& name) const;
    Flag& at(const std::string& name) const;
    [[noreturn]] void unknown(const std::string& name, const std::string& where) const;
    void expand_argument(Expansion& expansion, const std::string& name, const std::string* value) const;
    void expand_file(Expansion& expansion, const std::string& path) const;
    void apply_json(const std::string& json, const std::string& source, bool only_missing);

    std::string program_, summary_, group_ = "Flags";
    std::vector<std::unique_ptr<Flag>> flags_;
    std::map<std::string, Flag*> by_name_;  // with '_' as '-', aliases too
    struct Positional {
        std::string name, help;
        std::size_t least = 0, most = 0;
    } positional_;
    std::vector<std::pair<std::string, std::string>> examples_;
};

}  // namespace bitloom
