#include "apps/common/trained_folder.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>

#include "apps/common/history.h"
#include "engine/data/loader.h"
#include "engine/data/resize.h"
#include "engine/error.h"
#include "engine/io/json_values.h"

namespace bitloom {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

fs::path without_slash(const std::string& folder) {
    const fs::path path = fs::path(folder).lexically_normal();
    return path.has_filename() ? path : path.parent_path();
}

Json record_of(const quant::CompressedModel& model) {
    const Json json = json_or_discarded<Json>(model.file.config);
    return json.is_object() ? json : Json::object();
}

/// What decides which images a data set has.
std::string data_in_words(const DataFlags& data) {
    if (!data.dataset.starts_with("digits")) return data.dataset;
    return cat(data.dataset, " (train-size ", data.train_size, ", data-seed ", data.data_seed, ")");
}

/// The data flags with the values of a record, where it has them, for the flags in `names`.
DataFlags with_record(DataFlags data, const Json& record, const std::vector<std::string>& names) {
    for (const std::string& name : names) {
        const auto found = record.find(name);
        if (found == record.end()) continue;
        if (name == "dataset" && found->is_string()) data.dataset = found->get<std::string>();
        if (name == "data-dir" && found->is_string()) data.data_dir = found->get<std::string>();
        if (name == "train-size" && found->is_number_integer()) data.train_size = found->get<std::int64_t>();
        if (name == "test-size" && found->is_number_integer()) data.test_size = found->get<std::int64_t>();
        if (name == "data-seed" && found->is_number_integer()) data.data_seed = found->get<std::int64_t>();
    }
    return data;
}

constexpr std::int64_t images_a_batch = 200;

}  // namespace

std::string folder_name(const std::string& folder) { return without_slash(folder).filename().string(); }

std::string fold_folder(const std::string& prefix, int fold) { return cat(without_slash(prefix).string(), "_", fold); }

std::string pruned_folder(const std::string& prefix) {
    const fs::path path = without_slash(prefix);
    return (path.parent_path() / ("pruned_" + path.filename().string())).string();
}

std::string other_fold(const std::string& folder, int fold) {
    const fs::path path = without_slash(folder);
    std::string name = path.filename().string();
    const std::string replacement = cat("_", fold);
    std::size_t at = name.find("_0");
    if (at == std::string::npos)
        throw UsageError(
            cat("--kFold: ", folder, " needs a name with \"_0\", in whose place the other folds have their number"));
    for (; at != std::string::npos; at = name.find("_0", at + replacement.size())) name.replace(at, 2, replacement);
    return (path.parent_path() / name).string();
}

bool is_trained(const std::string& folder) { return fs::is_regular_file(folder + "/model_best.h5"); }

quant::CompressedModel open_trained(const std::string& folder, Device device) {
    require(is_trained(folder), folder, ": no trained network (model_best.h5) is there; svhn_kfold makes such folders");
    ModelOptions options;
    options.name.clear();
    quant::CompressedModel model = quant::load_compressed(options, folder + "/model_best.h5");
    model.network->to(device);
    return model;
}

LearningCurve learning_curve_of(const std::string& folder, const std::string& name) {
    const std::string path = folder + "/history_dict.csv";
    if (fs::exists(path)) return read_history(path, name);
    LearningCurve none;
    none.name = name;
    return none;
}

TestBench::TestBench(const Flags& flags, const DataFlags& given, Device device) : data_(given), device_(device) {
    for (const char* name : {"dataset", "data-dir", "train-size", "test-size", "data-seed"})
        if (!flags.given(name)) open_names_.push_back(name);
}

const Normalization& TestBench::prepare(const std::string& name, const quant::CompressedModel& model) {
    const Json record = record_of(model);
    if (first_.empty()) {
        data_ = with_record(data_, record, open_names_);
        input_ = model.options.input;
        DatasetOptions source = dataset_options(data_);
        source.resize = input_[0];
        source.rgb = input_[2] == 3;
        splits_ = load_dataset(source);
        first_ = name;
        for (auto* part : {&splits_.train, &splits_.test}) *part = resized(*part, input_[0], input_[2] == 3);
        require(splits_.test->image_shape() == input_, data_.dataset, " has images ", splits_.test->image_shape(), ", ",
                name, " takes ", input_);
    }
    require(model.options.input == input_, name, " takes images ", model.options.input, ", ", first_, " ", input_);
    require(splits_.test->classes() <= model.options.classes, data_.dataset, " has ", splits_.test->classes(),
            " classes, ", name, " ", model.options.classes);
    const DataFlags its_own = with_record(data_, record, open_names_);
    require(data_in_words(its_own) == data_in_words(data_), name, " was trained on ", data_in_words(its_own), ", ",
            first_, " on ", data_in_words(data_), ": say with --dataset and its flags on which images to test");
    std::string normalize;
    if (record.contains("normalize") && record["normalize"].is_string()) normalize = record["normalize"];
    if (normalize.empty()) normalize = "per-pixel";
    const auto found = normalizations_.find(normalize);
    if (found != normalizations_.end()) return found->second;
    return normalizations_.emplace(normalize, normalization_by_name(normalize, *splits_.train)).first->second;
}

Predictions TestBench::predict_test(const std::string& name, const quant::CompressedModel& model) {
    LoaderOptions options;
    options.batch_size = images_a_batch;
    options.normalization = prepare(name, model);
    options.device = device_;
    Loader loader(splits_.test, options);
    return predict(*model.network, loader);
}

Tensor TestBench::load(std::shared_ptr<const Dataset> images, const Normalization& normalization) {
    LoaderOptions options;
    options.normalization = normalization;
    options.device = device_;
    return images_of(std::move(images), options);
}

Tensor TestBench::test_images(const std::string& name, const quant::CompressedModel& model, std::int64_t count) {
    const Normalization& normalization = prepare(name, model);
    std::vector<std::int64_t> indices(static_cast<std::size_t>(std::min(count, splits_.test->size())));
    std::iota(indices.begin(), indices.end(), 0);
    return load(std::make_shared<Subset>(splits_.test, indices), normalization);
}

Tensor TestBench::training_image(const std::string& name, const quant::CompressedModel& model, std::int64_t index) {
    const Normalization& normalization = prepare(name, model);
    require(index < splits_.train->size(), "--image=", index, ": ", data_.dataset, " has ", splits_.train->size(),
            " training images");
    return load(std::make_shared<Subset>(splits_.train, std::vector<std::int64_t>{index}), normalization);
}

}  // namespace bitloom
