// evaluate: accuracy and cross-entropy of a trained network on a data set.

#include <iostream>
#include <nlohmann/json.hpp>
#include <numeric>

#include "apps/common/common_flags.h"
#include "apps/common/predictions.h"
#include "apps/common/run_folder.h"
#include "apps/common/scheme_flags.h"
#include "apps/common/text.h"
#include "engine/data/loader.h"
#include "engine/data/resize.h"
#include "engine/io/atomic_file.h"
#include "engine/io/hdf5.h"
#include "engine/io/json_values.h"
#include "engine/io/program.h"
#include "engine/threads.h"
#include "engine/train/evaluator.h"
#include "models/folding.h"
#include "models/import.h"
#include "models/inference_plan.h"
#include "models/registry.h"
#include "ops/convolution_algorithm.h"
#include "ops/precision.h"
#include "quant/checkpoints.h"

namespace bitloom {
namespace {

using Json = nlohmann::ordered_json;

struct EvaluateFlags {
    std::string model, variant, weights;
    GpuFlags gpu;
    std::string split = "test", normalize, dtype = "f32", precision = "fp32";
    bool resize = false;
    std::int64_t limit = 0, batch_size = 200, top_k = 0;
    bool json = false, per_class = false, fold_batch_norm = false;
    std::string confusion, logits;
};

void add_evaluate_flags(Flags& flags, EvaluateFlags& values) {
    std::vector<std::string> models = model_names();
    models.insert(models.begin(), "");
    flags.group("Network");
    flags.add("model", values.model, "name of the network; a bitloom checkpoint knows its own", {.choices = models});
    flags.add("variant", values.variant, "of a ResNet; read from the weights where it is left open",
              {.choices = {"", "A", "B"}});
    flags.add("weights", values.weights, "bitloom checkpoint, Keras file (QKeras' quantizers come along), or plain HDF5 file in PyTorch's or Keras' layout");
    flags.group("Evaluation");
    flags.add("split", values.split, "part of the data set", {.choices = {"test", "train"}});
    flags.add("normalize", values.normalize,
              "of the inputs: none, unit (x/255), cifar-bsq, cifar-ec2t, mnist-ec2t, per-pixel, per-channel, or "
              "mean/std such as "
              "0.5,0.5,0.5/0.2,0.2,0.2; where it is left open, what the weight file says");
    flags.add("resize", values.resize, "bring images to the size that the network takes, and repeat a grey channel");
    flags.add("limit", values.limit, "only the first so many images; 0: all", {.min = 0});
    flags.add("batch-size", values.batch_size, "images a pass", {.min = 1});
    flags.alias("batch", "batch-size");
    flags.add("dtype", values.dtype, "of the computation; f64 needs --device reference", {.choices = {"f32", "f64"}});
    flags.add("fold-batch-norm", values.fold_batch_norm,
              "fold batch norms into the weights in front of them and run a prepared plan: faster, and equal up to "
              "rounding");
    flags.add("precision", values.precision, precision_help, {.choices = ops::precision_names()});
    flags.group("Output");
    flags.add("top-k", values.top_k, "also count labels among the k largest logits; 0: do not",
              {.min = 0, .max = 65536});
    flags.add("per-class", values.per_class, "also print recall and precision of every class");
    flags.add("json", values.json, "print one JSON object instead of lines");
    flags.add("confusion", values.confusion, "CSV file for the confusion matrix: a row a label, a column a prediction");
    flags.add("logits", values.logits, "HDF5 file for the logits and labels, in the data set's order");
}

/// The normalisation by name that a checkpoint's run used; "" where its record has none.
std::string recorded_normalization(const std::string& config) {
    const Json json = json_or_discarded<Json>(config);
    if (!json.is_object() || !json.contains("normalize") || !json["normalize"].is_string()) return "";
    return json["normalize"].get<std::string>();
}

/// By name, or where there is none what the weight file says.
Normalization choose_normalization(const std::string& name, const WeightFile& file, const Dataset& train) {
    if (!name.empty()) return normalization_by_name(name, train);
    if (file.mean_rgb.empty())
        throw UsageError(
            "the weight file does not say how inputs are normalised: give --normalize (unit, per-pixel, ...)");
    Normalization normalization;
    normalization.mean = file.mean_rgb;
    normalization.std = file.std_rgb;
    return normalization;
}

std::shared_ptr<const Dataset> first_images(std::shared_ptr<const Dataset> source, std::int64_t limit) {
    if (limit == 0 || limit >= source->size()) return source;
    std::vector<std::int64_t> indices(static_cast<std::size_t>(limit));
    std::iota(indices.begin(), indices.end(), 0);
    return std::make_shared<Subset>(std::move(source), std::move(indices));
}

/// Logits of all images, row by row as the batches come.
class LogitCollector {
   public:
    explicit LogitCollector(std::int64_t images) : images_(images) {}
    void add(const Tensor& logits, const Batch& batch) {
        const std::vector<float> values = logits.values<float>();
        const std::vector<std::int32_t> labels = batch.labels.values<std::int32_t>();
        values_.insert(values_.end(), values.begin(), values.end());
        labels_.insert(labels_.end(), labels.begin(), labels.end());
    }
    void write(const std::string& path) const {
        hdf5::File file = hdf5::File::create(path);
        file.write("logits", Tensor::from({images_, static_cast<std::int64_t>(values_.size()) / images_}, values_));
        file.write("labels", Tensor::from({images_}, labels_));
        file.close();
    }

