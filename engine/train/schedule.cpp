#include "engine/train/schedule.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <numbers>
#include <utility>

#include "engine/error.h"
#include "engine/io/flag_values.h"
#include "engine/train/callback.h"

namespace bitloom {

namespace {

class Constant final : public Schedule {
public:
    explicit Constant(double rate) : rate_(rate) {}
    double before_epoch(std::int64_t, double) override { return rate_; }

private:
    double rate_;
};

class MultiStep final : public Schedule {
public:
    MultiStep(double rate, std::vector<std::int64_t> epochs, double factor)
        : rate_(rate), epochs_(std::move(epochs)), factor_(factor) {}
    double before_epoch(std::int64_t epoch, double) override {
        double rate = rate_;
        for (const std::int64_t e : epochs_)
            if (e <= epoch) rate *= factor_;
        return rate;
    }

private:
    double rate_;
    std::vector<std::int64_t> epochs_;
    double factor_;
};

class Every final : public Schedule {
public:
    Every(double rate, std::int64_t period, double factor) : rate_(rate), period_(period), factor_(factor) {}
    double before_epoch(std::int64_t epoch, double) override {
        double rate = rate_;
        for (std::int64_t e = period_; e <= epoch; e += period_) rate *= factor_;
        return rate;
    }

private:
    double rate_;
    std::int64_t period_;
    double factor_;
};

class Cosine final : public Schedule {
public:
    Cosine(double rate, std::int64_t first, std::int64_t epochs, double minimum)
        : rate_(rate), first_(first), epochs_(epochs), minimum_(minimum) {}
    double before_epoch(std::int64_t epoch, double) override {
        const double part =
            static_cast<double>(std::clamp<std::int64_t>(epoch - first_, 0, epochs_)) / static_cast<double>(epochs_);
        return minimum_ + (rate_ - minimum_) / 2 * (1 + std::cos(std::numbers::pi * part));
    }

private:
    double rate_;
    std::int64_t first_, epochs_;
    double minimum_;
};

class Plateau final : public Schedule {
public:
    Plateau(double rate, PlateauOptions options)
        : rate_(rate),
          options_(std::move(options)),
          larger_(larger_is_better(options_.metric)),
          best_((larger_ ? -1 : 1) * std::numeric_limits<double>::infinity()) {}
    std::string watches() const override { return options_.metric; }
    double before_epoch(std::int64_t epoch, double current) override { return epoch == 0 ? rate_ : current; }
    double after_epoch(double current, double watched) override {
        if (cooldown_ > 0) {
            --cooldown_;
            wait_ = 0;
        }
        if (larger_ ? watched > best_ + options_.min_delta : watched < best_ - options_.min_delta) {
            best_ = watched;
            wait_ = 0;
        } else if (cooldown_ == 0) {
            ++wait_;
            if (wait_ >= options_.patience && current > options_.min_lr) {
                current = std::max(current * options_.factor, options_.min_lr);
                cooldown_ = options_.cooldown;
                wait_ = 0;
            }
        }
        return current;
    }
    std::vector<double> state() const override {
        return {best_, static_cast<double>(wait_), static_cast<double>(cooldown_)};
    }
    void load_state(const std::vector<double>& state) override {
        require(state.size() == 3, "schedule: the saved state has ", state.size(),
                " numbers, a plateau schedule has 3");
        best_ = state[0];
        wait_ = static_cast<std::int64_t>(state[1]);
        cooldown_ = static_cast<std::int64_t>(state[2]);
    }

private:
    double rate_;
    PlateauOptions options_;
    bool larger_;
    double best_;
    std::int64_t wait_ = 0, cooldown_ = 0;
};

class WarmUp final : public Schedule {
public:
    WarmUp(double rate, std::int64_t epochs, std::unique_ptr<Schedule> inner)
        : rate_(rate), epochs_(epochs), inner_(std::move(inner)) {}
    std::string watches() const override { return inner_->watches(); }
    double before_epoch(std::int64_t epoch, double current) override {
        epoch_ = epoch;
        if (epoch < epochs_) return rate_ * static_cast<double>(epoch + 1) / static_cast<double>(epochs_);
        return inner_->before_epoch(epoch, current);
    }
    double after_epoch(double current, double watched) override {
        return epoch_ < epochs_ ? current : inner_->after_epoch(current, watched);
    }
    std::vector<double> state() const override {
        std::vector<double> state = inner_->state();
        state.push_back(static_cast<double>(epoch_));
        return state;
    }
    void load_state(const std::vector<double>& state) override {
        require(!state.empty(), "schedule: the saved state of a warm-up is empty");
        epoch_ = static_cast<std::int64_t>(state.back());
        inner_->load_state({state.begin(), state.end() - 1});
    }

private:
    double rate_;
    std::int64_t epochs_;
    std::unique_ptr<Schedule> inner_;
    std::int64_t epoch_ = 0;
};

// Parsing.

[[noreturn]] void refuse(std::string_view text, const std::string& reason) {
    throw UsageError(cat("schedule ", in_quotes(text), ": ", reason));
}

std::vector<std::string_view> split(std::string_view text, char separator) {
    std::vector<std::string_view> parts;
    while (true) {
        const std::size_t end = text.find(separator);
        parts.push_back(text.substr(0, end));
        if (end == std::string_view::npos) return parts;
        text.remove_prefix(end + 1);
    }
}

template <class T>
T number(std::string_view whole, std::string_view text) {
    T value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) refuse(whole, cat(in_quotes(text), " is not a number"));
    return value;
}

/// Bounds that every number of a schedule keeps.
template <class T>
T number_in(std::string_view whole, std::string_view what, std::string_view text, T low, T high) {
    const T value = number<T>(whole, text);
    if (!(value >= low && value <= high)) refuse(whole, cat(what, " ", value, " is not in [", low, ", ", high, "]"));
    return value;
}

constexpr std::int64_t most_epochs = 1'000'000'000;

std::unique_ptr<Schedule> parse_cosine(std::string_view whole, std::string_view arguments, double rate,
                                       std::int64_t first, std::int64_t epochs) {
    double minimum = 0;
    if (!arguments.empty()) {
        const auto equals = arguments.find('=');
        const std::string_view key = arguments.substr(0, equals);
        if (equals == std::string_view::npos || key != "min_lr") refuse(whole, "cosine knows min_lr=RATE");
        minimum = number_in<double>(whole, key, arguments.substr(equals + 1), 0, rate);
    }
    return std::make_unique<Cosine>(rate, first, std::max<std::int64_t>(epochs - first, 1), minimum);
}

std::unique_ptr<Schedule> parse_plateau(std::string_view whole, std::string_view arguments, double rate) {
    PlateauOptions options;
    if (!arguments.empty()) {
        for (const std::string_view part : split(arguments, ',')) {
            const auto equals = part.find('=');
            if (equals == std::string_view::npos) refuse(whole, cat(in_quotes(part), " is not KEY=VALUE"));
            const std::string_view key = part.substr(0, equals), value = part.substr(equals + 1);
            if (key == "metric")
                options.metric = value;
            else if (key == "factor")
                options.factor = number_in<double>(whole, key, value, 0, 1);
            else if (key == "patience")
                options.patience = number_in<std::int64_t>(whole, key, value, 0, most_epochs);
            else if (key == "min_delta")
                options.min_delta = number_in<double>(whole, key, value, 0, 1e300);
            else if (key == "cooldown")
                options.cooldown = number_in<std::int64_t>(whole, key, value, 0, most_epochs);
            else if (key == "min_lr")
                options.min_lr = number_in<double>(whole, key, value, 0, 1e300);
            else
                refuse(whole,
                       cat("plateau knows metric, factor, patience, min_delta, cooldown and min_lr, not ", in_quotes(key)));
        }
    }
    return plateau_schedule(rate, options);
}

}  // namespace

