// What a trainer writes into its checkpoints, and how it takes it back.

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "engine/train/trainer.h"

namespace bitloom {

namespace {

struct Column {
    const char* name;
    double EpochRecord::*field;
};
constexpr Column columns[] = {{"loss", &EpochRecord::loss},
                              {"accuracy", &EpochRecord::accuracy},
                              {"val_loss", &EpochRecord::validation_loss},
                              {"val_accuracy", &EpochRecord::validation_accuracy},
                              {"lr", &EpochRecord::learning_rate},
                              {"regularization", &EpochRecord::regularization}};
constexpr const char* extra_prefix = "extra.";

/// One vector a column, under `prefix`; NaN where an epoch has no such value.
void save_records(const std::vector<EpochRecord>& records, const std::string& prefix, Checkpoint& checkpoint) {
    if (records.empty()) return;
    std::set<std::string> extras;
    for (const EpochRecord& record : records)
        for (const auto& [name, value] : record.extra) extras.insert(name);
    for (const Column& column : columns)
        for (const EpochRecord& record : records)
            checkpoint.doubles[prefix + column.name].push_back(record.*column.field);
    for (const std::string& name : extras) {
        std::vector<double>& values = checkpoint.doubles[prefix + extra_prefix + name];
        for (const EpochRecord& record : records) {
            const auto found = record.extra.find(name);
            values.push_back(found == record.extra.end() ? std::numeric_limits<double>::quiet_NaN() : found->second);
        }
    }
}

std::vector<EpochRecord> load_records(const Checkpoint& checkpoint, const std::string& prefix, std::int64_t first,
                                      std::int64_t count) {
    std::vector<EpochRecord> records(static_cast<std::size_t>(count));
    if (records.empty()) return records;
    for (std::size_t i = 0; i < records.size(); ++i) records[i].epoch = first + static_cast<std::int64_t>(i);
    const auto column_of = [&](const std::string& name) -> const std::vector<double>& {
        const std::vector<double>& values = doubles_field(checkpoint, name);
        require(values.size() == records.size(), "checkpoint: '", name, "' has ", values.size(), " epochs of ",
                records.size());
        return values;
    };
    for (const Column& column : columns) {
        const std::vector<double>& values = column_of(prefix + column.name);
        for (std::size_t i = 0; i < records.size(); ++i) records[i].*column.field = values[i];
    }
    const std::string extras = prefix + extra_prefix;
    for (auto it = checkpoint.doubles.lower_bound(extras);
         it != checkpoint.doubles.end() && it->first.starts_with(extras); ++it) {
        const std::vector<double>& values = column_of(it->first);
        for (std::size_t i = 0; i < records.size(); ++i)
            if (!std::isnan(values[i])) records[i].extra[it->first.substr(extras.size())] = values[i];
    }
    return records;
}

}  // namespace

void save_optimizer(const Optimizer& optimizer, Checkpoint& checkpoint, const std::string& prefix) {
    for (const auto& [name, tensor] : optimizer.state())
        checkpoint.optimizer.emplace_back(prefix + name,
                                          tensor.device() == cpu_device ? tensor.clone() : tensor.to(cpu_device));
    checkpoint.integers[prefix + "optimizer.steps"] = optimizer.steps();
    checkpoint.strings[prefix + "optimizer.name"] = optimizer.name();
    std::vector<double>& rates = checkpoint.doubles[prefix + "optimizer.learning_rates"];
    for (const ParameterGroup& group : optimizer.groups()) rates.push_back(group.learning_rate);
}

void load_optimizer(Optimizer& optimizer, const Checkpoint& checkpoint, const std::string& prefix) {
    const std::string& name = string_field(checkpoint, prefix + "optimizer.name");
    require(name == optimizer.name(), "checkpoint: the optimizer was ", name, ", not ", optimizer.name());
    const std::vector<double>& rates = doubles_field(checkpoint, prefix + "optimizer.learning_rates");
    require(rates.size() == optimizer.groups().size(), "checkpoint: the optimizer had ", rates.size(), " groups, not ",
            optimizer.groups().size());
    // The states of several optimizers share one list: each takes those of its own parameters.
    std::vector<std::pair<std::string, Tensor>> state;
    std::set<std::string> own;
    for (const auto& [path, parameter] : optimizer.parameters()) own.insert(prefix + path);
    for (const auto& [full, tensor] : checkpoint.optimizer)
        if (own.contains(full.substr(0, full.rfind('/')))) state.emplace_back(full.substr(prefix.size()), tensor);
    optimizer.load_state(state, integer_field(checkpoint, prefix + "optimizer.steps"));
    for (std::size_t i = 0; i < rates.size(); ++i) optimizer.groups()[i].learning_rate = rates[i];
}

/// A step may leave weights whose own loss was never seen: they must not take the place of good ones.
void Trainer::check_finite(const std::vector<std::pair<std::string, Tensor>>& tensors) const {
    const auto finite = []<class T>(const Tensor& tensor, T) {
        const T* values = tensor.read<T>();
        return std::all_of(values, values + tensor.numel(), [](T v) { return std::isfinite(v); });
    };
    for (const auto& [name, tensor] : tensors) {
        const bool good = tensor.dtype() == DType::f32   ? finite(tensor, 0.0f)
                          : tensor.dtype() == DType::f64 ? finite(tensor, 0.0)
                                                         : true;
        if (!good)
            throw DivergedError(cat("training: '", name, "' is not finite after step ", state_.step,
                                    last_checkpoint_.empty() ? "" : "; the last good checkpoint is " + last_checkpoint_));
    }
}

Checkpoint Trainer::model_checkpoint() {
    Checkpoint checkpoint;
    checkpoint.model = options_.model_description;
    checkpoint.config = options_.configuration;
    gather(model_, checkpoint);
    check_finite(checkpoint.parameters);
    check_finite(checkpoint.buffers);
    return checkpoint;
}

Checkpoint Trainer::checkpoint() {
    read_metrics();
    Checkpoint checkpoint = model_checkpoint();
    save_optimizer(optimizer_, checkpoint);
    checkpoint.integers["trainer.epoch"] = state_.epoch;
    checkpoint.integers["trainer.batch"] = state_.batch;
    checkpoint.integers["trainer.samples"] = state_.samples;
    checkpoint.integers["trainer.step"] = state_.step;
    checkpoint.integers["trainer.batches"] = batches_;
    checkpoint.integers["trainer.seed"] = static_cast<std::int64_t>(options_.seed);
    checkpoint.doubles["trainer.sums"] = {state_.loss_sum, state_.correct_sum, state_.weight_sum,
                                          state_.regularization};
    if (!state_.stop_reason.empty()) checkpoint.strings["trainer.stop_reason"] = state_.stop_reason;
    save_records(history_, "history.", checkpoint);
    save_records({record_}, "record.", checkpoint);
    for (const auto& callback : callbacks_) callback->save(checkpoint);
    return checkpoint;
}

void Trainer::resume(const std::string& path) {
    const Checkpoint checkpoint = load_checkpoint(path);
    require(checkpoint.integers.contains("trainer.step"), path, ": holds weights only; no run can be resumed from it");
    require(checkpoint.model == options_.model_description, path, ": is a checkpoint of the model ", checkpoint.model,
            ", not of ", options_.model_description);
    try {
        const auto seed = static_cast<std::uint64_t>(integer_field(checkpoint, "trainer.seed"));
        require(seed == options_.seed, "the run had seed ", seed, ", not ", options_.seed);
        for (const auto& callback : callbacks_) callback->load(checkpoint);
        restore(model_, checkpoint);
        load_optimizer(optimizer_, checkpoint);
        state_.epoch = integer_field(checkpoint, "trainer.epoch");
        state_.batch = integer_field(checkpoint, "trainer.batch");
        state_.samples = integer_field(checkpoint, "trainer.samples");
        state_.step = integer_field(checkpoint, "trainer.step");
        resumed_batches_ = integer_field(checkpoint, "trainer.batches");
        const std::vector<double>& sums = doubles_field(checkpoint, "trainer.sums");
        require(sums.size() == 4, "checkpoint: 'trainer.sums' holds ", sums.size(), " numbers, not 4");
        state_.loss_sum = sums[0];
        state_.correct_sum = sums[1];
        state_.weight_sum = sums[2];
        state_.regularization = sums[3];
        const auto reason = checkpoint.strings.find("trainer.stop_reason");
        state_.stop_reason = reason == checkpoint.strings.end() ? "" : reason->second;
        history_ = load_records(checkpoint, "history.", 0, state_.epoch);
        record_ = load_records(checkpoint, "record.", state_.epoch, 1).front();
        last_checkpoint_ = path;
    } catch (const Error& error) {
        throw Error(cat(path, ": ", error.what()));
    }
}

}  // namespace bitloom
