"""The reference networks; [batch, channel, position] in, logits out."""
import math

import torch
import torch.nn.functional as F
from torch import nn

ENCODER, DECODER = (15, 22, 33, 49, 73, 109), (72, 48, 32, 21, 14)
WIDE = (25, 28, 31, 35, 39, 44), (38, 33, 29, 25, 22)


class Keras(nn.Module):
    """Registers layers under the names Keras gives them: kind, kind_1, kind_2, ..."""

    def __init__(self):
        super().__init__()
        self.counts = {}

    def layer(self, kind, module):
        i = self.counts.get(kind, 0)
        self.counts[kind] = i + 1
        self.add_module(f"{kind}_{i}" if i else kind, module)
        return module

    def conv(self, cin, cout, k):
        return self.layer("conv1d", nn.Conv1d(cin, cout, k, padding=k // 2))


class UNet(Keras):
    def __init__(self, relu_up, widths=(ENCODER, DECODER), gates=False, bottom=False):
        super().__init__()
        self.relu_up = relu_up
        encoder, decoder = widths
        cin, self.down, self.up, self.gates = 5, [], [], []
        for width in encoder:
            self.down.append(self.pair(cin, width))
            cin = width
        self.bottom = []
        if bottom:
            self.bottom = [self.conv(cin, TOKEN, 1), Encoder(self)]
            cin = TOKEN
        for width, skip in zip(decoder, encoder[-2::-1]):
            transposed = self.layer("conv1d_transpose", nn.ConvTranspose1d(cin, width, 2, stride=2))
            if gates:
                half = skip // 2
                self.gates.append([self.conv(skip, half, 1), self.conv(width, half, 1), self.conv(half, 1, 1)])
            self.up.append((transposed, self.pair(width + skip, width)))
            cin = width
        self.head = [self.conv(cin, 1, 1)]

    def pair(self, cin, width):
        units = []
        for c in (cin, width):
            conv = self.conv(c, width, 7)
            norm = nn.BatchNorm1d(width, eps=1e-3, momentum=0.01)
            units.append((conv, self.layer("batch_normalization", norm)))
        return units

    def forward(self, x):
        skips = []
        for depth, units in enumerate(self.down):
            x = F.max_pool1d(x, 2) if depth else x
            for conv, norm in units:
                x = norm(F.relu(conv(x)))
            skips.append(x)
        skips.pop()
        for part in self.bottom:
            x = part(x)
        for step, (transposed, units) in enumerate(self.up):
            x, skip = transposed(x), skips.pop()
            x = F.relu(x) if self.relu_up else x
            if self.gates:
                of_skip, of_x, score = self.gates[step]
                skip = skip * torch.sigmoid(score(F.relu(of_skip(skip) + of_x(x))))
            x = torch.cat([x, skip], 1)
            for conv, norm in units:
                x = norm(F.relu(conv(x)))
        return self.head[0](x)


TOKEN, HEADS, DEPTH, HIDDEN = 128, 4, 6, 512


def turned(x):
    """Rotary positions, x [batch, head, position, channel]: the two halves of a head as one complex number."""
    _, _, length, width = x.shape
    angle = torch.outer(torch.arange(length, dtype=torch.float64),
                        10_000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width))
    return torch.complex(x[..., :width // 2], x[..., width // 2:]) * torch.exp(1j * angle).to(x.dtype.to_complex())


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.output = nn.Linear(TOKEN, 3 * TOKEN), nn.Linear(TOKEN, TOKEN)

    def forward(self, x):
        parts = self.qkv(x).chunk(3, -1)
        q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in parts)
        scores = (turned(q) @ turned(k).mH).real / math.sqrt(TOKEN // HEADS)
        return self.output((torch.softmax(scores, -1) @ v).transpose(1, 2).flatten(2))


class Perceptron(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.output = nn.Linear(TOKEN, HIDDEN), nn.Linear(HIDDEN, TOKEN)

    def forward(self, x):
        return self.output(F.gelu(self.hidden(x)))


class Encoder:
    """Pre-norm blocks, with a norm behind the last; layers are registered with `keras`."""

    def __init__(self, keras):
        norm = lambda: keras.layer("layer_normalization", nn.LayerNorm(TOKEN, eps=1e-6))
        kinds = [("multi_head_attention", Attention), ("perceptron", Perceptron)] * DEPTH
        self.parts = [(norm(), keras.layer(name, kind())) for name, kind in kinds]
        self.last = norm()

    def __call__(self, x):
        x = x.transpose(1, 2)
        for norm, part in self.parts:
            x = x + part(norm(x))
        return self.last(x).transpose(1, 2)


class Transformer(Keras):
    def __init__(self):
        super().__init__()
        self.stem = [self.conv(5, 64, 15), self.conv(64, TOKEN, 5)]
        self.encoder = Encoder(self)
        ups = ((128, 64), (64, 32), (32, 16), (16, 8))
        self.up = [self.layer("conv1d_transpose", nn.ConvTranspose1d(*of, 2, stride=2)) for of in ups]
        self.head = [self.conv(8, 1, 1)]

    def forward(self, x):
        for conv in self.stem:
            x = F.max_pool1d(F.relu(conv(x)), 4)
        x = self.encoder(x)
        for up in self.up:
            x = F.relu(up(x))
        return self.head[0](x)


class Cnn(Keras):
    def __init__(self):
        super().__init__()
        self.body = [self.conv(5, 32, 17), self.conv(32, 64, 11), self.conv(64, 128, 5)]
        self.conv(128, 1, 1)

    def forward(self, x):
        for conv in self.body:
            x = F.relu(conv(x))
        return self.conv1d_3(x)