   private:
    std::int64_t images_;
    std::vector<float> values_;
    std::vector<std::int32_t> labels_;
};

std::string lines(const ClassificationMetrics& metrics, const EvaluateFlags& values) {
    std::string text =
        cat("correct: ", metrics.correct(), "/", metrics.count(), "\ntop1: ", fixed(100 * metrics.accuracy(), 2),
            "\ncross_entropy: ", fixed(metrics.cross_entropy(), 6), "\n");
    const int k = static_cast<int>(values.top_k);
    if (k > 0)
        text += cat("top", k, "_correct: ", metrics.correct(k), "/", metrics.count(), "\ntop", k, ": ",
                    fixed(100 * metrics.top_k(k), 2), "\n");
    if (values.per_class)
        for (int c = 0; c < metrics.classes(); ++c)
            text += cat("class ", c, ": images ", metrics.label_count(c), ", recall ",
                        fixed(100 * metrics.recall(c), 2), ", precision ", fixed(100 * metrics.precision(c), 2), "\n");
    return text;
}

std::string lines(const FoldingReport& folding) {
    std::string text =
        cat("batch norms folded: ", folding.folded.size(), "/", folding.folded.size() + folding.kept.size(), "\n");
    for (const FoldingReport::Kept& kept : folding.kept) text += cat("kept ", kept.path, ": ", kept.reason, "\n");
    return text;
}

Json number_or_null(double value) { return value == value ? Json(value) : Json(); }

std::string json_of(const ClassificationMetrics& metrics, const EvaluateFlags& values,
                    const quant::CompressedModel& loaded, const std::string& dataset) {
    Json json{{"model", Json::parse(describe(loaded.options))},
              {"weights", values.weights},
              {"dataset", dataset},
              {"split", values.split},
              {"images", metrics.count()},
              {"correct", metrics.correct()},
              {"top1", 100 * metrics.accuracy()},
              {"cross_entropy", metrics.cross_entropy()}};
    if (!loaded.schemes.empty()) json["compression"] = Json::parse(loaded.schemes.report(*loaded.network));
    const int k = static_cast<int>(values.top_k);
    if (k > 0) {
        json["top_k"] = {{"k", k}, {"correct", metrics.correct(k)}, {"percent", 100 * metrics.top_k(k)}};
    }
    if (values.per_class) {
        json["classes"] = Json::array();
        for (int c = 0; c < metrics.classes(); ++c)
            json["classes"].push_back({{"label", c},
                                       {"images", metrics.label_count(c)},
                                       {"recall", number_or_null(100 * metrics.recall(c))},
                                       {"precision", number_or_null(100 * metrics.precision(c))}});
    }
    return json.dump() + "\n";
}

int run(int argc, char** argv) {
    EvaluateFlags values;
    CommonFlags common;
    DataFlags data_flags;
    Flags flags("evaluate", "Prints accuracy and cross-entropy of a trained network on a data set.");
    add_evaluate_flags(flags, values);
    add_gpu_flags(flags, values.gpu, false);
    add_data_flags(flags, data_flags);
    add_common_flags(flags, common);
    SchemeFlags scheme_flags;
    add_scheme_flags(flags, scheme_flags);
    flags.example("--model resnet20 --weights bsq_resnet20_fp.h5 --dataset cifar10 --data-dir data",
                  "a trained ResNet-20 on CIFAR-10");
    flags.example("--weights runs/lenet/best.h5 --dataset mnist --data-dir data --top-k 5 --per-class",
                  "a checkpoint of one's own, with more detail");
    flags.example("--weights runs/svhn/best.h5 --dataset digits --bits 6", "what its accuracy is with 6-bit weights and activations");
    flags.example("--resume --out-dir results/resnet20", "the evaluation that is recorded there, once more");
    flags.parse(argc, argv);
    if (common.resume) {
        if (common.out_dir.empty()) throw UsageError("--resume needs --out-dir");
        resume_flags(
            flags, common.out_dir,
            {"resume", "out-dir", "data-dir", "device", "threads", "json", "per-class", "top-k", "data-on-device"});
    }
    if (values.weights.empty()) throw UsageError("--weights is missing: the file with the trained network");
    if (values.dtype == "f64" && common.device != "reference") throw UsageError("--dtype=f64 needs --device=reference");
    if (values.precision == "bf16" && values.dtype == "f64") throw UsageError("--precision=bf16 excludes --dtype=f64");
    if (values.precision == "bf16" && values.fold_batch_norm)
        throw UsageError("--fold-batch-norm prepares its plan for fp32: leave --precision=bf16 out");
    set_threads(static_cast<int>(common.threads));
    const Device device = open_device(common.device);
    const DType dtype = values.dtype == "f64" ? DType::f64 : DType::f32;
    const DType activations = dtype == DType::f64 ? dtype : ops::activation_dtype(values.precision);
    ops::use_precision(values.precision, device);
    ops::use_convolution_algorithm(values.gpu.convolution);
    if (!common.out_dir.empty()) {
        make_folder(common.out_dir);
        write_run_record(common.out_dir, "evaluate", flags, argc, argv, device, thread_count());
    }

    ModelOptions options;
    options.name = values.model;
    options.variant = values.variant;
    const quant::CompressedModel loaded = quant::load_compressed(options, values.weights, make_schemes(scheme_flags));
    const std::string normalize =
        values.normalize.empty() ? recorded_normalization(loaded.file.config) : values.normalize;
    DatasetOptions source = dataset_options(data_flags);
    if (values.split == "test" && !normalize.starts_with("per-"))
        source.train_size = 1;  // digits would draw them for nothing
    const DataSplits splits = load_dataset(source);
    const auto fit = [&](std::shared_ptr<const Dataset> part) {
        const Shape& wanted = loaded.options.input;
        if (values.resize && part->image_shape() != wanted) part = resized(part, wanted[0], wanted[2] == 3);
        require(part->image_shape() == wanted, data_flags.dataset, " has images ", part->image_shape(),
                ", the network takes ", wanted, values.resize ? "" : " (--resize brings them to its size)");
        return part;
    };
    const auto images = first_images(fit(values.split == "test" ? splits.test : splits.train), values.limit);
    require(images->classes() <= loaded.options.classes, data_flags.dataset, " has ", images->classes(),
            " classes, the network ", loaded.options.classes);

    LoaderOptions loader_options;
    loader_options.batch_size = values.batch_size;
    loader_options.normalization = choose_normalization(normalize, loaded.file, *fit(splits.train));
    loader_options.dtype = activations;
    loader_options.device = device;
    loader_options.data_on_device = values.gpu.data();
    Loader loader(images, loader_options);
    loaded.network->to(dtype);
    loaded.network->to(device);
    LogitCollector collector(images->size());
    EvaluateOptions evaluate_options;
    if (!values.logits.empty())
        evaluate_options.sink = [&](const Tensor& logits, const Batch& batch) { collector.add(logits, batch); };
    FoldingReport folding;
    if (values.fold_batch_norm) {
        const Shape& image = loaded.options.input;
        folding = fold_batch_norm(*loaded.network, {1, image[0], image[1], image[2]});
    }
    PlannedNetwork planned(*loaded.network);
    Module& network = values.fold_batch_norm ? static_cast<Module&>(planned) : *loaded.network;
    const ClassificationMetrics metrics = evaluate(network, loader, evaluate_options);

    if (!values.logits.empty()) collector.write(values.logits);
    if (!values.confusion.empty()) write_file_atomically(values.confusion, confusion_csv(confusion_of(metrics), metrics.classes()));
    const std::string json = json_of(metrics, values, loaded, data_flags.dataset);
    if (!common.out_dir.empty()) write_file_atomically(common.out_dir + "/metrics.json", json);
    std::cout << (values.json ? json : lines(metrics, values));
    if (values.fold_batch_norm && !values.json) std::cout << lines(folding);
    return 0;
}

}  // namespace
}  // namespace bitloom

int main(int argc, char** argv) {
    bitloom::ensure_passive_waiting(argv);
    return bitloom::run_program(argc, argv, bitloom::run);
}
