#include "apps/golden/golden.h"

#include <charconv>
#include <cmath>
#include <iostream>

#include "apps/common/text.h"
#include "engine/io/flags.h"
#include "engine/io/program.h"

namespace bitloom::golden {

namespace {

std::vector<std::string_view> components(std::string_view path) {
    std::vector<std::string_view> parts;
    while (!path.empty()) {
        parts.push_back(path.substr(0, path.find('/')));
        path.remove_prefix(std::min(path.size(), parts.back().size() + 1));
    }
    return parts;
}

bool is_deep(std::string_view pattern) { return pattern.ends_with("/**"); }

bool matches(std::string_view pattern, std::string_view path) {
    const bool deep = is_deep(pattern);
    if (deep) pattern.remove_suffix(3);
    const auto wanted = components(pattern), found = components(path);
    if (deep ? found.size() < wanted.size() : found.size() != wanted.size()) return false;
    for (std::size_t i = 0; i < wanted.size(); ++i)
        if (wanted[i] != "*" && wanted[i] != found[i]) return false;
    return true;
}

std::string shortest(double value) {
    char text[32];
    const auto end = std::to_chars(text, text + sizeof text, value).ptr;
    return std::string(text, end);
}

std::string one_line(std::string_view text) {
    std::string line(text);
    for (char& c : line)
        if (c == '\n' || c == '\r') c = ' ';
    return line;
}

/// The shape without axes of extent 1.
Shape squeezed(const Shape& shape) {
    Shape kept;
    for (const std::int64_t extent : shape)
        if (extent != 1) kept.append(extent);
    return kept;
}

void require_same_shape(std::string_view what, const Tensor& got, const Tensor& want) {
    require(squeezed(got.shape()) == squeezed(want.shape()), what, " has shape ", got.shape(), ", expected ",
            want.shape());
}

}  // namespace

std::string Case::part(int i) const {
    const auto parts = components(path_);
    const auto n = static_cast<int>(parts.size());
    const int index = i < 0 ? i + n : i;
    require(index >= 0 && index < n, path_, ": has no component ", i);
    return std::string(parts[static_cast<std::size_t>(index)]);
}

Case Case::at(std::string_view relative) const {
    std::string path = path_;
    for (const std::string_view part : components(relative)) {
        if (part == "..")
            path = path.substr(0, path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
        else
            path += (path.empty() ? "" : "/") + std::string(part);
    }
    Case there(*file_, path);
    there.read_ = read_;
    return there;
}

bool Case::has(std::string_view dataset) const { return file_->has(cat(path_, '/', dataset)); }

Tensor Case::tensor(std::string_view dataset, DType dtype) const {
    const std::string path = cat(path_, '/', dataset);
    read_->insert(path);
    return file_->read(path, dtype);
}

std::vector<std::string> Case::strings(std::string_view dataset) const {
    const std::string path = cat(path_, '/', dataset);
    read_->insert(path);
    return file_->read_strings(path);
}

void Case::ignore() const {
    for (const std::string& path : unread()) read_->insert(path);
}

std::vector<std::string> Case::unread() const {
    std::vector<std::string> paths;
    for (std::string& path : file_->datasets(path_))
        if (!read_->contains(path)) paths.push_back(std::move(path));
    return paths;
}

std::vector<std::string> Case::attributes() const { return file_->attributes(path_); }

bool Case::given(std::string_view attribute) const {
    return file_->has_attribute(path_, attribute) && text(attribute) != "None";
}

std::string Case::text(std::string_view attribute) const {
    if (file_->attribute_is_text(path_, attribute)) return file_->attribute_string(path_, attribute);
    const std::vector<double> values = file_->attribute_f64(path_, attribute);
    if (values.size() == 1) return shortest(values.front());
    std::string list;
    for (const double value : values) list += (list.empty() ? "" : ", ") + shortest(value);
    return "[" + list + "]";
}

double Case::number(std::string_view attribute) const {
    if (file_->attribute_is_text(path_, attribute)) {
        const std::string text = file_->attribute_string(path_, attribute);
        if (text == "True") return 1;
        if (text == "False") return 0;
        double value = 0;
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
        require(error == std::errc() && end == text.data() + text.size(), "attribute ", attribute, " is '", text,
                "', not a number");
        return value;
    }
    const std::vector<double> values = file_->attribute_f64(path_, attribute);
    require(values.size() == 1, "attribute ", attribute, " holds ", values.size(), " numbers, not one");
    return values.front();
}

std::int64_t Case::integer(std::string_view attribute) const {
    const double value = number(attribute);
    require(value == std::floor(value) && std::abs(value) < 0x1.0p62, "attribute ", attribute, " is ", value,
            ", not an integer");
    return static_cast<std::int64_t>(value);
}

std::string Case::text_or(std::string_view attribute, const std::string& fallback) const {
    return given(attribute) ? text(attribute) : fallback;
}
double Case::number_or(std::string_view attribute, double fallback) const {
    return given(attribute) ? number(attribute) : fallback;
}
std::int64_t Case::integer_or(std::string_view attribute, std::int64_t fallback) const {
    return given(attribute) ? integer(attribute) : fallback;
}
bool Case::flag_or(std::string_view attribute, bool fallback) const {
    return given(attribute) ? flag(attribute) : fallback;
}

void expect_close(std::string_view what, const Tensor& got, const Tensor& want, double tolerance) {
    require_same_shape(what, got, want);
    const std::vector<double> g = got.values<double>(), w = want.values<double>();
    std::size_t wrong = 0, first = 0;
    for (std::size_t i = 0; i < g.size(); ++i) {
        const bool close = g[i] == w[i] || std::abs(g[i] - w[i]) <= tolerance * std::max(1.0, std::abs(w[i]));
        if (!close && wrong++ == 0) first = i;
    }
    require(wrong == 0, what, ": ", wrong, " of ", g.size(), " values differ, the first at ", first, ": got ",
            g.empty() ? "" : shortest(g[first]), ", expected ", w.empty() ? "" : shortest(w[first]));
}

void expect_close(std::string_view what, double got, double want, double tolerance) {
    require(got == want || std::abs(got - want) <= tolerance * std::max(1.0, std::abs(want)), what, ": got ",
            shortest(got), ", expected ", shortest(want));
}

void expect_equal(std::string_view what, const Tensor& got, const Tensor& want) { expect_close(what, got, want, 0); }
void expect_equal(std::string_view what, double got, double want) { expect_close(what, got, want, 0); }
void expect_equal(std::string_view what, const std::string& got, const std::string& want) {
    require(got == want, what, ": got '", got, "', expected '", want, "'");
}

const Families::Entry* Families::find(std::string_view path) const {
    for (const Entry& entry : entries_)
        if (matches(entry.pattern, path)) return &entry;
    return nullptr;
}

void Report::passed(std::string_view path) {
    ++passed_;
    if (list_passed_) out_ << "passed " << path << '\n';
}
void Report::failed(std::string_view path, std::string_view why) {
    ++failed_;
    out_ << "FAILED " << path << ": " << one_line(why) << std::endl;
}
void Report::skipped(std::string_view path, std::string_view why) {
    ++skipped_;
    out_ << "skipped " << path << ": " << one_line(why) << std::endl;
}
int Report::finish() {
    out_ << passed_ << " passed, " << failed_ << " failed, " << skipped_ << " skipped" << std::endl;
    return failed_ > 0 ? 1 : 0;
}

namespace {

class Walk {
   public:
    Walk(const hdf5::File& file, const Families& families, const std::vector<std::string>& only, Report& report)
        : file_(file), families_(families), only_(only), report_(report), datasets_(file.datasets()) {}

    void group(const std::string& path) {
        const Families::Entry* entry = path.empty() ? nullptr : families_.find(path);
        if (entry && !entry->shared && !(is_deep(entry->pattern) && only_contains_groups(path))) {
            if (entry->evaluator && wanted(path)) evaluate(path, entry->evaluator);
            return;
        }
        const std::vector<std::string> below = file_.groups(path);
        const bool unknown = !entry && (has_datasets(path) || (below.empty() && !path.empty()));
        if (unknown && wanted(path)) report_.failed(path.empty() ? "/" : path, "a group that this program does not know");
        for (const std::string& name : below) group(path.empty() ? name : path + "/" + name);
    }

   private:
    bool has_datasets(const std::string& group) const {
        const std::string prefix = group.empty() ? "" : group + "/";
        for (const std::string& name : datasets_)
            if (name.starts_with(prefix) && name.find('/', prefix.size()) == std::string::npos) return true;
        return false;
    }
    bool only_contains_groups(const std::string& group) const {
        return !has_datasets(group) && file_.attributes(group).empty() && !file_.groups(group).empty();
    }
    bool wanted(const std::string& path) const {
        if (only_.empty()) return true;
        for (const std::string& prefix : only_)
            if (path.starts_with(prefix)) return true;
        return false;
    }
    void evaluate(const std::string& path, const Evaluator& evaluator) {
        try {
            const Case c(file_, path);
            evaluator(c);
            const std::vector<std::string> unread = c.unread();
            require(unread.empty(), "a dataset that this program does not know: ", unread.empty() ? "" : unread.front().substr(path.size() + 1));
        } catch (const std::exception& error) {
            return report_.failed(path, error.what());
        }
        report_.passed(path);
    }

    const hdf5::File& file_;
    const Families& families_;
    const std::vector<std::string>& only_;
    Report& report_;
    std::vector<std::string> datasets_;
};

}  // namespace

void evaluate_file(const hdf5::File& file, const Families& families, const std::vector<std::string>& only,
                   Report& report) {
    Walk(file, families, only, report).group("");
}

int golden_main(int argc, char** argv, const std::string& program, const std::string& summary,
                const std::string& few, const Families& families) {
    return run_program(argc, argv, [&](int count, char** arguments) {
        std::vector<std::string> only;
        bool list_passed = false;
        Flags flags(program, summary + " Prints a line for every case that fails, and last how many passed; exit "
                                       "status 1 where one failed. Groups that the program does not know fail.");
        flags.positional("FILE", "golden file (HDF5)", 1, 1);
        flags.add("only", only, "evaluate only cases whose path starts with one of these");
        flags.add("list", list_passed, "also print the cases that pass");
        const std::string file = program.substr(program.find('_') + 1) + ".h5";
        flags.example(file, "every case of the file");
        flags.example(file + " --only " + few + " --list", "a few families, each case with its name");
        const std::vector<std::string> files = flags.parse(count, arguments);
        Report report(std::cout, list_passed);
        evaluate_file(hdf5::File::open(files.front()), families, only, report);
        return report.finish();
    });
}

}  // namespace bitloom::golden
