"""Times training steps or inference of the U-Net in PyTorch; prints one JSON line a rank.

One process; or of several, each with RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT set (--way ddp), or under mpirun
(--way horovod).
"""

import argparse
import json
import os
import time

parser = argparse.ArgumentParser()
parser.add_argument("--form", choices=["plain", "padded"], default="plain")
parser.add_argument("--way", choices=["alone", "ddp", "horovod"], default="alone")
parser.add_argument("--batch", type=int, default=8)
parser.add_argument("--steps", type=int, default=9)
parser.add_argument("--warm-up", type=int, default=2)
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--inference", action="store_true")
options = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(options.threads)

import torch
from torch import nn

import unet

torch.set_num_threads(options.threads)
torch.manual_seed(0)
rank, version = 0, f"PyTorch {torch.__version__}"
plain = unet.UNet()
assert unet.count(plain) == unet.PARAMETERS
model = plain if options.form == "plain" else unet.padded(plain)
if options.way == "ddp":
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
if options.way == "horovod":
    import horovod
    import horovod.torch as hvd

    hvd.init()
    rank, version = hvd.rank(), f"Horovod {horovod.__version__}, {version}"

x, y = unet.windows(options.batch, rank)
if options.form == "padded":
    x, y = unet.widened(x, model.inputs), y.unsqueeze(2)
optimizer = torch.optim.Adam(model.parameters(), 1e-3)
if options.way == "ddp":
    model = nn.parallel.DistributedDataParallel(model)
if options.way == "horovod":
    hvd.broadcast_parameters(model.state_dict(), 0)
    optimizer = hvd.DistributedOptimizer(optimizer, named_parameters=model.named_parameters())


def train():
    optimizer.zero_grad()
    loss = nn.functional.binary_cross_entropy_with_logits(model(x), y)
    loss.backward()
    optimizer.step()
    return loss.item()


def infer():
    with torch.no_grad():
        return model(x).mean().item()


once = train
if options.inference:
    model.eval()
    once = infer
times, values = [], []
for _ in range(options.warm_up + options.steps):
    began = time.perf_counter()
    values.append(once())
    times.append(time.perf_counter() - began)
assert options.inference or values[-1] < values[0], f"the loss does not fall: {values}"
line = {"batch": options.batch, "seconds": times[options.warm_up :], "version": version, "last": values[-1]}
print(json.dumps(line), flush=True)
if options.way == "ddp":
    torch.distributed.destroy_process_group()
