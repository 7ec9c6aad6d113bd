#include "engine/train/evaluator.h"

namespace bitloom {

ClassificationMetrics evaluate(Module& model, Loader& loader, const EvaluateOptions& options) {
    ClassificationMetrics metrics;
    Tape tape(Tape::Mode::inference);
    Batch batch;
    loader.start(0);
    while (loader.next(batch)) {
        Context context{tape};
        const Var logits = model(context, tape.constant(batch.images));
        metrics.add(logits.value(), batch.labels);
        if (options.sink) options.sink(logits.value(), batch);
        if (options.progress) options.progress(metrics.count());
        tape.reset();
    }
    return metrics;
}

}  // namespace bitloom
