#!/usr/bin/env python3
"""PyTorch's side of training_bench: reads one request a line,

    MODEL training|inference|fused|frozen BATCH contiguous|channels_last THREADS SECONDS wall|processor

runs steps for so long, and answers with the seconds of each, on one line. A training step is forward, cross-entropy, backward
and SGD with momentum on one batch that lies in memory; inference is the forward pass in inference mode, fused the same with
batch norms folded (torch.fx), frozen the traced network through torch.jit.optimize_for_inference, which keeps activations in
oneDNN's own layouts. The first line it prints
is "ready VERSION", or "missing REASON" where PyTorch cannot be loaded.
"""
import sys
import time

try:
    import torch
    from torch import nn
    from torch.fx.experimental.optimization import fuse

    from pytorch_networks import NETWORKS
except ImportError as missing:
    print(f"missing {missing}", flush=True)
    sys.exit(0)


def make_step(model, work, batch, layout):
    torch.manual_seed(1)
    net = NETWORKS[model]()
    x, labels = torch.randn(batch, 3, 32, 32), torch.randint(0, 10, (batch,))
    if layout == "channels_last":
        net, x = net.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    if work != "training":
        net.eval()
        if work == "fused":
            net = fuse(net)
        elif work == "frozen":
            with torch.no_grad():
                net = torch.jit.optimize_for_inference(torch.jit.trace(net, x))

        def infer():
            with torch.inference_mode():
                net(x)

        return infer
    optimizer = torch.optim.SGD(net.parameters(), 1e-3, momentum=0.9, weight_decay=1e-4)
    loss_of = nn.CrossEntropyLoss()

    def train():
        optimizer.zero_grad(set_to_none=True)
        loss_of(net(x), labels).backward()
        optimizer.step()

    return train


def burst(step, seconds, clock):
    step()
    times = []
    while sum(times) < seconds or len(times) < 3:
        start = clock()
        step()
        times.append(clock() - start)
    return times


def main():
    print("ready", torch.__version__, flush=True)
    steps, clocks = {}, {"wall": time.perf_counter, "processor": time.process_time}
    for line in sys.stdin:
        model, work, batch, layout, threads, seconds, clock = line.split()
        torch.set_num_threads(int(threads))
        key = (model, work, batch, layout)
        if key not in steps:
            steps[key] = make_step(model, work, int(batch), layout)
        print(*(f"{t:.7f}" for t in burst(steps[key], float(seconds), clocks[clock])), flush=True)


if __name__ == "__main__":
    main()
