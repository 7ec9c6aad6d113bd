#pragma once
// Scheme: a compression method that attaches to a finished network from outside (ARCHITECTURE.md, "The nouns").
//
// What it puts on the network are transforms (engine/transform.h), so a network knows nothing of its schemes. State of
// transforms is part of the network's parameters and buffers and thereby of checkpoints; what schedules remember goes
// through Callback::save and load. Several schemes attach one after the other, in the order in which they are named, but
// masks last (Scheme::order): a pruned weight is zero behind a quantizer that has no zero.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/train/trainer.h"

namespace bitloom::quant {

class Scheme {
   public:
    virtual ~Scheme() = default;
    /// The name under which it is registered.
    virtual std::string name() const = 0;
    /// Schemes of a list attach in ascending order, those of one order as they are named.
    virtual int order() const { return 0; }
    /// The JSON object from which make_scheme builds it again, defaults written out: it goes into checkpoints.
    virtual std::string configuration() const = 0;
    /// Puts the transforms on a network whose paths are assigned (Module::assign_paths) and whose weights are those to
    /// start from. Called once, before the optimizer is made: transforms may own leaves. Throws UsageError in one line
    /// for a configuration that the network does not fit (a layer that it does not have).
    virtual void attach(Module& network) = 0;
    /// Adapts freshly drawn weights to what was attached. Called after attach, unless the weights were loaded.
    virtual void adapt_initial_weights(Module& network) { (void)network; }
    /// Gives what was attached the shapes that a checkpoint has, for schemes whose leaves change theirs (stripped bit planes).
    /// Called after attach and before the checkpoint is restored.
    virtual void fit_to(const Checkpoint& checkpoint) { (void)checkpoint; }
    /// What runs around the steps of a training run (engine/train/callback.h), in this order. Called after attach.
    virtual std::vector<std::shared_ptr<Callback>> callbacks() { return {}; }
    /// False while the network is not yet what the scheme will make of it (a pruning schedule that still goes on): epochs
    /// that end so are no candidates for the best one.
    virtual bool settled() const { return true; }
    /// Where words about what the scheme decides go during training. Called before attach; unset, they go to stderr.
    virtual void set_log(const std::function<void(const std::string&)>& log) { (void)log; }
    /// What is added to the loss. Called after attach.
    virtual std::vector<LossTerm> loss_terms() { return {}; }
    /// JSON object for reports: what stands where, and what it has come to (bits, sparsity, ...).
    virtual std::string report(Module& network) const = 0;

    /// Shape of an image, [height, width, channels]; the program sets it before attach. Rank 0: not known.
    Shape input{};
};

/// Builds a scheme from a JSON object. Throws UsageError in one line that names the key for what it cannot read.
using SchemeFactory = std::function<std::unique_ptr<Scheme>(const std::string& json)>;

struct SchemeEntry {
    std::string name;
    std::string summary;  ///< one line for --help: what it does and its keys
    SchemeFactory make;
};

/// Adds a scheme to the registry; the schemes of quant/ are there from the start (quant/schemes.cpp).
void register_scheme(SchemeEntry entry);
std::vector<std::string> scheme_names();
const std::string& scheme_summary(const std::string& name);

/// One scheme by name. An empty `json` stands for {}. Throws UsageError for an unknown name (the message lists those
/// there are) and for text that is no JSON object.
std::unique_ptr<Scheme> make_scheme(const std::string& name, const std::string& json);

/// Schemes that were asked for together.
class SchemeList {
   public:
    SchemeList() = default;
    /// `names` in order of attachment (but see Scheme::order). One name: `json` is its configuration. Several: `json` has a member a name that
    /// needs one. Throws UsageError as make_scheme does, and for members that are no name of the list.
    SchemeList(const std::vector<std::string>& names, const std::string& json);
    /// What `configuration` wrote.
    static SchemeList from_configuration(const std::string& json);

    bool empty() const { return schemes_.empty(); }
    const std::vector<std::unique_ptr<Scheme>>& schemes() const { return schemes_; }
    /// [{"scheme": name, "configuration": {...}}, ...]
    std::string configuration() const;
    /// `input`: shape of an image, [height, width, channels].
    void attach(Module& network, const Shape& input = {}) const;
    void fit_to(const Checkpoint& checkpoint) const;
    void adapt_initial_weights(Module& network) const;
    /// Gives the trainer the callbacks and loss terms of all.
    void add_to(Trainer& trainer) const;
    bool settled() const;
    void set_log(const std::function<void(const std::string&)>& log) const;
    /// {name: report, ...}
    std::string report(Module& network) const;

   private:
    void sort();
    std::vector<std::unique_ptr<Scheme>> schemes_;
};

}  // namespace bitloom::quant
