#include "apps/common/text.h"

#include <cmath>
#include <cstdio>

namespace bitloom {

std::string fixed(double value, int decimals) {
    if (std::isnan(value)) return "-";
    char text[384];  // the largest double has 309 digits before the point
    std::snprintf(text, sizeof text, "%.*f", decimals, value);
    return text;
}

}  // namespace bitloom
