// bsq.h5: network (ResNet-20 in all activation modes).

#include <algorithm>
#include <cmath>
#include <map>

#include "apps/golden/bsq_support.h"
#include "apps/golden/families.h"
#include "engine/train/metrics.h"

namespace bitloom::golden {

namespace {

Tensor logits_of(Module& network, const Tensor& images) {
    Tape tape(Tape::Mode::inference);
    Context context{tape};
    return network(context, tape.input(images)).value();
}

int argmax(const float* row, std::int64_t classes) {
    return static_cast<int>(std::max_element(row, row + classes) - row);
}

double median_difference(const Tensor& got, const Tensor& want) {
    const std::vector<float> g = got.values<float>(), w = want.values<float>();
    std::vector<double> differences;
    for (std::size_t i = 0; i < g.size(); ++i) differences.push_back(std::abs(static_cast<double>(g[i] - w[i])));
    const auto middle = differences.begin() + std::ssize(differences) / 2;
    std::nth_element(differences.begin(), middle, differences.end());
    return *middle;
}

/// At least 95 % of the predictions, and the mean cross-entropy to 0.05.
void expect_predictions(const std::string& name, const Tensor& got, const Tensor& want, const Tensor& labels) {
    const std::vector<float> g = got.values<float>(), w = want.values<float>();
    const std::int64_t rows = want.dim(0), classes = want.dim(1);
    std::int64_t other = 0;
    for (std::int64_t i = 0; i < rows; ++i)
        other += argmax(g.data() + i * classes, classes) != argmax(w.data() + i * classes, classes);
    require(other * 20 <= rows, name, ": ", other, " of ", rows, " predictions differ");
    ClassificationMetrics mine, theirs;
    mine.add(got, labels.rows(0, rows));
    theirs.add(want, labels.rows(0, rows));
    expect_close(name + " cross-entropy", mine.cross_entropy(), theirs.cross_entropy(), 0.05);
}

/// The last output of each module, and of each container through its last leaf.
class LastOutputs final : public CallObserver {
   public:
    void after_call(Module& module, std::span<const Var>, Var& output) override {
        for (std::string path = module.path();; path = path.substr(0, path.rfind('.'))) {
            outputs[path] = output.value();
            if (path.find('.') == std::string::npos) return;
        }
    }
    std::map<std::string, Tensor> outputs;
};

/// intermediate_<weights>_<mode>: of image 0.
void intermediate(const Case& c) {
    const std::string name = c.part(-1), rest = name.substr(name.find('_') + 1);
    const auto split = rest.find('_');
    require(split != std::string::npos, "a name that is not intermediate_<weights>_<mode>");
    const Case network = c.at("..");
    const GoldenNetwork golden = golden_network(c, rest.substr(0, split), rest.substr(split + 1));
    const Tensor images = normalized_images(network.tensor("images_u8_nhwc", DType::u8));
    LastOutputs seen;
    Tape tape(Tape::Mode::inference);
    Context context{tape};
    context.observer = &seen;
    (*golden.network)(context, tape.input(images.rows(0, 1)));
    for (const std::string& dataset : c.file().datasets(c.path())) {
        const std::string layer = dataset.substr(dataset.rfind('/') + 1);
        require(seen.outputs.contains(layer), "the network has no '", layer, "'");
        expect_close(layer, channels_first(seen.outputs[layer]), c.tensor(layer), 1e-3);
    }
}

/// logits_<weights>_<mode>: the first 64 rows; logits100_...: all.
void logits(const Case& c, const std::string& name, const Tensor& images, const Tensor& labels) {
    const auto first = name.find('_'), second = name.find('_', first + 1);
    require(first != std::string::npos && second != std::string::npos, "is not logits_<weights>_<mode>");
    const std::string mode = name.substr(second + 1);
    const std::string weights = name.substr(first + 1, second - first - 1);
    const Tensor want = c.tensor(name);
    const auto logits_on = [&](Device device) {
        const GoldenNetwork golden = golden_network(c, weights, mode);
        golden.network->to(device);
        // Quantizers take their range from the whole batch.
        const Tensor all = logits_of(*golden.network, images.to(device)).to(cpu_device);
        require(all.dim(0) >= want.dim(0) && all.dim(1) == want.dim(1), "logits have shape ", all.shape(), ", expected ",
                want.shape());
        return all.rows(0, want.dim(0));
    };
    const Tensor got = logits_on(cpu_device);
    if (is_quantizer_free(mode)) return expect_close("logits", got, want, 1e-3);
    // A value at a rounding boundary goes up or down with the order in which a convolution sums. Mostly one image moves by
    // it (bsq.md, 7.3); where it is the largest of a tensor, which sets the range for all, every image does, by the chance of
    // one order. The reference device sums in another one; that both fall the other way says that the arithmetic differs.
    const double median = median_difference(got, want);
    if (median <= 0.05) return;
    const double second_median = median_difference(logits_on(Device{DeviceKind::reference}), want);
    if (second_median <= 0.05) return;
    require(mode != "v0", "the median difference is ", median, " and, summed in another order, ", second_median,
            ", more than 0.05");
    expect_predictions(name, got, want, labels);
}

void network(const Case& c) {
    const Tensor labels = c.tensor("labels", DType::i32);
    const Tensor images = normalized_images(c.tensor("images_u8_nhwc", DType::u8));
    std::string errors;
    for (const std::string& path : c.file().datasets(c.path())) {
        const std::string name = path.substr(c.path().size() + 1);
        if (name.find('/') != std::string::npos || name == "images_u8_nhwc" || name == "labels") continue;
        try {
            if (name.starts_with("logits")) {
                logits(c, name, images, labels);
            } else if (name == "normalised_first2_nchw") {
                const Tensor want = c.tensor(name);
                expect_close(name, channels_first(images.rows(0, want.dim(0))), want, 1e-6);
            } else {
                fail("a dataset that this program does not know");
            }
        } catch (const Error& error) {
            errors += (errors.empty() ? "" : "; ") + name + ": " + error.what();
        }
    }
    for (const std::string& group : c.file().groups(c.path())) {
        try {
            require(group.starts_with("intermediate_"), "a group that this program does not know");
            intermediate(c.at(group));
        } catch (const Error& error) {
            errors += (errors.empty() ? "" : "; ") + group + ": " + error.what();
        }
    }
    require(errors.empty(), errors);
}

}  // namespace

void add_bsq_network(Families& families) { families.add("network", network); }

}  // namespace bitloom::golden
