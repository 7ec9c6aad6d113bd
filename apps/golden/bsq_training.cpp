// bsq.h5: train_step (two SGD steps of ResNet-20 in bits, then re-quantization and stripping).

#include <cmath>
#include <map>
#include <numeric>

#include "apps/golden/bsq_support.h"
#include "apps/golden/families.h"
#include "engine/optim/optimizer.h"
#include "ops/loss.h"
#include "ops/pointwise.h"
#include "quant/bsq/files.h"

namespace bitloom::golden {

namespace {

using bsq::BitLayer;
using Values = std::vector<float>;

/// Parameters (or their gradients) under the published names, in the axes of files.
std::map<std::string, Values> by_published_name(const GoldenNetwork& golden, bool gradients) {
    std::map<std::string, Values> all;
    const auto pick = [&](const Parameter& p) { return gradients ? p.grad : p.value; };
    const auto put = [&](const std::string& name, const Tensor& tensor) {
        if (tensor.defined()) all[name] = tensor.values<float>();
    };
    for (const auto& [path, parameter] : golden.network->named_parameters())
        if (parameter->trainable && path.find(".bsq.") == std::string::npos && path.find(".pact.") == std::string::npos) {
            const Tensor tensor = pick(*parameter);
            const Module& layer = golden.network->at(path.substr(0, path.rfind('.')));
            if (tensor.defined()) put(path, tensor.rank() == 4 ? bsq::to_file_layout(layer, tensor) : tensor);
        }
    for (const auto& [name, parameter] : golden.alphas) put(name, pick(*parameter));
    for (const BitLayer& layer : golden.bits->layers())
        for (const bool bias : {false, true}) {
            const auto& tensor = bias ? layer.bias : layer.weight;
            if (!tensor) continue;
            const std::string what = bias ? "bias" : "weight";
            if (const Tensor planes = pick(tensor->planes()); planes.defined()) {
                const auto files = bsq::planes_to_file(bias ? nullptr : layer.module, planes);
                put(layer.path + ".p" + what, files[0]);
                put(layer.path + ".n" + what, files[1]);
            }
            put(layer.path + "." + scale_name(what), pick(tensor->scale()));
        }
    return all;
}

/// The scale of a convolution: batch norm behind it makes its gradient cancellation noise.
bool is_noise(const std::string& name) { return name.ends_with(".scale") && !name.starts_with("fc."); }
constexpr double noise = 5e-5;

/// |got - want| <= tolerance * the largest |want|.
void expect_relative(const std::string& what, const Values& got, const Tensor& want, double tolerance) {
    const Values w = want.values<float>();
    require(got.size() == w.size(), what, " has ", got.size(), " values, expected ", w.size());
    double largest = 0;
    for (const float v : w) largest = std::max(largest, std::abs(static_cast<double>(v)));
    for (std::size_t i = 0; i < w.size(); ++i)
        require(std::abs(static_cast<double>(got[i] - w[i])) <= tolerance * largest, what, ": value ", i, " is ", got[i],
                ", expected ", w[i], " (largest ", largest, ")");
}

struct Tolerances {
    double gradients, parameters = 1e-4;
};

class Steps {
   public:
    explicit Steps(const Case& c) : case_(c), shared_(c.at("..")) {
        // act_none_<activation>_<clamp>, act<bits>_<clamp>
        const std::string name = c.part(-1);
        const std::string rest = name.starts_with("act_none_") ? name.substr(9) : name;
        const std::string mode = rest.substr(0, rest.find('_'));
        smooth_ = is_quantizer_free(mode);
        require(rest.find('_') != std::string::npos, "a name that is not <activation>_<clamp>");
        require(c.integer("bits") == 8, "starts from the 8-bit network, not from ", c.integer("bits"), " bits");
        golden_ = golden_network(c, "w8", mode);
        if (c.flag("faithful")) golden_.bits->clamp_as_reference();
        expect_equal("total_param", static_cast<double>(golden_.bits->sizes().parameters), c.number("total_param"));
        // A case whose parameters are others (PACT's bounds) brings its own list.
        names_ = (c.has("param_names") ? c : shared_).strings("param_names");
    }