std::unique_ptr<Schedule> constant_schedule(double rate) { return std::make_unique<Constant>(rate); }
std::unique_ptr<Schedule> multi_step_schedule(double rate, std::vector<std::int64_t> epochs, double factor) {
    return std::make_unique<MultiStep>(rate, std::move(epochs), factor);
}
std::unique_ptr<Schedule> cosine_schedule(double rate, std::int64_t epochs, double minimum) {
    require(epochs > 0, "schedule: a cosine over ", epochs, " epochs");
    return std::make_unique<Cosine>(rate, 0, epochs, minimum);
}
std::unique_ptr<Schedule> plateau_schedule(double rate, const PlateauOptions& options) {
    return std::make_unique<Plateau>(rate, options);
}
std::unique_ptr<Schedule> warm_up_schedule(double rate, std::int64_t epochs, std::unique_ptr<Schedule> inner) {
    return std::make_unique<WarmUp>(rate, epochs, std::move(inner));
}

std::unique_ptr<Schedule> parse_schedule(std::string_view text, double rate, std::int64_t epochs) {
    std::string_view rest = text;
    std::int64_t warm_up = 0;
    constexpr std::string_view prefix = "warmup:";
    if (rest.starts_with(prefix)) {
        const std::size_t plus = rest.find('+');
        if (plus == std::string_view::npos) refuse(text, "a warm-up is written warmup:EPOCHS+SCHEDULE");
        warm_up =
            number_in<std::int64_t>(text, "warm-up", rest.substr(prefix.size(), plus - prefix.size()), 1, most_epochs);
        rest.remove_prefix(plus + 1);
    }
    const std::vector<std::string_view> parts = split(rest, ':');
    const std::string_view name = parts[0], arguments = parts.size() > 1 ? parts[1] : std::string_view();
    const std::size_t most_parts = name == "step" || name == "every" ? 3 : name == "constant" ? 1 : 2;
    if (parts.size() > most_parts) refuse(text, cat("nothing may follow ", in_quotes(parts[most_parts - 1])));
    const auto factor = [&] { return parts.size() > 2 ? number_in<double>(text, "factor", parts[2], 0, 1e300) : 0.1; };

    std::unique_ptr<Schedule> schedule;
    if (name == "constant") {
        schedule = constant_schedule(rate);
    } else if (name == "step") {
        std::vector<std::int64_t> milestones;
        for (const std::string_view part : split(arguments, ','))
            milestones.push_back(number_in<std::int64_t>(text, "epoch", part, 0, most_epochs));
        schedule = multi_step_schedule(rate, std::move(milestones), factor());
    } else if (name == "every") {
        const auto period = number_in<std::int64_t>(text, "period", arguments, 1, most_epochs);
        schedule = std::make_unique<Every>(rate, period, factor());
    } else if (name == "cosine") {
        schedule = parse_cosine(text, arguments, rate, warm_up, epochs);
    } else if (name == "plateau") {
        schedule = parse_plateau(text, arguments, rate);
    } else {
        refuse(text, "known: constant, step:E,E:FACTOR, every:N:FACTOR, cosine, plateau:KEY=VALUE,...");
    }
    return warm_up > 0 ? warm_up_schedule(rate, warm_up, std::move(schedule)) : std::move(schedule);
}

}  // namespace bitloom
