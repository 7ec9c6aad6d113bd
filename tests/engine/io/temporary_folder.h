#pragma once
// What the tests of files share: a folder that vanishes with the test, and the message of an expected error.

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "tests/message_of.h"

namespace bitloom {

class TemporaryFolder {
public:
    TemporaryFolder() {
        std::string name = (std::filesystem::temp_directory_path() / "bitloom-test-XXXXXX").string();
        if (!::mkdtemp(name.data())) fail("cannot make a temporary folder");
        path_ = name;
    }
    ~TemporaryFolder() {
        std::error_code ignored;
        std::filesystem::permissions(path_, std::filesystem::perms::owner_all, ignored);
        std::filesystem::remove_all(path_, ignored);
    }
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;
    std::string file(const std::string& name) const { return (path_ / name).string(); }
    const std::filesystem::path& path() const { return path_; }
    std::size_t entries() const {
        return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(path_), {}));
    }

private:
    std::filesystem::path path_;
};

inline void put(const std::string& path, std::string_view contents) {
    std::filesystem::remove(path);  // file systems that flush a file cut to nothing would make the tests slow
    std::ofstream(path, std::ios::binary) << contents;
}

}  // namespace bitloom