    void run() {
        const auto optimizer = make_sgd(golden_.network->named_parameters(), {.learning_rate = case_.number("lr"),
                                                                              .momentum = case_.number("momentum"),
                                                                              .weight_decay = case_.number("weight_decay")});
        const auto lasso = golden_.bits->group_lasso();
        images_ = normalized_images(shared_.tensor("images_u8_nhwc", DType::u8));
        const Tensor labels = shared_.tensor("labels", DType::i32);
        Tape tape;
        for (int step = 1;; ++step) {
            const Case expected = case_.at(cat("step", step));
            if (!expected.has("ce_reg_total")) {
                require(step > 1, "has no step1");
                break;
            }
            Context context{tape, true};
            const Var logits = (*golden_.network)(context, tape.input(images_));
            const Var loss = ops::cross_entropy(logits, labels);
            const Var total = ops::add(loss, (*lasso)(context, case_.number("decay")));
            const double values[3] = {loss.value().item(), lasso->value() * case_.number("total_param"), total.value().item()};
            const Values rows = logits.value().values<float>();
            tape.backward(total);
            tape.reset();
            const auto gradients = by_published_name(golden_, true);
            optimizer->step();
            check_step(expected, step, values, Tensor::from(logits.shape(), rows), gradients);
            optimizer->clear_gradients();
        }
        check(smooth_, "after_requant", [&] { check_requantized(); });
    }

   private:
    /// What counts is checked; what is chaotic (bsq.md, 12) is reported.
    template <class F>
    void check(bool counts, const std::string& what, F&& f) {
        if (counts) return f();
        try {
            f();
            informative(case_.path() + "/" + what + ": agrees");
        } catch (const Error& error) {
            informative(case_.path() + "/" + what + ": " + error.what());
        }
        case_.ignore();  // also what lies behind the first difference
    }

    void check_step(const Case& expected, int step, const double (&values)[3], const Tensor& logits,
                    const std::map<std::string, Values>& gradients) {
        const std::string name = cat("step", step);
        const bool first = step == 1;
        check(smooth_ || first, name + " losses", [&] {
            const Tensor want = expected.tensor("ce_reg_total", DType::f64);
            const std::vector<double> w = want.values<double>();
            const char* names[] = {"CE", "R", "total"};
            // From the second step on CE is small, and weights near a rounding boundary may lie on its other side.
            const double tolerances[] = {smooth_ ? (first ? 1e-3 : 2e-2) : 5e-2, 1e-4, 1e-3};
            for (std::size_t i = 0; i < 3; ++i)
                require(std::abs(values[i] - w[i]) <= tolerances[i] * std::abs(w[i]), names[i], " is ", values[i],
                        ", expected ", w[i]);
        });
        check(smooth_ || first, name + " logits", [&] {
            const Tensor want = expected.tensor("logits");
            if (smooth_) return expect_close("logits", logits, want, first ? 1e-3 : 2e-2);
            std::vector<double> differences;
            const Values g = logits.values<float>(), w = want.values<float>();
            for (std::size_t i = 0; i < g.size(); ++i) differences.push_back(std::abs(static_cast<double>(g[i] - w[i])));
            std::nth_element(differences.begin(), differences.begin() + std::ssize(differences) / 2, differences.end());
            require(differences[differences.size() / 2] <= 0.05, "the median difference of the logits is ",
                    differences[differences.size() / 2]);
        });
        check(smooth_, name + " gradients", [&] { check_group(expected, "grad", gradients, first ? 1e-3 : 2e-2, true); });
        check(smooth_, name + " parameters",
              [&] { check_group(expected, "param", by_published_name(golden_, false), 1e-4, false); });
        check(smooth_, name + " buffers", [&] {
            std::map<std::string, Tensor*> buffers;
            for (const auto& [path, buffer] : golden_.network->named_buffers()) buffers[path] = buffer;
            for (const std::string& dataset : datasets_in(expected, "buffer")) {
                require(buffers.contains(dataset), "the network has no buffer '", dataset, "'");
                expect_close(dataset, *buffers[dataset], expected.tensor("buffer/" + dataset), 1e-5);
            }
        });
    }

