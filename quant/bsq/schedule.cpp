#include "quant/bsq/schedule.h"

namespace bitloom::bsq {

PrecisionSchedule::PrecisionSchedule(BitNetwork& network, PrecisionScheduleOptions options,
                                     std::function<void(Trainer&, std::optional<std::int64_t>)> adjusted)
    : network_(network), options_(options), adjusted_(std::move(adjusted)) {
    require(options.interval >= 1, "precision schedule: an interval of ", options.interval, " epochs");
    require(options.threshold >= 0, "precision schedule: a threshold of ", options.threshold, " percent");
}

void PrecisionSchedule::adjust(Optimizer& optimizer, double threshold) {
    std::vector<int> before;
    for (const auto& tensor : network_.tensors()) before.push_back(tensor->bits());
    network_.requantize();
    network_.strip(threshold);
    if (!options_.keep_momentum) return optimizer.reset();
    std::size_t i = 0;
    for (const auto& tensor : network_.tensors())
        if (tensor->bits() != before[i++]) optimizer.reset(tensor->planes());
}

void PrecisionSchedule::before_epoch(Trainer& trainer) {
    const std::int64_t epoch = trainer.state().epoch + options_.first_epoch;
    if (epoch % options_.interval != 0) return;
    adjust(trainer.optimizer(), options_.threshold);
    if (adjusted_) adjusted_(trainer, epoch);
}

void PrecisionSchedule::after_epoch(Trainer& trainer) {
    EpochRecord& record = trainer.record();
    const BitSizes sizes = network_.sizes();
    record.extra["reg"] = options_.strength > 0 ? record.regularization / options_.strength : 0;
    record.extra["compression"] = sizes.compression();
    record.extra["bits_per_parameter"] = sizes.bits_per_parameter();
}

void PrecisionSchedule::after_training(Trainer& trainer) {
    adjust(trainer.optimizer(), 0);
    if (adjusted_) adjusted_(trainer, std::nullopt);
}

}  // namespace bitloom::bsq
