"""Forward, loss, gradients and running statistics of the networks -> *.safetensors.

Run in float64 on float32 parameter values; the same pass in float32 is the check on rounding.
"""
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from hashing import uniform
from networks import WIDE, Cnn, Transformer, UNet

BATCH = 2
# These inputs keep ReLU and pooling decisions clear of a tie: float32 then agrees with float64, checked below.
STREAM = 1340
RELATIVE = 1e-4  # largest accepted float32 error, of the largest value in the tensor
SAMPLE = 256  # values kept of a large gradient


def state(model):
    """Named parameters and running statistics, without PyTorch's batch counters."""
    return {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}


def fill(model):
    tensors = state(model)
    for t, name in enumerate(sorted(tensors)):
        tensor = tensors[name]
        u = uniform(t, tensor.numel())
        layer, what = name.rsplit(".", 1)
        norm = "normalization" in layer
        if what in ("weight", "running_var") and norm:
            values = 0.5 + u
        elif what == "weight":
            outputs = tensor.shape[1 if "transpose" in layer else 0]
            values = (2 * u - 1) * math.sqrt(3 / (tensor.numel() // outputs))
        else:
            scale = {"running_mean": 0.2, "bias": 0.3 if norm else 0.1}[what]
            values = (2 * u - 1) * scale
        tensor.copy_(torch.from_numpy(values.astype(np.float32)).reshape(tensor.shape))


def inputs(length):
    """Sequence codes (ACGTN = 0..4), signal in [0, 4), labels 0/1 with about a tenth -1."""
    n, shape = BATCH * length, (BATCH, 1, length)
    base, missing, signal, masked, bound = (uniform(t, n) for t in range(STREAM, STREAM + 5))
    seq = np.where(missing < 0.06, 4, np.floor(4 * base)).astype(np.uint8)
    label = np.where(masked < 0.1, -1, bound < 0.3).astype(np.int8)
    signal = (4 * signal**4).astype(np.float16).astype(np.float32)  # as data files store it
    return (torch.from_numpy(seq.reshape(BATCH, length)),
            torch.from_numpy(signal.reshape(shape)), torch.from_numpy(label.reshape(shape)))


def one_pass(model, dtype, length):
    """Evaluation forward, then one training forward and backward; every result by stored name."""
    model.to(dtype)
    with torch.no_grad():
        fill(model)
    seq, signal, label = inputs(length)
    onehot = (seq[:, None] == torch.arange(4)[:, None]).to(dtype)  # N: four zeros
    x, valid = torch.cat([onehot, signal.to(dtype)], 1), label >= 0
    results = {"logits_eval": model.eval()(x).detach()}
    logits = model.train()(x)
    loss = F.binary_cross_entropy_with_logits(logits[valid], label[valid].to(dtype), reduction="sum")
    loss.backward()
    results |= {"logits_train": logits.detach(), "loss_sum": loss.detach(), "valid": valid.sum()}
    results |= {f"grad.{k}": p.grad for k, p in model.named_parameters()}
    results |= {f"after.{k}": v for k, v in state(model).items() if "running" in k}
    return results


def sampled(results):
    """Of a large gradient every n-th value, n odd, and its norm."""
    kept = {}
    for name, values in results.items():
        if name.startswith("grad.") and values.numel() > SAMPLE:
            kept[f"norm.{name}"] = values.norm()
            values = values.flatten()[::-(-values.numel() // SAMPLE) | 1]
        kept[name] = values
    return kept


def write(name, make, parameters, length=96, whole=True):
    exact, single = (one_pass(make(), dtype, length) for dtype in (torch.float64, torch.float32))
    error = {k: ((single[k] - v).abs().max() / v.abs().max()).item() for k, v in exact.items()}
    worst = max(error, key=error.get)
    count = sum(v.numel() for v in state(make()).values())
    print(f"{name}: {count} values, {len(exact)} results, float32 error {error[worst]:.1e} in {worst}")
    assert count == parameters
    # The others are compared in double precision.
    assert not whole or error[worst] < RELATIVE
    seq, signal, label = inputs(length)
    stored = exact if whole else sampled(exact)
    stored = {k: v.to(torch.float32).contiguous() for k, v in stored.items()}
    save_file(stored | {"seq": seq, "signal": signal, "label": label},
              Path(__file__).with_name(f"{name}.safetensors"))


if __name__ == "__main__":
    write("unet_relu", lambda: UNet(relu_up=True), 475_969)
    write("unet_none", lambda: UNet(relu_up=False), 475_969)
    write("cnn", Cnn, 66_561)
    small = {"length": 256, "whole": False}
    write("unet_wide", lambda: UNet(relu_up=False, widths=WIDE), 200_617, **small)
    write("unet_attention", lambda: UNet(relu_up=True, gates=True), 485_520, **small)
    write("transunet", lambda: UNet(relu_up=True, bottom=True), 1_682_673, **small)
    write("transformer", Transformer, 1_257_729, **small)
