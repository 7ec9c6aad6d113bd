#pragma once
// Where the tests find real data, trained networks and golden values: folders beside the repository, or those that the
// environment names. A test that misses them is skipped, in words.

#include <string>

namespace bitloom::test {

std::string data_folder();    ///< BITLOOM_DATA, default <repository>/../shared/data
std::string models_folder();  ///< BITLOOM_MODELS, default <repository>/../shared/models
std::string golden_folder();  ///< BITLOOM_GOLDEN, default <repository>/../shared/golden

/// CIFAR-10's test_batch.bin: the data folder's, or one unpacked once into the working folder from the compressed form
/// that the data folder holds (needs python3 with numpy). Empty where neither is to be had.
std::string cifar10_test_batch();

}  // namespace bitloom::test
