#pragma once
// Search spaces: hyperparameters, their values, and their places on [0, 1] (svhn-qkeras.md, sections 5.5 and 5.7).

#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "engine/random.h"

namespace bitloom::search {

using Value = std::variant<bool, std::int64_t, double, std::string>;
/// One value a hyperparameter that is active.
using Values = std::map<std::string, Value>;

/// Text for people and file names: numbers in their shortest form.
std::string to_text(const Value& value);

enum class Domain { choice, integer, real, boolean, fixed };
enum class Sampling { linear, logarithmic };

/// A hyperparameter exists only where another one has one of these values.
struct Condition {
    std::string name;
    std::vector<Value> values;
};

struct Hyperparameter {
    std::string name;
    Domain domain = Domain::choice;
    std::vector<Value> choices;  ///< choice: all; fixed: the one
    double least = 0, most = 1;  ///< integer and real, both included
    double step = 0;             ///< grid from `least`; 0: any (real), 1 (integer)
    Sampling sampling = Sampling::linear;
    Value initial{};  ///< the default, also what an inactive one counts as
    std::vector<Condition> conditions;

    /// Uniform: over choices and grids each value alike, over intervals in the scale of the sampling.
    Value sample(Rng& rng) const;
    /// Place on [0, 1]. Choice i of n: (i + 0.5) / n; numbers (v - min) / (max - min), or ln(v/min) / ln(max/min);
    /// booleans 0.25 and 0.75; fixed ones 0.5. Throws Error for a value that is none of its own.
    double encode(const Value& value) const;
    /// Back: choice floor(p n), at most n - 1; numbers to the nearest grid point, of two the lower; booleans p >= 0.5.
    Value decode(double place) const;

   private:
    std::int64_t grid_size() const;  // 0: no grid
    Value grid_value(std::int64_t index) const;
    double from_place(double place) const;
};

/// Hyperparameters in order of registration.
class Space {
   public:
    // The initial value of each is its first choice or least value unless given. All return what was added, for
    // conditions. Throw Error for an empty list or range, a name that is taken, or an initial value outside.
    Hyperparameter& choice(std::string name, std::vector<Value> choices);
    Hyperparameter& choice(std::string name, std::vector<Value> choices, Value initial);
    Hyperparameter& integer(std::string name, std::int64_t least, std::int64_t most, std::int64_t step = 1);
    Hyperparameter& integer(std::string name, std::int64_t least, std::int64_t most, std::int64_t step,
                            std::int64_t initial);
    Hyperparameter& real(std::string name, double least, double most, double step = 0,
                         Sampling sampling = Sampling::linear);
    Hyperparameter& boolean(std::string name, bool initial = false);
    Hyperparameter& fixed(std::string name, Value value);

    const std::vector<Hyperparameter>& all() const { return parameters_; }
    const Hyperparameter& at(const std::string& name) const;
    bool active(const Hyperparameter& parameter, const Values& values) const;
    /// Every active one at its default.
    Values defaults() const;
    /// Drawn independently in order of registration; conditions look at what was drawn before.
    Values sample(Rng& rng) const;
    /// Dimensions of the cube: all but fixed ones.
    int dimensions() const;
    /// Inactive ones stand at their default.
    std::vector<double> encode(const Values& values) const;
    Values decode(const std::vector<double>& point) const;
    /// Combinations, all hyperparameters taken as active; 0 where a real one has no grid. Saturates at 2^62.
    std::int64_t combinations() const;
    /// One line a hyperparameter.
    std::string to_string() const;

   private:
    Hyperparameter& add(Hyperparameter parameter);
    std::vector<Hyperparameter> parameters_;
};

std::string values_to_json(const Values& values);
/// Throws Error for text that is no object of plain values.
Values values_from_json(const std::string& json);

}  // namespace bitloom::search
