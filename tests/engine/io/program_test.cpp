#include "engine/io/program.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>
#include <new>
#include <stdexcept>

#include "engine/error.h"
#include "engine/io/flags.h"

namespace bitloom {
namespace {

struct Outcome {
    int status;
    std::string out, err;
};

Outcome run(const std::function<int(int, char**)>& body) {
    char name[] = "/usr/bin/train", argument[] = "x";
    char* argv[] = {name, argument, nullptr};
    ::testing::internal::CaptureStdout();
    ::testing::internal::CaptureStderr();
    const int status = run_program(2, argv, body);
    std::string out = ::testing::internal::GetCapturedStdout();
    return {status, std::move(out), ::testing::internal::GetCapturedStderr()};
}

TEST(Program, PassesArgumentsAndStatus) {
    const Outcome o = run([](int argc, char** argv) {
        std::cout << argv[1];
        return argc + 5;
    });
    EXPECT_EQ(o.status, 7);
    EXPECT_EQ(o.out, "x");
    EXPECT_EQ(o.err, "");
}

TEST(Program, TurnsExceptionsIntoOneLine) {
    Outcome o = run([](int, char**) -> int { throw UsageError("unknown flag '--x'"); });
    EXPECT_EQ(o.status, 2);
    EXPECT_EQ(o.err, "train: unknown flag '--x'\nTry 'train --help'.\n");
    o = run([](int, char**) -> int { throw Error("a.h5: No such file or directory"); });
    EXPECT_EQ(o.status, 1);
    EXPECT_EQ(o.err, "train: a.h5: No such file or directory\n");
    o = run([](int, char**) -> int { throw std::runtime_error("two\nlines"); });
    EXPECT_EQ(o.status, 1);
    EXPECT_EQ(o.err, "train: two lines\n");
    o = run([](int, char**) -> int { throw std::bad_alloc(); });
    EXPECT_EQ(o.status, 1);
    EXPECT_EQ(o.err, "train: out of memory\n");
}

TEST(Program, HelpIsSuccess) {
    const Outcome o = run([](int, char**) -> int { throw HelpRequested("how to\n"); });
    EXPECT_EQ(o.status, 0);
    EXPECT_EQ(o.out, "how to\n");
    EXPECT_EQ(o.err, "");
}

TEST(Program, LostOutputIsAFailure) {
    const Outcome o = run([](int, char**) {
        std::cout.setstate(std::ios::badbit);
        return 0;
    });
    std::cout.clear();
    EXPECT_EQ(o.status, 1);
    EXPECT_EQ(o.err, "train: cannot write to standard output\n");
}

}  // namespace
}  // namespace bitloom
