#include "quant/search/tuner.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "engine/error.h"
#include "engine/io/json_values.h"

namespace bitloom::search {

namespace {

using Json = nlohmann::ordered_json;

constexpr int redraws = 20;
constexpr const char* status_names[] = {"running", "completed", "failed"};

TrialStatus status_named(const std::string& name) {
    for (int i = 0; i < 3; ++i)
        if (name == status_names[i]) return static_cast<TrialStatus>(i);
    fail("unknown status '", name, "' of a trial");
}

Json to_json(const Trial& trial) {
    Json json{{"id", trial.id}, {"status", status_names[static_cast<int>(trial.status)]}};
    if (trial.status == TrialStatus::completed) json["score"] = trial.score;
    if (trial.epochs > 0) {
        json["epochs"] = trial.epochs;
        json["initial_epoch"] = trial.initial_epoch;
        json["parent"] = trial.parent;
        json["iteration"] = trial.iteration;
        json["bracket"] = trial.bracket;
        json["round"] = trial.round;
    }
    if (!trial.metrics.empty()) json["metrics"] = trial.metrics;
    json["values"] = Json::parse(values_to_json(trial.values));
    return json;
}

Trial trial_from_json(const Json& json) {
    Trial trial;
    trial.id = integer_from_json(json.at("id"));
    trial.status = status_named(json.at("status").get<std::string>());
    if (trial.status == TrialStatus::completed) trial.score = json.at("score").get<double>();
    if (json.contains("epochs")) {
        trial.epochs = integer_from_json(json.at("epochs"));
        trial.initial_epoch = integer_from_json(json.at("initial_epoch"));
        trial.parent = integer_from_json(json.at("parent"));
        trial.iteration = integer_from_json(json.at("iteration"));
        trial.bracket = integer_from_json(json.at("bracket"));
        trial.round = integer_from_json(json.at("round"));
    }
    if (json.contains("metrics")) trial.metrics = json.at("metrics").get<std::map<std::string, double>>();
    trial.values = values_from_json(json.at("values").dump());
    return trial;
}

}  // namespace

std::optional<Trial> Tuner::ask() {
    if (!to_repeat_.empty()) {
        const std::int64_t id = to_repeat_.front();
        to_repeat_.erase(to_repeat_.begin());
        return trials_[static_cast<std::size_t>(id)];
    }
    std::optional<Trial> next = propose();
    if (!next) return std::nullopt;
    next->id = static_cast<std::int64_t>(trials_.size());
    next->status = TrialStatus::running;
    trials_.push_back(*next);
    return next;
}

Trial& Tuner::running_trial(std::int64_t id) {
    require(id >= 0 && id < std::ssize(trials_), "tuner: no trial ", id);
    Trial& trial = trials_[static_cast<std::size_t>(id)];
    require(trial.status == TrialStatus::running, "tuner: trial ", id, " does not run");
    return trial;
}

void Tuner::tell(std::int64_t id, double score, std::map<std::string, double> metrics) {
    require(std::isfinite(score), "tuner: trial ", id, " has a score that is not finite");
    Trial& trial = running_trial(id);
    trial.score = score;
    trial.metrics = std::move(metrics);
    trial.status = TrialStatus::completed;
}

void Tuner::fail(std::int64_t id) { running_trial(id).status = TrialStatus::failed; }

const Trial& Tuner::trial(std::int64_t id) const {
    require(id >= 0 && id < std::ssize(trials_), "tuner: no trial ", id);
    return trials_[static_cast<std::size_t>(id)];
}

std::int64_t Tuner::running() const {
    return std::count_if(trials_.begin(), trials_.end(),
                         [](const Trial& trial) { return trial.status == TrialStatus::running; });
}

std::int64_t Tuner::completed() const {
    return std::count_if(trials_.begin(), trials_.end(),
                         [](const Trial& trial) { return trial.status == TrialStatus::completed; });
}

const Trial* Tuner::best() const {
    const Trial* best = nullptr;
    for (const Trial& trial : trials_)
        if (trial.status == TrialStatus::completed && (best == nullptr || better(trial.score, best->score)))
            best = &trial;
    return best;
}

std::vector<Trial> Tuner::ranking() const {
    std::vector<Trial> ranked;
    for (const Trial& trial : trials_)
        if (trial.status == TrialStatus::completed) ranked.push_back(trial);
    std::stable_sort(ranked.begin(), ranked.end(),
                     [this](const Trial& a, const Trial& b) { return better(a.score, b.score); });
    return ranked;
}

bool Tuner::tried(const Values& values) const {
    return std::any_of(trials_.begin(), trials_.end(), [&](const Trial& trial) { return trial.values == values; });
}

std::optional<Values> Tuner::draw_untried() {
    for (int attempt = 0; attempt <= redraws; ++attempt) {
        Rng rng(options_.seed, "trial", static_cast<std::uint64_t>(draws_++));
        Values values = space_.sample(rng);
        if (!tried(values)) return values;
    }
    return std::nullopt;
}

std::string Tuner::save() const {
    Json json{{"format", "bitloom-search"}, {"version", 1},          {"tuner", name()},
              {"seed", options_.seed},      {"space", space_.to_string()}, {"draws", draws_}};
    json["state"] = state();
    json["trials"] = Json::array();
    for (const Trial& trial : trials_) json["trials"].push_back(to_json(trial));
    return json.dump(1) + "\n";
}

void Tuner::load(const std::string& text) {
    try {
        const Json json = json_from_text<Json>(text);
        require(json.is_object() && json.value("format", "") == "bitloom-search", "it is no state of a search");
        require(integer_from_json(json.at("version")) == 1, "its version is not 1");
        require(json.at("tuner") == name(), "it is of the tuner ", json.at("tuner").dump(), ", not ", name());
        require(json.at("space") == space_.to_string(), "its search space is another one");
        require(json.at("seed").get<std::uint64_t>() == options_.seed, "its seed is another one");
        std::vector<Trial> trials;
        for (const Json& entry : json.at("trials")) {
            trials.push_back(trial_from_json(entry));
            require(trials.back().id == std::ssize(trials) - 1, "its trials are out of order");
        }
        const std::int64_t draws = integer_from_json(json.at("draws"));
        load_state(integers_from_json(json.at("state")));
        draws_ = draws;
        trials_ = std::move(trials);
        to_repeat_.clear();
        for (const Trial& trial : trials_)
            if (trial.status == TrialStatus::running) to_repeat_.push_back(trial.id);
    } catch (const std::exception& error) {
        bitloom::fail("cannot resume the search: ", error.what());
    }
}

}  // namespace bitloom::search
