#pragma once
// Readers of the published file formats. Each checks a file's header against its size before it asks for memory, and
// throws one Error that names the file and what is wrong with it.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/data/dataset.h"

namespace bitloom {

/// An IDX file of unsigned bytes, plain or gzip: images u8 [N, H, W, 1] (magic 0x803).
Tensor read_idx_images(const std::string& path);
/// An IDX file of one unsigned byte an image (magic 0x801).
std::vector<std::int32_t> read_idx_labels(const std::string& path);
/// MNIST's four files in `data_dir` or `data_dir`/`folder`, each plain or .gz; 10 classes.
DataSplits read_mnist(const std::string& name, const std::string& data_dir, const std::string& folder);

/// Official CIFAR binary files, concatenated: `label_bytes` (CIFAR-10: 1, CIFAR-100: coarse and fine; the last one
/// counts) and 3 x 32 x 32 planar pixels a record.
std::shared_ptr<MemoryDataset> read_cifar_files(const std::vector<std::string>& paths, int label_bytes, int classes);
DataSplits read_cifar10(const std::string& data_dir);
DataSplits read_cifar100(const std::string& data_dir);

/// SVHN's cropped digits, MATLAB v5: X u8 (H, W, C, N), y (N, 1) with labels 1..10, where 10 is the digit 0.
std::shared_ptr<MemoryDataset> read_svhn_mat(const std::string& path);
DataSplits read_svhn(const std::string& data_dir, bool extra);

/// HDF5 with data sets `images` u8 [N, H, W, C] and `labels` [N]; `classes` 0: one more than the greatest label.
std::shared_ptr<MemoryDataset> read_hdf5_images(const std::string& path, int classes = 0);
/// train.h5 and test.h5 (and extra.h5 where asked for).
DataSplits read_hdf5_splits(const std::string& data_dir, bool extra);

}  // namespace bitloom
