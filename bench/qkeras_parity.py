#!/usr/bin/env python3
"""Do the quantizers, the quantized layers and the energy model equal QKeras'? Random cases of all of them, evaluated by the
installed QKeras, written as a golden file (HDF5) and evaluated by the program golden_qkeras.

Usage: qkeras_parity.py [--program build/release/bin/golden_qkeras] [--seed 1] [--cases 40] [--keep FILE]

Needs tensorflow (with Keras 2), qkeras, h5py, numpy. Which release of QKeras is installed is seen by itself: sources later than
0.9.0 are what bitloom does by default; of 0.9.0 the automatic scales of quantized_bits and quantized_linear are left out, which
changed since; 0.8 is compared with --qkeras-compat=0.8 in what differs there. Exit status 1 where a case differs.
"""
import argparse
import inspect
import json
import os
import subprocess
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
try:
    import h5py
    import numpy as np
    import qkeras
    import qkeras.quantizers
    import tensorflow as tf
except ImportError as missing:
    print(f"qkeras_parity: skipped, {missing}")
    sys.exit(0)

ARGUMENTS = inspect.signature(qkeras.quantized_bits).parameters
CURRENT, OLD = "elements_per_scale" in ARGUMENTS, "qnoise_factor" not in ARGUMENTS
SHAPES = [(1, 41), (23, 5), (3, 5, 7, 9), (1, 2, 3, 1), (4, 8, 6), (1, 6), (17,)]


def attribute(value):
    if value is None:
        return "None"
    if isinstance(value, bool):
        return int(value)
    return json.dumps(value) if isinstance(value, (list, tuple, dict)) else value


class Writer:
    """Groups of a golden file: parameters as attributes, tensors as datasets."""

    def __init__(self, path, seed):
        self.file, self.rng, self.counts, self.skipped = h5py.File(path, "w"), np.random.default_rng(seed), {}, 0

    def group(self, family, attributes, **data):
        n = self.counts.get(family, 0)
        self.counts[family] = n + 1
        group = self.file.create_group(f"{family}/{n}")
        for name, value in attributes.items():
            group.attrs[name] = attribute(value)
        for name, value in data.items():
            if value is not None:
                group[name] = np.asarray(value, np.float32)

    def values(self, shape):
        """Normal values; one in eight of the others on the grid of ties, channels of unlike sizes."""
        x = self.rng.normal(size=shape) * np.exp(self.rng.normal(size=shape[-1:]) * 0.7)
        ties = np.round(x * 16) / 16
        return np.where(self.rng.random(shape) < 0.125, ties, x).astype(np.float32)

    def quantizer(self, family, name, arguments, shape, sigmoid=None, scale=True, gradient=True, compat=None, random=False):
        x = self.values(shape)
        if random:  # exponents at a tie are decided by the mathematical library
            x = (self.rng.normal(size=shape) * 2).astype(np.float32)
        qkeras.set_internal_sigmoid(sigmoid or "hard")
        quantizer = getattr(qkeras, name)(**arguments)
        with tf.GradientTape() as tape:
            variable = tf.constant(x)
            tape.watch(variable)
            y = quantizer(variable)
        dx = tape.gradient(y, variable)
        dx = np.zeros_like(x) if dx is None else dx.numpy()
        s = getattr(quantizer, "scale", None) if scale else None
        s = None if s is None else np.asarray(s)
        if not all(np.isfinite(a).all() for a in (y.numpy(), dx, *([] if s is None else [s]))) or family == "quantized_bits_auto" and (s == 0).any():
            self.skipped += 1  # a channel of zeros: 0 / 0
            return
        attributes = dict(arguments, **({"sigmoid": sigmoid} if sigmoid else {}), **({"compat": compat} if compat else {}))
        self.group(f"quantizers/{family}", attributes, x=x, y=y.numpy(), grad=dx if gradient else None, scale=s)

    def pick(self, *lists):
        return [values[self.rng.integers(len(values))] for values in lists]


