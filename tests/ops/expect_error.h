#pragma once
// Expectations on error messages.

#include <gtest/gtest.h>

#include <string_view>

#include "engine/error.h"

namespace bitloom::ops::test {

/// Expects that f() throws bitloom::Error with exactly this message.
template <class F>
void expect_error(F&& f, std::string_view message) {
    try {
        f();
    } catch (const Error& e) {
        EXPECT_EQ(std::string_view(e.what()), message);
        return;
    }
    ADD_FAILURE() << "no error where \"" << message << "\" was expected";
}

}  // namespace bitloom::ops::test
