#pragma once
// Callbacks of the BSQ programs: the published log and the network files of every epoch.

#include <string>
#include <vector>

#include "engine/train/callback.h"

namespace bitloom::bsq {

class Session;

/// log.txt (bsq.md, 6.3): a header and a row an epoch, every field followed by a tab, numbers with 6 decimals, accuracies in
/// percent. A resumed run first cuts it back to the epochs it resumes from.
class TabLog final : public Callback {
   public:
    /// `columns`: names in the header and in EpochRecord::extra, behind the five common ones.
    TabLog(std::string path, std::vector<std::pair<std::string, std::string>> columns);
    std::string name() const override { return "log"; }
    bool replayable() const override { return true; }
    void on_load(Trainer& trainer) override;
    void after_epoch(Trainer& trainer) override;

   private:
    std::string row(const EpochRecord& record) const;
    std::string path_;
    std::vector<std::pair<std::string, std::string>> columns_;
};

/// checkpoint.h5 after every epoch, and model_best.h5 where the test accuracy is strictly better than ever before.
class NetworkFiles final : public Callback {
   public:
    NetworkFiles(Session& session, double best_accuracy) : session_(session), best_(best_accuracy) {}
    std::string name() const override { return "network_files"; }
    bool replayable() const override { return true; }
    void after_epoch(Trainer& trainer) override;
    void save(Checkpoint& checkpoint) const override;
    void load(const Checkpoint& checkpoint) override;
    double best() const { return best_; }  ///< percent

   private:
    Session& session_;
    double best_;
};

}  // namespace bitloom::bsq