    std::vector<std::string> datasets_in(const Case& c, const std::string& group) const {
        std::vector<std::string> names;
        const std::string path = c.path() + "/" + group;
        for (const std::string& dataset : c.file().datasets(path)) names.push_back(dataset.substr(path.size() + 1));
        return names;
    }

    /// <kind>_stats (sum, sum of magnitudes, L2 norm of every parameter) and the full tensors in the group <kind>.
    void check_group(const Case& expected, const std::string& kind, const std::map<std::string, Values>& got,
                     double tolerance, bool gradients) {
        const std::vector<double> stats = expected.tensor(kind + "_stats", DType::f64).values<double>();
        require(stats.size() == 3 * names_.size(), kind, "_stats has ", stats.size(), " values for ", names_.size(),
                " parameters");
        for (std::size_t row = 0; row < names_.size(); ++row) {
            const std::string& name = names_[row];
            const auto found = got.find(name);
            require(found != got.end(), "the network has no parameter '", name, "'");
            double sum = 0, magnitude = 0, squares = 0;
            for (const float v : found->second) {
                sum += static_cast<double>(v);
                magnitude += std::abs(static_cast<double>(v));
                squares += static_cast<double>(v) * static_cast<double>(v);
            }
            const double* want = stats.data() + 3 * row;
            const double have[] = {sum, magnitude, std::sqrt(squares)};
            for (int k = 0; k < 3; ++k) {
                const double bound = gradients && is_noise(name) ? noise : tolerance * (k == 0 ? want[1] : want[k]);
                require(std::abs(have[k] - want[k]) <= bound, kind, "_stats of ", name, ", column ", k, ": ", have[k],
                        ", expected ", want[k]);
            }
        }
        for (const std::string& name : datasets_in(expected, kind)) {
            const auto found = got.find(name);
            require(found != got.end(), "the network has no parameter '", name, "'");
            const Tensor want = expected.tensor(kind + "/" + name);
            if (gradients && is_noise(name))
                require(std::abs(static_cast<double>(found->second.at(0)) - want.item()) <= noise, kind, " of ", name, " is ",
                        found->second.at(0), ", expected ", want.item());
            else
                expect_relative(kind + " of " + name, found->second, want, tolerance);
        }
    }

    void check_requantized() {
        golden_.bits->requantize();
        golden_.bits->strip(0);
        const Case expected = case_.at("after_requant");
        for (const BitLayer& layer : golden_.bits->layers()) {
            const std::vector<double> want = expected.tensor(layer.path, DType::f64).values<double>();
            require(want.size() == 5, layer.path, " has ", want.size(), " values, not 5");
            double sum = 0, magnitude = 0;
            for (const std::int64_t code : bsq::codes(layer.weight->bit_tensor())) {
                sum += static_cast<double>(code);
                magnitude += static_cast<double>(std::abs(code));
            }
            expect_equal(layer.path + " n", layer.weight->bits(), want[0]);
            expect_equal(layer.path + " nb", layer.bias ? layer.bias->bits() : 0, want[1]);
            require(std::abs(sum - want[2]) <= 5 && std::abs(magnitude - want[3]) <= 5, layer.path, ": codes sum to ", sum,
                    ", magnitudes to ", magnitude, ", expected ", want[2], " and ", want[3]);
            expect_close(layer.path + " scale", layer.weight->scale().value.item(), want[4], 1e-5);
        }
        if (!expected.has("eval_logits")) return;
        Tape tape(Tape::Mode::inference);
        Context context{tape};
        expect_close("eval_logits", (*golden_.network)(context, tape.input(images_)).value(),
                     expected.tensor("eval_logits"), 5e-3);
    }

    const Case& case_;
    Case shared_;
    bool smooth_ = true;
    GoldenNetwork golden_;
    std::vector<std::string> names_;
    Tensor images_;
};

}  // namespace

void add_bsq_training(Families& families) {
    families.add_shared("train_step");
    families.add("train_step/*", [](const Case& c) { Steps(c).run(); });
}

}  // namespace bitloom::golden