def quantizers(out, cases):
    matrices = [shape for shape in SHAPES if len(shape) > 1]
    truth, forms = [False, True], ["hard", "smooth", "real"]
    for _ in range(cases):
        b, i, s, k, a, shape = out.pick([1, 2, 3, 5, 8, 12], [0, 1, 3, -1 if CURRENT else 2], [0, 1], truth, [None, 1.0, 0.5, 3.7], SHAPES)
        out.quantizer("quantized_bits", "quantized_bits", dict(bits=b, integer=i, symmetric=s, keep_negative=k, alpha=a), shape)
        f, ste = out.pick([0.0, 0.25, 1.0], truth)
        out.quantizer("quantized_bits", "quantized_bits", dict(bits=4, integer=i, symmetric=1, alpha=1.0, qnoise_factor=f, use_ste=ste), shape)
        b, a, shape = out.pick([2, 3, 4, 6, 8], ["auto", "auto_po2"], SHAPES)
        if CURRENT:
            out.quantizer("quantized_bits_auto", "quantized_bits", dict(bits=b, integer=i, alpha=a), shape)
        u, a, shape = out.pick(truth, [None, 1.0, 0.25, "auto", "auto_po2"], matrices)
        out.quantizer("binary", "binary", dict(use_01=u, alpha=a), shape)
        a, t = out.pick([None, 1.0, 0.5], [None, 0.1, 0.5])
        out.quantizer("ternary", "ternary", dict(alpha=a, threshold=t), shape)
        a, n = out.pick(["auto", "auto_po2"], [1, 2, 5])
        out.quantizer("ternary", "ternary", dict(alpha=a, number_of_unrolls=n), shape)
        b, i, slope, by_sigmoid, form = out.pick([2, 3, 4, 8], [0, 1, 2], [0.0, 0.125, 0.5], [0, 1], forms)
        arguments = dict(bits=b, integer=i, negative_slope=slope, use_sigmoid=by_sigmoid)
        out.quantizer("quantized_relu", "quantized_relu", arguments, shape, sigmoid=form if by_sigmoid else "hard", scale=False)
        bound, clip, f = out.pick([None, 0.7, 1.5, 6.0], truth, [0.0, 0.5, 1.0])
        arguments = dict(bits=b, integer=i, relu_upper_bound=bound, is_quantized_clip=clip, qnoise_factor=f)
        out.quantizer("quantized_relu", "quantized_relu", arguments, shape, scale=False)
        b, s, real, form = out.pick([2, 3, 5, 8], truth, truth, forms)
        out.quantizer("quantized_tanh", "quantized_tanh", dict(bits=b, symmetric=s, use_real_tanh=real), shape, form, scale=False)
        out.quantizer("quantized_sigmoid", "quantized_sigmoid", dict(bits=b, symmetric=s, use_real_sigmoid=real), shape, form, scale=False)
        out.quantizer("quantized_ulaw", "quantized_ulaw", dict(bits=b, integer=i, symmetric=int(s), u=87.6), shape, form, scale=False)
        b, cap, quadratic, rounding, slope = out.pick([3, 4, 5, 8], [None, 1, 4, 3.0], truth, ["rnd", "floor"], [0, 0.125])
        arguments = dict(bits=b, max_value=cap, quadratic_approximation=quadratic, log2_rounding=rounding)
        out.quantizer("quantized_po2", "quantized_po2", arguments, shape, scale=False, random=True)
        out.quantizer("quantized_relu_po2", "quantized_relu_po2", dict(arguments, negative_slope=slope), shape, scale=False, random=True)
        b, i, s, shift = out.pick([3, 6, 8], [0, 2], [0, 1], [3, 2])
        out.quantizer("quantized_hswish", "quantized_hswish", dict(bits=b, integer=i, symmetric=s, relu_shift=shift), shape)
        if not CURRENT:
            continue
        b, i, s, k, a, shape = out.pick([1, 2, 4, 8], [0, 1, -1], [0, 1], truth, [None, 0.5, "auto", "auto_po2"], SHAPES)
        out.quantizer("quantized_linear", "quantized_linear", dict(bits=b, integer=i, symmetric=s, keep_negative=k, alpha=a), shape)
        b, (axis, size), low, high = out.pick([3, 4, 8], [(1, 2), (1, 4), ([1, 2], 2), ([0, 1], [2, 4]), (0, 2)], [None, -2], [None, 2])
        arguments = dict(bits=b, integer=0, alpha="auto_po2", scale_axis=axis, elements_per_scale=size, min_po2_exponent=low, max_po2_exponent=high)
        out.quantizer("quantized_bits_grouped", "quantized_bits", arguments, (4, 8, 6), gradient=False)


def old_quantizers(out, cases):
    """What 0.8 does otherwise: automatic scales, the bound of quantized_relu's surrogate, quantized_tanh."""
    for _ in range(cases):
        b, i, a, shape = out.pick([2, 3, 4, 6, 8], [0, 1, 2], ["auto", "auto_po2"], SHAPES)
        out.quantizer("quantized_bits_auto", "quantized_bits", dict(bits=b, integer=i, symmetric=1, alpha=a), shape, compat="0.8")
        out.quantizer("quantized_relu", "quantized_relu", dict(bits=b, integer=i), shape, scale=False, compat="0.8")
        out.quantizer("quantized_tanh", "quantized_tanh", dict(bits=b, integer=i, symmetric=0), shape, scale=False, compat="0.8")


