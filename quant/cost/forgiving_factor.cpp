#include "quant/cost/forgiving_factor.h"

#include <cmath>

#include "engine/error.h"

namespace bitloom::cost {

double ForgivingFactor::delta(double reference, double trial) const {
    const double stressed = reference * stress;
    require(stressed > 0 && trial > 0, "forgiving factor: costs must be positive, got ", stressed, " and ", trial);
    require(rate > 1, "forgiving factor: the rate must exceed 1, got ", rate);
    return (trial < stressed ? delta_p : delta_n) / 100 * std::log(stressed / trial) / std::log(rate);
}

}  // namespace bitloom::cost
