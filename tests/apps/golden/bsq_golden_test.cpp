// Every case of bsq.h5, where it is there (environment variable BITLOOM_GOLDEN; the trained networks beside it).

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "apps/golden/families.h"

namespace bitloom::golden {
namespace {

TEST(BsqGolden, NoCaseFails) {
    const char* folder = std::getenv("BITLOOM_GOLDEN");
    const std::string path =
        (folder ? std::filesystem::path(folder) : std::filesystem::path(BITLOOM_SOURCE_DIR).parent_path() / "shared" / "golden") /
        "bsq.h5";
    if (!std::filesystem::exists(path)) GTEST_SKIP() << "no " << path << " (BITLOOM_GOLDEN)";
    Families families;
    add_bsq_tensors(families);
    add_bsq_layers(families);
    add_bsq_training(families);
    const auto models = std::filesystem::path(path).parent_path().parent_path() / "models";
    std::vector<std::string> only{"convert", "forward_backward", "finetune_forward", "regularizer", "requant", "prune", "activation",
                                  "real_layers"};
    // The rest starts from trained networks; golden_bsq itself evaluates them all.
    if (std::getenv("BITLOOM_MODELS") || std::filesystem::exists(models)) only.push_back("train_step/act_none_relu6_correctclamp");
    std::ostringstream out;
    Report report(out);
    evaluate_file(hdf5::File::open(path), families, only, report);
    EXPECT_EQ(report.finish(), 0) << out.str();
    EXPECT_NE(out.str().find(" 0 failed, 0 skipped"), std::string::npos);
    EXPECT_EQ(out.str().find("\n0 passed"), std::string::npos);
}

}  // namespace
}  // namespace bitloom::golden
