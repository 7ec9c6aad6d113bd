#include <algorithm>

#include "engine/data/dataset.h"
#include "engine/data/digits.h"
#include "engine/data/readers.h"
#include "engine/data/resize.h"

namespace bitloom {

const std::vector<std::string>& dataset_names() {
    static const std::vector<std::string> names{"digits",  "digits-grey", "mnist", "fashion-mnist",
                                                "cifar10", "cifar100",    "svhn",  "hdf5"};
    return names;
}

namespace {

DataSplits make_digits(const DatasetOptions& options, bool grey) {
    DataSplits splits;
    splits.train = generate_digits({options.seed, DigitsSplit::train, options.train_size, grey});
    splits.test = generate_digits({options.seed, DigitsSplit::test, options.test_size, grey});
    if (options.extra) splits.extra = generate_digits({options.seed, DigitsSplit::extra, options.train_size, grey});
    return splits;
}

DataSplits load_original(const DatasetOptions& options) {
    const std::string& name = options.name;
    const bool has_extra = name == "svhn" || name == "hdf5" || name.starts_with("digits");
    require(!options.extra || has_extra, name, ": has no extra images");
    if (name == "digits") return make_digits(options, false);
    if (name == "digits-grey") return make_digits(options, true);
    if (name == "mnist" || name == "fashion-mnist") return read_mnist(name, options.data_dir, name);
    if (name == "cifar10") return read_cifar10(options.data_dir);
    if (name == "cifar100") return read_cifar100(options.data_dir);
    if (name == "svhn") return read_svhn(options.data_dir, options.extra);
    return read_hdf5_splits(options.data_dir, options.extra);
}

}  // namespace

DataSplits load_dataset(const DatasetOptions& options) {
    const auto& names = dataset_names();
    if (std::find(names.begin(), names.end(), options.name) == names.end()) {
        std::string known;
        for (const std::string& name : names) known += (known.empty() ? "" : ", ") + name;
        throw UsageError(cat("data set '", options.name, "' is unknown; known: ", known));
    }
    const DataSplits original = load_original(options);
    const auto convert = [&](const std::shared_ptr<const Dataset>& part) {
        return resized(part, options.resize, options.rgb);
    };
    return {convert(original.train), convert(original.test), convert(original.extra)};
}

}  // namespace bitloom
