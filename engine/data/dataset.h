#pragma once
// Labelled 8-bit images with random access.

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/tensor.h"

namespace bitloom {

class Dataset {
   public:
    virtual ~Dataset() = default;
    virtual std::int64_t size() const = 0;
    /// [H, W, C] of every image.
    virtual Shape image_shape() const = 0;
    virtual int classes() const = 0;
    /// Writes image `index`, H x W x C bytes, row-major. Thread-safe.
    virtual void read(std::int64_t index, std::uint8_t* image) const = 0;
    virtual int label(std::int64_t index) const = 0;
    /// The data set that holds image `index`, and its place there: itself, unless this one chooses from or joins others.
    virtual std::pair<const Dataset*, std::int64_t> locate(std::int64_t index) const { return {this, index}; }
};

/// Images held in memory.
class MemoryDataset final : public Dataset {
   public:
    /// images u8 [N, H, W, C], one label in [0, classes) an image. Throws Error where they disagree.
    MemoryDataset(Tensor images, std::vector<std::int32_t> labels, int classes);
    std::int64_t size() const override { return images_.dim(0); }
    Shape image_shape() const override { return {images_.dim(1), images_.dim(2), images_.dim(3)}; }
    int classes() const override { return classes_; }
    void read(std::int64_t index, std::uint8_t* image) const override;
    int label(std::int64_t index) const override { return labels_[static_cast<std::size_t>(index)]; }
    const Tensor& images() const { return images_; }
    const std::vector<std::int32_t>& labels() const { return labels_; }

   private:
    Tensor images_;
    std::vector<std::int32_t> labels_;
    int classes_;
};

/// Chosen images of another data set, in the given order (folds, held-out parts, calibration sets).
class Subset final : public Dataset {
   public:
    Subset(std::shared_ptr<const Dataset> source, std::vector<std::int64_t> indices);
    std::int64_t size() const override { return static_cast<std::int64_t>(indices_.size()); }
    Shape image_shape() const override { return source_->image_shape(); }
    int classes() const override { return source_->classes(); }
    void read(std::int64_t index, std::uint8_t* image) const override { source_->read(at(index), image); }
    int label(std::int64_t index) const override { return source_->label(at(index)); }
    std::pair<const Dataset*, std::int64_t> locate(std::int64_t index) const override {
        return source_->locate(at(index));
    }

   private:
    std::int64_t at(std::int64_t index) const { return indices_[static_cast<std::size_t>(index)]; }
    std::shared_ptr<const Dataset> source_;
    std::vector<std::int64_t> indices_;
};

/// Several data sets of the same image shape and classes, one after the other.
class ConcatDataset final : public Dataset {
   public:
    /// Throws Error where shapes or classes disagree, or nothing is given.
    explicit ConcatDataset(std::vector<std::shared_ptr<const Dataset>> parts);
    std::int64_t size() const override { return starts_.back(); }
    Shape image_shape() const override { return parts_[0]->image_shape(); }
    int classes() const override { return parts_[0]->classes(); }
    void read(std::int64_t index, std::uint8_t* image) const override {
        const auto [part, local] = part_of(index);
        part->read(local, image);
    }
    int label(std::int64_t index) const override {
        const auto [part, local] = part_of(index);
        return part->label(local);
    }
    std::pair<const Dataset*, std::int64_t> locate(std::int64_t index) const override {
        const auto [part, local] = part_of(index);
        return part->locate(local);
    }

   private:
    std::pair<const Dataset*, std::int64_t> part_of(std::int64_t index) const;
    std::vector<std::shared_ptr<const Dataset>> parts_;
    std::vector<std::int64_t> starts_;  // of each part; the last entry is the total
};

/// What a data set's files hold. `extra` is null except for SVHN (and digits on request).
struct DataSplits {
    std::shared_ptr<const Dataset> train, test, extra;
};

/// Loads by name: digits, digits-grey, mnist, fashion-mnist, cifar10, cifar100, svhn, hdf5.
struct DatasetOptions {
    std::string name = "digits";
    std::string data_dir;    ///< searched as given, then with the set's own folder name below it; unused by digits
    std::uint64_t seed = 1;  ///< of the procedural sets
    std::int64_t train_size = 60000;  ///< of the procedural sets
    std::int64_t test_size = 10000;
    bool extra = false;       ///< read SVHN's extra split too
    std::int64_t resize = 0;  ///< side length; 0 keeps the original (bilinear, half-pixel centres)
    bool rgb = false;         ///< repeat a grey channel three times
};
/// Throws Error in one line that names the file and what is wrong with it.
DataSplits load_dataset(const DatasetOptions& options);
/// The names load_dataset knows.
const std::vector<std::string>& dataset_names();

}  // namespace bitloom
