#include "models/layers/shaping.h"

#include <array>

#include "ops/pointwise.h"
#include "ops/shaping.h"

namespace bitloom::layers {

Var Flatten::forward(Context&, std::span<const Var> inputs) { return ops::flatten(only(inputs)); }

Var Add::forward(Context&, std::span<const Var> inputs) {
    require(inputs.size() >= 2, path(), ": Add takes two or more inputs, got ", inputs.size());
    for (const Var& x : inputs)
        require(x.shape() == inputs[0].shape(), path(), ": cannot add ", x.shape(), " to ", inputs[0].shape());
    Var sum = ops::add(inputs[0], inputs[1]);
    for (std::size_t i = 2; i < inputs.size(); ++i) sum = ops::add(sum, inputs[i]);
    return sum;
}

Var Multiply::forward(Context&, std::span<const Var> inputs) {
    require(inputs.size() == 2, path(), ": Multiply takes two inputs, got ", inputs.size());
    return ops::multiply(inputs[0], inputs[1]);
}

Var Concat::forward(Context&, std::span<const Var> inputs) {
    require(!inputs.empty(), path(), ": Concat needs an input");
    return ops::concat(inputs, inputs[0].shape().normalize(axis_));
}

Var ZeroPad2d::forward(Context&, std::span<const Var> inputs) {
    const Var& x = only(inputs);
    require(x.shape().rank() == 4, path(), ": ", type(), " needs [batch, height, width, channels], got ", x.shape());
    const std::array<std::pair<std::int64_t, std::int64_t>, 4> amounts = {
        {{0, 0}, {pads_.top, pads_.bottom}, {pads_.left, pads_.right}, {0, 0}}};
    return ops::pad(x, amounts);
}

OptionAShortcut::OptionAShortcut(std::int64_t in, std::int64_t planes, std::int64_t stride)
    : Layer(LayerType::option_a_shortcut), planes_(planes), stride_(stride) {
    require(in + 2 * (planes / 4) == planes, "OptionAShortcut: ", in, " channels and twice ", planes,
            " / 4 zeros do not make ", planes);
    require(stride >= 1, "OptionAShortcut: stride ", stride);
}

Var OptionAShortcut::forward(Context&, std::span<const Var> inputs) {
    const Var& x = only(inputs);
    require(x.shape().rank() == 4, path(), ": ", type(), " needs [batch, height, width, channels], got ", x.shape());
    const std::array<std::int64_t, 4> start{}, step{1, stride_, stride_, 1};
    const Var thinned = ops::slice(x, start, x.shape().extents(), step);
    const std::int64_t zeros = planes_ / 4;
    const std::array<std::pair<std::int64_t, std::int64_t>, 4> amounts = {{{0, 0}, {0, 0}, {0, 0}, {zeros, zeros}}};
    return ops::pad(thinned, amounts);
}

}  // namespace bitloom::layers
