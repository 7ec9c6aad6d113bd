#include "apps/bsq/callbacks.h"

#include "apps/bsq/run.h"
#include "apps/common/text.h"
#include "engine/io/atomic_file.h"

namespace bitloom::bsq {

TabLog::TabLog(std::string path, std::vector<std::pair<std::string, std::string>> columns)
    : path_(std::move(path)), columns_(std::move(columns)) {}

std::string TabLog::row(const EpochRecord& record) const {
    std::vector<double> values{record.learning_rate, record.loss, record.validation_loss, 100 * record.accuracy,
                               100 * record.validation_accuracy};
    for (const auto& [title, field] : columns_) values.push_back(record.metric(field));
    std::string text;
    for (const double value : values) text += fixed(value, 6) + "\t";
    return text + "\n";
}

void TabLog::on_load(Trainer& trainer) {
    std::string text = "Learning Rate\tTrain Loss\tValid Loss\tTrain Acc.\tValid Acc.\t";
    for (const auto& [title, field] : columns_) text += title + "\t";
    text += "\n";
    for (const EpochRecord& record : trainer.history()) text += row(record);
    write_file_atomically(path_, text);
}

void TabLog::after_epoch(Trainer& trainer) {
    write_file_atomically(path_, read_file(path_) + row(trainer.record()));
}

void NetworkFiles::after_epoch(Trainer& trainer) {
    const double accuracy = 100 * trainer.record().validation_accuracy;
    const std::int64_t epoch = trainer.state().epoch + session_.settings().start_epoch + 1;
    const bool better = accuracy > best_;
    if (better) best_ = accuracy;
    session_.write("checkpoint", epoch, accuracy, best_);
    if (better) session_.write("model_best", epoch, accuracy, best_);
}

void NetworkFiles::save(Checkpoint& checkpoint) const { checkpoint.doubles["network_files.best"] = {best_}; }
void NetworkFiles::load(const Checkpoint& checkpoint) { best_ = double_field(checkpoint, "network_files.best"); }

}  // namespace bitloom::bsq
