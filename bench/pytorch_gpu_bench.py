#!/usr/bin/env python3
"""PyTorch's side of gpu_bench: reads one request a line,

    MODEL eager|compiled BATCH fp32|tf32|bf16 SECONDS

runs training steps on the GPU for so long, and answers with seconds a step, one number for each group of steps. A step is
forward, cross-entropy, backward and SGD with momentum (fused) on one batch that lies in the GPU's memory, channels last;
compiled is torch.compile(mode="reduce-overhead") of forward and loss, that is with CUDA graphs. bf16 is autocast. The first
line it prints is "ready VERSION, GPU", or "missing REASON" where PyTorch or its GPU cannot be used.
"""
import sys
import time

try:
    import torch
    from torch import nn

    from pytorch_networks import NETWORKS
except ImportError as missing:
    print(f"missing {missing}", flush=True)
    sys.exit(0)
if not torch.cuda.is_available():
    print(f"missing a GPU that PyTorch {torch.__version__} can use", flush=True)
    sys.exit(0)

GROUP = 20  # steps between two looks at the clock


def make_step(model, form, batch, precision):
    torch.manual_seed(1)
    net = NETWORKS[model]().cuda().to(memory_format=torch.channels_last)
    images = torch.randn(batch, 3, 32, 32, device="cuda").contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (batch,), device="cuda")
    optimizer = torch.optim.SGD(net.parameters(), 1e-3, momentum=0.9, weight_decay=1e-4, fused=True)
    loss_of = nn.CrossEntropyLoss()

    def forward():
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=precision == "bf16"):
            return loss_of(net(images), labels)

    compute = torch.compile(forward, mode="reduce-overhead") if form == "compiled" else forward

    def step():
        compute().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for _ in range(5):  # compilation, choice of algorithms, capture
        step()
    torch.cuda.synchronize()
    return step


def burst(step, seconds):
    times = []
    while sum(times) * GROUP < seconds or len(times) < 3:
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(GROUP):
            step()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - start) / GROUP)
    return times


def main():
    torch.backends.cudnn.benchmark = True
    print("ready", f"{torch.__version__}, {torch.cuda.get_device_name()}", flush=True)
    steps = {}
    for line in sys.stdin:
        model, form, batch, precision, seconds = line.split()
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
        key = (model, form, batch, precision)
        if key not in steps:
            steps[key] = make_step(model, form, int(batch), precision)
        print(*(f"{t:.8f}" for t in burst(steps[key], float(seconds))), flush=True)


if __name__ == "__main__":
    main()
