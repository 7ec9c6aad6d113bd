#pragma once
// Evaluation of golden files: HDF5 files whose groups are cases, each with its inputs, parameters and expected outputs.
// A program names the groups that it knows by pattern and evaluator; everything else that a file holds counts as failed.

#include <functional>
#include <iosfwd>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "engine/io/hdf5.h"

namespace bitloom::golden {

/// One case: a group of the file. Datasets and attributes are named relative to it; a missing one is an Error.
class Case {
   public:
    Case(const hdf5::File& file, std::string path)
        : file_(&file), path_(std::move(path)), read_(std::make_shared<std::set<std::string>>()) {}

    const hdf5::File& file() const { return *file_; }
    const std::string& path() const { return path_; }
    /// Component i of the path; negative ones count from the end. "quantizers/binary/3": part(-2) is "binary".
    std::string part(int i) const;
    /// A group below (or, with "..", beside) this one.
    Case at(std::string_view relative) const;

    bool has(std::string_view dataset) const;
    Tensor tensor(std::string_view dataset, DType dtype = DType::f32) const;
    std::vector<std::string> strings(std::string_view dataset) const;
    /// Counts everything in the group as evaluated: of cases that are for information only.
    void ignore() const;
    /// Datasets in and below the group that nothing has read yet, by this object or by those from at().
    std::vector<std::string> unread() const;

    /// Names of the attributes.
    std::vector<std::string> attributes() const;
    /// True where the attribute is there and not the string None.
    bool given(std::string_view attribute) const;
    /// Of any kind as text: strings as they are, numbers in their shortest form.
    std::string text(std::string_view attribute) const;
    double number(std::string_view attribute) const;
    std::int64_t integer(std::string_view attribute) const;
    bool flag(std::string_view attribute) const { return number(attribute) != 0; }
    /// The fallback where the attribute is missing or None.
    std::string text_or(std::string_view attribute, const std::string& fallback) const;
    double number_or(std::string_view attribute, double fallback) const;
    std::int64_t integer_or(std::string_view attribute, std::int64_t fallback) const;
    bool flag_or(std::string_view attribute, bool fallback) const;

   private:
    const hdf5::File* file_;
    std::string path_;
    std::shared_ptr<std::set<std::string>> read_;  // full paths; shared with what at() returns
};

/// Evaluates one case: returns where all of it agrees, throws Error (one line, what differs) where something does not.
using Evaluator = std::function<void(const Case&)>;

/// |got - want| <= tolerance max(1, |want|) everywhere, equal shapes up to axes of extent 1. Throws Error that names
/// `what` and the first element that differs. NaN never agrees.
void expect_close(std::string_view what, const Tensor& got, const Tensor& want, double tolerance);
void expect_close(std::string_view what, double got, double want, double tolerance);
/// Equal element by element (-0 equals 0).
void expect_equal(std::string_view what, const Tensor& got, const Tensor& want);
void expect_equal(std::string_view what, double got, double want);
void expect_equal(std::string_view what, const std::string& got, const std::string& want);

/// Which evaluator serves which groups. A pattern is a path with `*` for one component; the first that matches a group
/// wins, and all below the group belongs to the case. A pattern that ends in `/**` matches the groups at any depth that hold
/// datasets or attributes themselves.
class Families {
   public:
    void add(std::string pattern, Evaluator evaluator) { entries_.push_back({std::move(pattern), std::move(evaluator)}); }
    /// Groups that hold what other cases read (weights, inputs): no case of their own.
    void add_data(std::string pattern) { entries_.push_back({std::move(pattern), nullptr}); }

    /// Groups whose own datasets are what the cases below them share.
    void add_shared(std::string pattern) { entries_.push_back({std::move(pattern), nullptr, true}); }

    struct Entry {
        std::string pattern;
        Evaluator evaluator;  ///< null for data
        bool shared = false;  ///< data is only what stands in the group itself
    };
    const Entry* find(std::string_view path) const;

   private:
    std::vector<Entry> entries_;
};

/// Counts, and one line a case that did not pass.
class Report {
   public:
    explicit Report(std::ostream& out, bool list_passed = false) : out_(out), list_passed_(list_passed) {}
    void passed(std::string_view path);
    void failed(std::string_view path, std::string_view why);
    void skipped(std::string_view path, std::string_view why);
    /// The last line, `N passed, M failed, K skipped`; returns the exit status, 1 where a case failed.
    int finish();

   private:
    std::ostream& out_;
    bool list_passed_;
    std::int64_t passed_ = 0, failed_ = 0, skipped_ = 0;
};

/// Evaluates every case of the file whose path starts with one of `only` (all, where it is empty). A group that
/// no pattern matches counts as failed where it holds datasets or nothing at all; others are searched for cases.
/// A case with a dataset that its evaluator does not read fails too.
void evaluate_file(const hdf5::File& file, const Families& families, const std::vector<std::string>& only,
                   Report& report);

/// The main function of a program that evaluates golden files; `few`: families for the example of --only.
int golden_main(int argc, char** argv, const std::string& program, const std::string& summary, const std::string& few,
                const Families& families);

}  // namespace bitloom::golden
