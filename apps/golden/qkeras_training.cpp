// optim/adam, callbacks, metrics/kfold_roc: what training and its evaluation are made of.

#include <algorithm>

#include "apps/common/fold_scores.h"
#include "apps/common/roc.h"
#include "apps/golden/families.h"
#include "engine/error.h"
#include "engine/optim/optimizer.h"
#include "engine/train/callbacks.h"
#include "engine/train/schedule.h"

namespace bitloom::golden {

namespace {

constexpr double tolerance = 1e-5;

void adam(const Case& c) {
    const Tensor gradients = c.tensor("grads"), want = c.tensor("w");
    Parameter parameter(c.tensor("w0"));
    AdamOptions options;
    options.learning_rate = c.number("lr");
    options.beta1 = c.number("beta_1");
    options.beta2 = c.number("beta_2");
    options.epsilon = c.number("epsilon");
    options.amsgrad = c.flag_or("amsgrad", false);
    options.convention = Convention::keras;
    const auto optimizer = make_adam({{"w", &parameter}}, options);
    for (std::int64_t t = 0; t < gradients.dim(0); ++t) {
        parameter.grad = gradients.rows(t, 1).reshape(parameter.value.shape()).clone();
        optimizer->step();
        expect_close(cat("w after step ", t + 1), parameter.value, want.rows(t, 1).reshape(parameter.value.shape()),
                     tolerance);
    }
}

void callbacks(const Case& c) {
    const std::vector<double> losses = c.tensor("val_loss", DType::f64).values<double>();
    PlateauOptions options;
    options.factor = c.number("lr_factor");
    options.patience = c.integer("lr_patience");
    options.min_delta = c.number("min_delta");
    options.cooldown = c.integer("cooldown");
    options.min_lr = c.number("min_lr");
    double rate = c.number("initial_lr");
    const auto plateau = plateau_schedule(rate, options);
    EarlyStopping stopping({.metric = "val_loss", .patience = c.integer("early_stopping_patience")});
    BestValue best("val_loss");
    std::vector<double> rates, saved;
    // In the order of the published list: stopping, checkpoint, rate. The last epoch runs through all of them.
    for (std::size_t epoch = 0; epoch < losses.size(); ++epoch) {
        const bool stop = stopping.observe(losses[epoch]);
        saved.push_back(best.update(losses[epoch]));
        rate = plateau->after_epoch(rate, losses[epoch]);
        rates.push_back(rate);
        if (stop) break;
    }
    expect_equal("stopped_epoch", static_cast<double>(rates.size()) - 1, c.number("stopped_epoch"));
    const std::vector<double> want = c.tensor("lr_after_epoch", DType::f64).values<double>();
    expect_equal("epochs", static_cast<double>(rates.size()), static_cast<double>(want.size()));
    for (std::size_t i = 0; i < rates.size(); ++i)  // rates are small: compared with each other, not with 1
        expect_close(cat("lr_after_epoch ", i), rates[i] / want[i], 1, tolerance);
    expect_equal("model_best_saved", Tensor::from({std::ssize(saved)}, saved),
                 c.tensor("model_best_saved", DType::f64));
}

Tensor vector_of(const std::vector<double>& values) { return Tensor::from({std::ssize(values)}, values); }

void kfold_roc(const Case& c) {
    const Tensor scores = c.tensor("scores");
    std::vector<std::uint8_t> positive;
    for (const double label : c.tensor("y", DType::f64).values<double>()) positive.push_back(label != 0);
    std::vector<RocCurve> curves;
    std::vector<double> areas;
    for (std::int64_t fold = 0; fold < scores.dim(0); ++fold) {
        const Tensor row = scores.rows(fold, 1);
        curves.push_back(roc_curve({row.read<float>(), static_cast<std::size_t>(row.numel())}, positive));
        areas.push_back(area_under(curves.back()));
    }
    const auto expect = [&](const std::string& name, const std::vector<double>& values) {
        expect_close(name, vector_of(values), c.tensor(name, DType::f64), tolerance);
    };
    expect("fold0_fpr", curves.front().fpr);
    expect("fold0_tpr", curves.front().tpr);
    expect("auc", areas);
    const RocBand band = roc_band(curves, static_cast<int>(c.tensor("base_fpr").numel()));
    expect("base_fpr", band.fpr);
    expect("mean_tpr", band.mean);
    expect("std_tpr", band.deviation);
    expect("lower", band.lower);
    expect("upper", band.upper);
    const MeanAndDeviation auc = mean_and_deviation(areas);
    expect_close("mean_auc", auc.mean, c.number("mean_auc"), tolerance);
    expect_close("std_auc", auc.deviation, c.number("std_auc"), tolerance);
    const std::vector<double> accuracies = c.tensor("accuracies", DType::f64).values<double>();
    const MeanAndDeviation accuracy = mean_and_deviation(accuracies);
    expect_close("mean_acc", accuracy.mean, c.number("mean_acc"), tolerance);
    expect_close("std_acc", accuracy.deviation, c.number("std_acc"), tolerance);
    expect("box", {quantile(accuracies, 0.25), quantile(accuracies, 0.5), quantile(accuracies, 0.75)});
}

}  // namespace

void add_qkeras_training(Families& families) {
    families.add("optim/adam/*", adam);
    families.add("callbacks/*", callbacks);
    families.add("metrics/kfold_roc", kfold_roc);
}

}  // namespace bitloom::golden
