// Time means nothing here: all ways are equally fast, and the first is taken.

#include "cuda/stopwatch.h"

namespace bitloom::cuda {

double milliseconds(Device, const std::function<void()>& work) {
    work();
    return 1;
}

}  // namespace bitloom::cuda
