#pragma once
// The score by which AutoQKeras trades accuracy for cost (arXiv:2006.10159; svhn-qkeras.md, section 5.8).

namespace bitloom::cost {

/// A model `rate` times cheaper than the reference may lose `delta_p` percent (relative) of its accuracy; one `rate` times
/// dearer must gain `delta_n` percent.
struct ForgivingFactor {
    double delta_p = 8, delta_n = 8;
    double rate = 2;
    double stress = 1;  ///< the reference cost is multiplied by it: below 1 asks for cheaper models

    /// (trial < r ? delta_p : delta_n) / 100 * ln(r / trial) / ln(rate), r = reference * stress. Throws Error unless costs
    /// are positive and rate > 1.
    double delta(double reference, double trial) const;
    /// accuracy * (1 + delta)
    double score(double accuracy, double reference, double trial) const {
        return accuracy * (1 + delta(reference, trial));
    }
};

}  // namespace bitloom::cost
