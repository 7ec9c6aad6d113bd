#!/usr/bin/env python3
"""Does training equal PyTorch's? ResNet-20 (option B) from given weights, the same CIFAR-10 batches in file order, no
augmentation: ten SGD steps by PyTorch and by bitloom (the program training_losses), loss by loss.

Usage: pytorch_parity.py --weights bsq_resnet20_fp.h5 --data-dir CIFAR_DIR [--program build/release/bin/training_losses]

Needs python3-torch, python3-h5py, python3-numpy. Exit status 1 where a bound is missed:
  reference device, float64, batch 16, lr 0.1: loss at step 10 within 1e-9 relative of PyTorch float64;
  cpu, float32, batch 128, lr 1e-3: within 1e-5 at step 1, and at step 10 within 3 times the difference between PyTorch's
  own two memory layouts (contiguous and channels-last).
"""
import argparse
import os
import subprocess
import sys

try:
    import h5py
    import numpy as np
    import torch
    from torch import nn

    from pytorch_networks import ResNet20
except ImportError as missing:
    print(f"pytorch_parity: skipped, {missing}")
    sys.exit(0)

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


def load(weights, dtype):
    net = ResNet20()
    with h5py.File(weights) as f:
        state = {name: torch.from_numpy(np.asarray(f[name][()]).reshape(tensor.shape)) for name, tensor in net.state_dict().items()}
    net.load_state_dict(state)
    return net.to(dtype).train()


def batches(data_dir, batch, steps):
    raw = np.fromfile(os.path.join(data_dir, "data_batch_1.bin"), np.uint8).reshape(-1, 3073)[: batch * steps]
    # Normalised in float32 in the order (x / 255 - mean) / std, as the loader does.
    x = raw[:, 1:].reshape(-1, 3, 32, 32).astype(np.float32) / np.float32(255)
    x = (x - np.float32(MEAN).reshape(1, 3, 1, 1)) / np.float32(STD).reshape(1, 3, 1, 1)
    y = raw[:, 0].astype(np.int64)
    for i in range(steps):
        part = slice(i * batch, (i + 1) * batch)
        yield torch.from_numpy(x[part].copy()), torch.from_numpy(y[part].copy())


def torch_losses(args, dtype, batch, lr, channels_last):
    net = load(args.weights, dtype)
    if channels_last:
        net = net.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), lr, momentum=0.9, weight_decay=1e-4)
    losses = []
    for x, y in batches(args.data_dir, batch, args.steps):
        x = x.to(dtype)
        if channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        loss = nn.functional.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.array(losses)


def our_losses(args, device, dtype, batch, lr):
    command = [args.program, "--weights", args.weights, "--data-dir", args.data_dir, "--device", device, "--dtype", dtype,
               "--batch-size", str(batch), "--lr", str(lr), "--steps", str(args.steps), "--threads", str(args.threads)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return np.array([float(line) for line in out.split()])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--program", default="build/release/bin/training_losses")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    print("float64, reference device, batch 16, lr 0.1")
    theirs = torch_losses(args, torch.float64, 16, 0.1, False)
    ours = our_losses(args, "reference", "f64", 16, 0.1)
    relative = np.abs(ours - theirs) / np.abs(theirs)
    for i in range(args.steps):
        print(f"  step {i + 1:2d}  PyTorch {theirs[i]:.15f}  bitloom {ours[i]:.15f}  relative {relative[i]:.2e}")
    ok = relative[-1] <= 1e-9

    print("float32, cpu, batch 128, lr 1e-3")
    contiguous = torch_losses(args, torch.float32, 128, 1e-3, False)
    channels_last = torch_losses(args, torch.float32, 128, 1e-3, True)
    ours = our_losses(args, "cpu", "f32", 128, 1e-3)
    between, difference = np.abs(contiguous - channels_last), np.abs(ours - contiguous)
    for i in range(args.steps):
        print(f"  step {i + 1:2d}  PyTorch {contiguous[i]:.8f}  bitloom {ours[i]:.8f}  difference {difference[i]:.2e}  "
              f"between PyTorch's layouts {between[i]:.2e}")
    ok = ok and difference[0] <= 1e-5 and difference[-1] <= 3 * between[-1]
    print("within the bounds" if ok else "a bound is missed")
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
