"""Logits, loss and gradients of the models of a base from its context, at their sizes, by PyTorch in float64 ->
context.json.

Of a gradient, which is as large as the weights, the file holds the norm and its products with four streams of numbers
in [-1, 1): one number out of place changes them."""
import json
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from hashing import uniform
from networks import TOKEN, Encoder, Keras

BATCH, CLASSES, STREAM = 3, 4, 2100
# Flanks of 15 bases: four places are left of the CNN's.
LENGTH = 31
# This program's name of a part; PyTorch's second bias stays at zero.
PARTS = {"weight_ih_l0": "weight", "weight_hh_l0": "recurrent", "bias_ih_l0": "bias"}


class Model(Keras):
    def new_conv(self, *sizes, **how):
        return self.layer("conv1d", nn.Conv1d(*sizes, **how))

    def new_dense(self, inputs, units):
        return self.layer("dense", nn.Linear(inputs, units))


class Mlp(Model):
    def __init__(self):
        super().__init__()
        inputs = 4 * (LENGTH - 1)
        self.body = [self.new_dense(inputs if i == 0 else 300, 300) for i in range(3)]
        self.out = self.new_dense(300, CLASSES)

    def forward(self, x):
        # Bases before the centre from the left, bases after it from the right; places side by side.
        c = LENGTH // 2
        x = torch.cat([x[:, :, :c], x[:, :, c + 1:].flip(2)], 1).flatten(1)
        for layer in self.body:
            x = layer(x).relu()
        return self.out(x)


class CnnTrunk:
    def __init__(self, model):
        widths = (2, 3, 4, 6, 8, 10)
        self.convs = [model.new_conv(200 if i else 4, 200, width) for i, width in enumerate(widths)]
        self.dense = model.new_dense(200 * (LENGTH - 27), 100)

    def __call__(self, x):
        for conv in self.convs:
            x = conv(x).relu()
        return self.dense(x.flatten(1)).relu()


class LstmTrunk:
    def __init__(self, model):
        self.convs = [model.new_conv(4, 200, 11, padding=5), model.new_conv(200, 200, 5, padding=2)]
        self.lstms = [model.layer("lstm", nn.LSTM(200, 400, batch_first=True)) for _ in range(2)]
        self.dense = model.new_dense(800, 200)

    def __call__(self, x):
        for conv in self.convs:
            x = conv(x).relu()
        c, x = LENGTH // 2, x.transpose(1, 2)
        flanks = x[:, :c], x[:, c + 1:].flip(1)
        last = [lstm(flank)[0][:, -1] for lstm, flank in zip(self.lstms, flanks)]
        return self.dense(torch.cat(last, 1)).relu()


class Cnn(Model):
    def __init__(self):
        super().__init__()
        self.trunk = CnnTrunk(self)
        self.out = self.new_dense(100, CLASSES)

    def forward(self, x):
        return self.out(self.trunk(x))


class Lstm(Model):
    def __init__(self):
        super().__init__()
        self.trunk = LstmTrunk(self)
        self.out = self.new_dense(200, CLASSES)

    def forward(self, x):
        return self.out(self.trunk(x))


class Fusion(Model):
    def __init__(self):
        super().__init__()
        self.gate = CnnTrunk(self), self.new_dense(100, 1)
        self.experts = [(LstmTrunk(self), self.new_dense(200, CLASSES)) for _ in range(2)]

    def forward(self, x):
        answers = [out(trunk(x)).softmax(1) for trunk, out in self.experts]
        trunk, out = self.gate
        share = out(trunk(x)).sigmoid()
        return (share * answers[0] + (1 - share) * answers[1]).log()


class Transformer(Model):
    def __init__(self):
        super().__init__()
        self.stem = self.new_conv(4, TOKEN, 11, padding=5)
        self.encoder = Encoder(self)
        self.out = self.new_dense(TOKEN, CLASSES)

    def forward(self, x):
        x = self.encoder(self.stem(x).relu())
        return self.out(x[:, :, LENGTH // 2])


MODELS = {
    "context-mlp": Mlp, "context-cnn": Cnn, "context-lstm": Lstm, "context-fusion": Fusion,
    "context-transformer": Transformer,
}


def value(name, shape, t):
    """Of an element of parameter `t` in order of names; drawn in double precision, kept in single."""
    drawn = 2 * uniform(t, math.prod(shape)) - 1
    scale = 0.1 if name.endswith("bias") else math.sqrt(3 / math.prod(shape[1:]))
    return (drawn * scale).astype(np.float32).astype(np.float64).reshape(shape)


def digest(tensor):
    flat = tensor.reshape(-1)
    return [float(np.linalg.norm(flat))] + [float(flat @ (2 * uniform(STREAM + 10 + k, flat.size) - 1)) for k in range(4)]


def named(model):
    """Parameters by this program's names; those that stay at zero are left out."""
    for name, parameter in model.named_parameters():
        layer, part = name.rsplit(".", 1)
        if part == "bias_hh_l0":
            parameter.data.zero_()
        else:
            yield f"{layer}.{PARTS.get(part, part)}", parameter


def inputs():
    """Windows of bases, some unknown, the central one hidden; the second of the labels is not known."""
    n = BATCH * LENGTH
    seq = np.where(uniform(STREAM + 1, n) < 0.06, 4, np.floor(4 * uniform(STREAM, n))).astype(int).reshape(BATCH, LENGTH)
    seq[:, LENGTH // 2] = 4
    return seq, np.array([2, -1, 0])


if __name__ == "__main__":
    golden = {}
    seq, label = inputs()
    x = torch.from_numpy((seq[:, None] == np.arange(4)[:, None]).astype(np.float64))
    for name, make in MODELS.items():
        model = make().double()
        own = dict(named(model))
        for t, part in enumerate(sorted(own)):
            own[part].data.copy_(torch.from_numpy(value(part, tuple(own[part].shape), t)))
        logits = model(x)
        known = torch.from_numpy(label >= 0)
        loss = F.cross_entropy(logits[known], torch.from_numpy(label)[known], reduction="sum")
        loss.backward()
        print(f"{name}: {sum(p.numel() for p in own.values()):,} parameters, loss {loss.item():.6f}", flush=True)
        golden[name] = {
            "length": LENGTH, "seq": seq.reshape(-1).tolist(), "label": label.tolist(),
            "logits": logits.detach().reshape(-1).tolist(), "loss": loss.item(),
            "gradients": {part: digest(p.grad.numpy()) for part, p in own.items()},
        }
    text = json.dumps(golden, separators=(",", ":")).replace('},"', '},\n"')
    Path(__file__).with_name("context.json").write_text(text + "\n")
