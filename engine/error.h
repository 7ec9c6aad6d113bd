#pragma once
// The one exception type of bitloom, and the way messages are put together.

#include <sstream>
#include <stdexcept>
#include <string>

namespace bitloom {

/// An error the user can act on: the message says what failed, where, and what was expected.
/// Programs print it as one line on stderr and exit with status 1.
class Error : public std::runtime_error {
   public:
    using std::runtime_error::runtime_error;
};

/// Wrong usage of a program (unknown flag, value out of bounds): exit status 2.
class UsageError : public Error {
   public:
    using Error::Error;
};

/// Joins its arguments by operator<<.
template <class... Args>
std::string cat(const Args&... args) {
    std::ostringstream out;
    (out << ... << args);
    return out.str();
}

/// Throws Error with the joined arguments.
template <class... Args>
[[noreturn]] void fail(const Args&... args) {
    throw Error(cat(args...));
}

/// Throws Error with the joined arguments unless `condition` holds.
template <class... Args>
void require(bool condition, const Args&... args) {
    if (!condition) [[unlikely]]
        fail(args...);
}

}  // namespace bitloom