def layers(out, cases):
    kernels = ["quantized_bits(6,2,1,alpha=1.0)", "binary()", "ternary()", "binary(alpha='auto')", "quantized_po2(4)", None]
    biases = ["quantized_bits(4,0,1)", "binary(alpha=1.0)", "quantized_po2(4,8)", None]
    activations = ["quantized_relu(4,2)", "quantized_bits(4,1)", "quantized_tanh(4)", None]
    for _ in range(cases // 2):
        kernel, bias, activation = out.pick(kernels, biases, activations)
        quantized = dict(kernel_quantizer=kernel, bias_quantizer=bias, activation=activation)

        def run(layer, x, weights):
            layer.build((None,) + x.shape[1:])
            layer.set_weights(weights)
            return layer(tf.constant(x)).numpy()

        def draw(*shape):
            return out.rng.normal(size=shape).astype(np.float32)

        x, w, b = draw(3, 7), draw(7, 5), draw(5)
        y = run(qkeras.QDense(5, **quantized), x, [w, b])
        kwargs = {name: value for name, value in quantized.items() if value}
        out.group("third_party/qlayers_test/test_qdense", {"layer_kwargs": kwargs}, input_data=x, weight_data=w, bias_data=b, expected_output=y)
        x, w, b = draw(2, 9, 4), draw(3, 4, 6), draw(6)
        y = run(qkeras.QConv1D(6, 3, **quantized), x, [w, b])
        out.group("third_party/qconvolutional_test/test_qconv1d", dict(quantized, rtol=1e-4), input=x, kernel=w, bias=b, expected_values=y)


def energies(out):
    """The SVHN network at the widths of the bit-width scan: totals and layers in pJ."""
    from qkeras.qtools import run_qtools
    from qkeras.qtools import settings as qtools_settings

    keras = tf.keras.layers
    order = ["batch_normalization"]
    for i in range(3):
        order += [f"conv_{i}", f"max_pooling2d_{i}", f"batch_normalization_{i + 1}", f"conv_act_{i}"]
    order += ["flatten"] + [f"{kind}_{i + (kind[0] == 'b') * 4}" for i in range(2) for kind in ("dense", "batch_normalization", "dense_act")]
    order += ["output_dense", "output_softmax"]
    kept = {"input_quantizer_list", "output_quantizer", "bias_quantizer", "accumulator", "multiplier", "operation_count", "weight_quantizer"}
    for bits in (1, 2, 3, 4, 6, 8, 10, 12, 14, 16):
        kernel = {1: "binary(alpha=1)", 2: "ternary(alpha=1)"}.get(bits, f"quantized_bits({bits},0,alpha=1)")
        names = iter(order)
        x = image = keras.Input((32, 32, 3))
        for name in names:
            if name.startswith("batch"):
                x = keras.BatchNormalization(name=name)(x)
            elif name.startswith("max"):
                x = keras.MaxPooling2D(2, name=name)(x)
            elif "_act_" in name:
                x = qkeras.QActivation(f"quantized_relu({bits},0)", name=name)(x)
            elif name.startswith("conv"):
                x = qkeras.QConv2D([16, 16, 24][int(name[-1])], 3, use_bias=False, kernel_quantizer=kernel, name=name)(x)
            elif name.startswith("dense"):
                x = qkeras.QDense([42, 64][int(name[-1])], use_bias=False, kernel_quantizer=kernel, name=name)(x)
            elif name == "flatten":
                x = keras.Flatten(name=name)(x)
            elif name == "output_dense":
                x = qkeras.QDense(10, kernel_quantizer=kernel, bias_quantizer=kernel, name=name)(x)
            else:
                x = keras.Activation("softmax", name=name)(x)
        model = tf.keras.Model(image, x)
        tools = run_qtools.QTools(model, process="horowitz", source_quantizers=[qkeras.quantized_bits(16, 6, 1)], is_inference=False,
                                  weights_path=None, keras_quantizer="fp32", keras_accumulator="fp32", for_reference=False)
        energy = tools.pe(weights_on_memory="sram", activations_on_memory="sram", min_sram_size=8 * 16 * 1024 * 1024, rd_wr_on_io=False)
        profile = tools.extract_energy_profile(qtools_settings.cfg.include_energy, energy)
        parts = ["inputs", "outputs", "parameters", "op_cost"]
        table = [[energy[n]["energy"][p] for p in parts] + [profile[n]["total"]] for n in order]
        types = {n: {k: str(v) if k in ("input_quantizer_list", "operation_count") else v for k, v in tools._output_dict[n].items() if k in kept}
                 for n in order}
        out.group("qtools", dict(bits=bits, columns=",".join(parts) + ",counted_total", config="as run_qtool", layers=order,
                                 datatype_map=json.dumps(types, default=lambda v: v.item() if isinstance(v, np.generic) else list(v)),
                                 total_pJ=int(tools.extract_energy_sum(qtools_settings.cfg.include_energy, energy))), energy_pJ=table)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="build/release/bin/golden_qkeras")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cases", type=int, default=40, help="random cases of each quantizer")
    parser.add_argument("--keep", help="where to leave the golden file (default: a temporary one)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = args.keep or os.path.join(folder, "qkeras_parity.h5")
        out = Writer(path, args.seed)
        if OLD:
            old_quantizers(out, args.cases)
        else:
            quantizers(out, args.cases)
            layers(out, args.cases)
            if CURRENT:  # 0.9.0 prints fewer fields of the types
                energies(out)
        out.file.close()
        print(f"QKeras {qkeras.__version__} ({'current' if CURRENT else 'as 0.8' if OLD else 'as 0.9.0'}), {sum(out.counts.values())} cases, "
              f"{out.skipped} left out (channels of zeros): " + ", ".join(f"{k} {v}" for k, v in out.counts.items()), flush=True)
        sys.exit(subprocess.run([args.program, path]).returncode)


if __name__ == "__main__":
    main()
