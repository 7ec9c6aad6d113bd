#pragma once
// The message of an expected error.

#include <gtest/gtest.h>

#include <string>

#include "engine/error.h"

namespace bitloom {

/// What `f` throws as an E; a test failure where it throws none, or another type. Every message must be one line.
template <class E = Error, class F>
std::string message_of(F&& f) {
    try {
        f();
    } catch (const E& error) {
        const std::string text = error.what();
        EXPECT_EQ(text.find('\n'), std::string::npos) << text;
        EXPECT_FALSE(text.empty());
        return text;
    } catch (const std::exception& error) {
        ADD_FAILURE() << "another exception: " << error.what();
        return "";
    }
    ADD_FAILURE() << "nothing was thrown";
    return "";
}

}  // namespace bitloom
