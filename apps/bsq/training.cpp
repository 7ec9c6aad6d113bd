// BSQ training (bsq.md, 2.3).

#include <iostream>

#include "apps/bsq/run.h"
#include "apps/common/text.h"
#include "quant/bsq/schedule.h"

namespace bitloom::bsq {

Result run_training(const Settings& settings) {
    Session session("bsq_train", settings);
    BitNetwork& bits = session.bits();
    const bool fresh = !session.resuming();
    if (!settings.model_file.empty() && fresh) session.load(settings.model_file);
    session.begin();
    bits.to_bits(static_cast<int>(settings.bits));
    if (!settings.evaluate && fresh) {
        session.print_statistics();
        if (!settings.model_file.empty()) session.print_test();
    }
    bits.strip(0);
    if (settings.evaluate) {
        const ClassificationMetrics metrics = session.test();
        std::cout << "Test Loss:  " << fixed(metrics.cross_entropy(), 8) << ", Test Acc:  " << fixed(100 * metrics.accuracy(), 2)
                  << "\n";
        session.print_metrics(metrics);
        session.print_compression("Compression rate");
        return session.result(metrics, 0, 0);
    }
    if (settings.reference_clamp) bits.clamp_as_reference();

    PrecisionScheduleOptions options;
    options.interval = settings.interval;
    options.first_epoch = settings.start_epoch;
    options.threshold = settings.threshold;
    options.keep_momentum = settings.keep_momentum;
    Session::Training training;
    if (!settings.l1) std::cout << "without --L1 no group Lasso drives bits to zero\n";
    if (settings.l1 && settings.decay > 0) {
        options.strength = settings.decay;
        training.terms.push_back(bits.group_lasso(!settings.no_reweigh)->term(settings.decay));
    }
    std::optional<ClassificationMetrics> last;
    const auto adjusted = [&](Trainer&, std::optional<std::int64_t> epoch) {
        session.print_statistics();
        session.print_compression(epoch ? "Compression rate after pruning" : "Final compression rate");
        last = session.print_test();
    };
    training.callbacks.push_back(std::make_shared<PrecisionSchedule>(bits, options, adjusted));
    training.columns = {{"Reg Loss", "reg"}, {"Comp", "compression"}};
    double best = 0;
    const auto trained = session.train(training, best);
    if (!trained) {
        Result interrupted;
        interrupted.interrupted = true;
        return interrupted;
    }
    session.write("checkpoint", settings.epochs, 100 * last->accuracy(), best);
    std::cout << "Best acc: " << fixed(best, 2) << "\n";
    const Result result = session.result(*last, best, static_cast<std::int64_t>(trained->history.size()));
    session.report("bitloom: BSQ training", result);
    return result;
}

}  // namespace bitloom::bsq
