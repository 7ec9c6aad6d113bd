#pragma once
// How often the tests of crash safety kill: BITLOOM_KILLS, for longer runs than everybody's.

#include <cstdlib>

namespace bitloom {

inline int kill_rounds(int usual) {
    const char* given = std::getenv("BITLOOM_KILLS");
    const int rounds = given ? std::atoi(given) : 0;
    return rounds > 0 ? rounds : usual;
}

}  // namespace bitloom
