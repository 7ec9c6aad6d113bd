// Fine-tuning under a fixed precision scheme (bsq.md, 2.4).

#include <iostream>

#include "apps/bsq/run.h"
#include "apps/common/text.h"
#include "quant/bsq/schedule.h"

namespace bitloom::bsq {

namespace {

void print_alphas(Session& session) {
    for (const auto& [name, alpha] : session.alphas())
        std::cout << "module." << name << ": " << fixed(alpha->value.item(), 6) << "\n";
}

void print_table(const BitNetwork& bits) {
    for (const auto& [layer, n] : bits.table()) std::cout << layer << " [" << n[0] << ", " << n[1] << "]\n";
}

}  // namespace

Result run_finetuning(const Settings& settings) {
    Session session("bsq_finetune", settings);
    BitNetwork& bits = session.bits();
    const bool fresh = !session.resuming();
    Representation loaded = Representation::floating;
    if (!settings.model_file.empty() && fresh) loaded = session.load(settings.model_file).representation;
    session.begin();
    if (loaded != Representation::fixed) {
        bits.to_bits(static_cast<int>(settings.bits));
        bits.strip(0);
        if (fresh) {
            session.print_statistics();
            session.print_test();
        }
        bits.to_fixed();
    }
    ClassificationMetrics metrics;
    if (fresh) {
        metrics = session.print_test();
        print_table(bits);
        session.print_compression("Compression rate after pruning");
        print_alphas(session);
    }
    if (settings.evaluate) {
        session.print_metrics(metrics);
        return session.result(metrics, 0, 0);
    }
    if (settings.reference_clamp) bits.clamp_as_reference();
    double best = 100 * metrics.accuracy();
    if (fresh) {
        session.write("checkpoint", settings.start_epoch, best, best);
        session.write("model_best", settings.start_epoch, best, best);
    }
    Session::Training training;
    training.callbacks.push_back(std::make_shared<RepresentationState>(bits));
    training.best_accuracy = best;
    const auto trained = session.train(training, best);
    Result interrupted;
    interrupted.interrupted = true;
    if (!trained) return interrupted;
    std::cout << "Best acc: " << fixed(best, 2) << "\n";

    const NetworkFile file = session.load(session.path("model_best.h5"));
    const ClassificationMetrics tested = session.print_test();
    const Result result = session.result(tested, best, static_cast<std::int64_t>(trained->history.size()));
    bits.fixed_to_bits();
    session.print_statistics();
    const double in_bits = 100 * session.print_test().accuracy();
    session.write("best_bin", file.info.epoch, in_bits, best);
    bits.to_float();
    const double in_float = 100 * session.print_test().accuracy();
    session.write("best_float", file.info.epoch, in_float, best);
    session.report("bitloom: BSQ fine-tuning", result);
    return result;
}

}  // namespace bitloom::bsq
