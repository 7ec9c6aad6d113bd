#include "ops/shaping.h"

#include "ops/checks.h"
#include "ops/record.h"
#include "ops/strided.h"

namespace bitloom::ops {

namespace {

/// The copy from target to source.
StridedCopy reversed(const StridedCopy& copy) {
    StridedCopy back = copy;
    back.source_strides = copy.target_strides;
    back.target_strides = copy.source_strides;
    back.source_offset = copy.target_offset;
    back.target_offset = copy.source_offset;
    return back;
}

void run(const StridedCopy& copy, const Tensor& source, Tensor& target) {
    kernel(source.device(), "strided_copy", &OpKernels::strided_copy)(copy, source, target);
}

}  // namespace

Var cast(const Var& x, DType dtype) {
    require_float("cast", x.value());
    require(is_floating(dtype), "cast: ", name_of(dtype), " is no floating-point type");
    if (x.dtype() == dtype) return x;
    return record(Op::cast, {x}, x.value().to(dtype),
                  [from = x.dtype()](BackwardContext& c) { c.give(0, c.grad().to(from)); });
}

Var concat(std::span<const Var> inputs, int axis) {
    require(!inputs.empty(), "concat: no inputs");
    const Tensor& first = inputs[0].value();
    Shape shape = first.shape();
    axis = shape.normalize(axis);
    std::int64_t total = 0;
    for (const Var& v : inputs) {
        require_like("concat", "a later input", v.value(), first);
        bool agrees = v.shape().rank() == shape.rank();
        for (int i = 0; agrees && i < shape.rank(); ++i) agrees = i == axis || v.dim(i) == shape[i];
        require(agrees, "concat: shapes ", shape, " and ", v.shape(), " differ beside axis ", axis);
        total += v.dim(axis);
    }
    shape.set(axis, total);

    // Every input is a block of columns of a matrix [outer, total * inner].
    const std::int64_t outer = shape.product(0, axis), inner = shape.product(axis + 1, shape.rank());
    const std::int64_t width = total * inner;
    const auto block = [outer, width](std::int64_t columns, std::int64_t before) {
        StridedCopy copy = make_strided_copy("concat", {outer, columns}, {columns, 1}, {width, 1});
        copy.target_offset = before;
        return copy;
    };
    Tensor y = Tensor::empty(shape, first.dtype(), first.device());
    std::int64_t before = 0;
    for (const Var& v : inputs) {
        const std::int64_t columns = v.dim(axis) * inner;
        if (outer * columns > 0) run(block(columns, before), v.value(), y);
        before += columns;
    }
    if (!inputs[0].tape().wants_node(inputs)) return Var(inputs[0].tape(), std::move(y));
    std::vector<Shape> shapes;
    for (const Var& v : inputs) shapes.push_back(v.shape());
    return record(Op::concat, inputs, std::move(y),
                  [shapes = std::move(shapes), axis, inner, block](BackwardContext& c) {
                      std::int64_t before = 0;
                      for (int i = 0; i < static_cast<int>(shapes.size()); ++i) {
                          const std::int64_t columns = shapes[i][axis] * inner;
                          if (c.needs(i)) {
                              Tensor dx = Tensor::empty(shapes[i], c.grad().dtype(), c.grad().device());
                              if (dx.numel() > 0) run(reversed(block(columns, before)), c.grad(), dx);
                              c.give(i, std::move(dx));
                          }
                          before += columns;
                      }
                  });
}

Var slice(const Var& x, std::span<const std::int64_t> start, std::span<const std::int64_t> stop,
          std::span<const std::int64_t> step) {
    const Shape& shape = x.shape();
    const std::size_t rank = static_cast<std::size_t>(shape.rank());
    require(start.size() == rank && stop.size() == rank && step.size() == rank, "slice: input ", shape, " needs ", rank,
            " starts, stops and steps, got ", start.size(), ", ", stop.size(), " and ", step.size());
    const Strides strides = row_major_strides(shape);
    Shape sizes;
    Strides source{};
    std::int64_t offset = 0;
    for (std::size_t i = 0; i < rank; ++i) {
        const int axis = static_cast<int>(i);
        require(step[i] >= 1, "slice: step ", step[i], " of axis ", axis, " is not positive");
        require(0 <= start[i] && start[i] < stop[i] && stop[i] <= shape[axis], "slice: [", start[i], ", ", stop[i],
                ") of axis ", axis, " is empty or leaves the input ", shape);
        sizes.append((stop[i] - start[i] + step[i] - 1) / step[i]);
        source[i] = step[i] * strides[i];
        offset += start[i] * strides[i];
    }
    StridedCopy copy = make_strided_copy("slice", sizes, source, row_major_strides(sizes));
    copy.source_offset = offset;
    Tensor y = Tensor::empty(sizes, x.dtype(), x.device());
    run(copy, x.value(), y);
    return record(Op::slice, {x}, std::move(y), [copy, shape](BackwardContext& c) {
        Tensor dx = Tensor::zeros(shape, c.grad().dtype(), c.grad().device());
        run(reversed(copy), c.grad(), dx);
        c.give(0, std::move(dx));
    });
}

Var pad(const Var& x, std::span<const std::pair<std::int64_t, std::int64_t>> amounts, double value) {
    const Shape& shape = x.shape();
    require(static_cast<int>(amounts.size()) == shape.rank(), "pad: input ", shape, " needs ", shape.rank(),
            " pairs, got ", amounts.size());
    Shape padded;
    for (int axis = 0; axis < shape.rank(); ++axis) {
        const auto [before, after] = amounts[static_cast<std::size_t>(axis)];
        require(before >= 0 && after >= 0, "pad: (", before, ", ", after, ") of axis ", axis, " is negative");
        padded.append(before + shape[axis] + after);
    }
    const Strides target = row_major_strides(padded);
    StridedCopy copy = make_strided_copy("pad", shape, row_major_strides(shape), target);
    for (int axis = 0; axis < shape.rank(); ++axis)
        copy.target_offset += amounts[static_cast<std::size_t>(axis)].first * target[axis];
    Tensor y = Tensor::full(padded, value, x.dtype(), x.device());
    if (shape.numel() > 0) run(copy, x.value(), y);
    return record(Op::pad, {x}, std::move(y), [copy, shape](BackwardContext& c) {
        Tensor dx = Tensor::empty(shape, c.grad().dtype(), c.grad().device());
        if (shape.numel() > 0) run(reversed(copy), c.grad(), dx);
        c.give(0, std::move(dx));
    });
}

Var reshape(const Var& x, std::span<const std::int64_t> extents) {
    std::int64_t known = 1;
    int open = -1;
    for (std::size_t i = 0; i < extents.size(); ++i) {
        if (extents[i] == -1) {
            require(open < 0, "reshape: more than one extent is -1");
            open = static_cast<int>(i);
        } else {
            require(extents[i] >= 0, "reshape: negative extent ", extents[i]);
            known *= extents[i];
        }
    }
    Shape shape;
    for (std::size_t i = 0; i < extents.size(); ++i) {
        if (static_cast<int>(i) != open) {
            shape.append(extents[i]);
            continue;
        }
        require(known > 0 && x.value().numel() % known == 0, "reshape: ", x.shape(), " does not divide into ", known,
                " x ?");
        shape.append(x.value().numel() / known);
    }
    return record(Op::reshape, {x}, x.value().reshape(shape),
                  [from = x.shape()](BackwardContext& c) { c.give(0, c.grad().reshape(from)); });
}

Var flatten(const Var& x) {
    require(x.shape().rank() >= 1, "flatten: input is a scalar, it has no batch");
    const std::int64_t extents[] = {x.dim(0), x.shape().product(1, x.shape().rank())};
    return reshape(x, extents);
}

Var transpose(const Var& x, std::span<const int> permutation) {
    const Shape& shape = x.shape();
    require(static_cast<int>(permutation.size()) == shape.rank(), "transpose: input ", shape, " needs ", shape.rank(),
            " axes, got ", permutation.size());
    const Strides strides = row_major_strides(shape);
    Shape sizes;
    Strides source{};
    std::uint32_t seen = 0;
    for (std::size_t i = 0; i < permutation.size(); ++i) {
        const int axis = permutation[i];
        require(axis >= 0 && axis < shape.rank() && !(seen >> axis & 1u), "transpose: axis ", axis,
                " is out of range or repeated for input ", shape);
        seen |= 1u << axis;
        sizes.append(shape[axis]);
        source[i] = strides[axis];
    }
    const StridedCopy copy = make_strided_copy("transpose", sizes, source, row_major_strides(sizes));
    Tensor y = Tensor::empty(sizes, x.dtype(), x.device());
    if (y.numel() > 0) run(copy, x.value(), y);
    return record(Op::transpose, {x}, std::move(y), [copy, shape](BackwardContext& c) {
        Tensor dx = Tensor::empty(shape, c.grad().dtype(), c.grad().device());
        if (dx.numel() > 0) run(reversed(copy), c.grad(), dx);
        c.give(0, std::move(dx));
    });
}

Tensor transposed(const Tensor& x, std::initializer_list<int> permutation) {
    Tape tape(Tape::Mode::inference);
    return transpose(tape.constant(x), std::span<const int>(permutation.begin(), permutation.size())).value();
}

}  // namespace bitloom::ops
