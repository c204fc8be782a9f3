"""PyTorch's training step of the U-Net: for each line `VARIANT BATCH` of the input, one line of JSON with the time of a
step. TF32 in convolutions is PyTorch's own default; cuDNN may choose its algorithms in all variants; no variant looks at
the loss more often than ours."""

import argparse
import contextlib
import json
import os
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "peers"))

import torch
import torch._dynamo
from torch import nn

import unet

BLOCK, SECONDS, WARM_UP = 16, 3.0, 12
VARIANTS = {
    # name: (TF32, autocast to bf16, channels last, mode of torch.compile)
    "eager-f32": (False, False, False, None),
    "eager": (True, False, False, None),
    "amp": (True, True, False, None),
    "amp-last": (True, True, True, None),
    "reduce-overhead": (True, False, False, "reduce-overhead"),
    "amp-reduce-overhead": (True, True, False, "reduce-overhead"),
    "max-autotune": (True, False, False, "max-autotune"),
    "amp-max-autotune": (True, True, False, "max-autotune"),
}


# All forms and batches compile the same forward, each anew; the default limit of 8 would leave the later ones eager.
torch._dynamo.config.recompile_limit = 64


def stepper(variant, batch, device, tiny):
    tf32, amp, last, mode = VARIANTS[variant]
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)
    plain = unet.UNet()
    x, y = unet.windows(batch, 0)
    if tiny:
        x, y = x[..., :512].contiguous(), y[..., :512].contiguous()
    model = plain
    if last:
        model = unet.padded(plain)
        x, y = unet.widened(x, model.inputs), y.unsqueeze(2)
    model, x, y = model.to(device), x.to(device), y.to(device)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    # Each batch size is compiled for itself, and what cannot be compiled whole is an error, not eager in disguise.
    forward = torch.compile(model, mode=mode, dynamic=False, fullgraph=True) if mode else model

    def step():
        # Of the whole process, in which steps of other forms are made in between.
        torch.backends.cudnn.allow_tf32 = tf32
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16) if amp else contextlib.nullcontext():
            logits = forward(x)
        loss = nn.functional.binary_cross_entropy_with_logits(logits.float(), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def measure(step, device, tiny):
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    began = time.perf_counter()
    for _ in range(2 if tiny else WARM_UP):
        loss = step()
    wait()
    first = time.perf_counter() - began
    block, seconds = (2, 0.0) if tiny else (BLOCK, SECONDS)
    blocks, began = [], time.perf_counter()
    while len(blocks) < 5 or time.perf_counter() - began < seconds:
        start = time.perf_counter()
        for _ in range(block):
            loss = step()
        finite = loss.item() == loss.item()
        wait()
        blocks.append(1e3 * (time.perf_counter() - start) / block)
    assert finite, "the loss is not finite"
    return {"ms": statistics.median(blocks), "least_ms": min(blocks), "blocks": len(blocks), "warm_up_s": first}


def profile(step, rows=12):
    activities = [torch.profiler.ProfilerActivity.CUDA]
    for _ in range(WARM_UP):
        step()
    with torch.profiler.profile(activities=activities) as profiler:
        for _ in range(5):
            step()
        torch.cuda.synchronize()
    return profiler.key_averages().table(sort_by="cuda_time_total", row_limit=rows, max_name_column_width=70)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--profile", nargs=2, metavar=("VARIANT", "BATCH"))
    options = parser.parse_args()
    if options.profile:
        variant, batch = options.profile
        print(profile(stepper(variant, int(batch), options.device, options.tiny)))
        return
    # What was compiled once is not compiled again in a later round.
    steppers = {}
    for line in sys.stdin:
        variant, batch = line.split()
        try:
            if line not in steppers:
                steppers[line] = stepper(variant, int(batch), options.device, options.tiny)
            answer = measure(steppers[line], options.device, options.tiny)
        except Exception as error:  # a variant that fails is a row of the table
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
        if options.device == "cuda":
            torch.cuda.empty_cache()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
