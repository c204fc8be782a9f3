"""The two reference networks; [batch, channel, position] in, logits out."""
import torch
import torch.nn.functional as F
from torch import nn

ENCODER, DECODER = (15, 22, 33, 49, 73, 109), (72, 48, 32, 21, 14)


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
    def __init__(self, relu_up):
        super().__init__()
        self.relu_up = relu_up
        cin, self.down, self.up = 5, [], []
        for width in ENCODER:
            self.down.append(self.pair(cin, width))
            cin = width
        for width, skip in zip(DECODER, ENCODER[-2::-1]):
            transposed = self.layer("conv1d_transpose", nn.ConvTranspose1d(cin, width, 2, stride=2))
            self.up.append((transposed, self.pair(width + skip, width)))
            cin = width
        self.conv(cin, 1, 1)

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
        for transposed, units in self.up:
            x = transposed(x)
            x = torch.cat([F.relu(x) if self.relu_up else x, skips.pop()], 1)
            for conv, norm in units:
                x = norm(F.relu(conv(x)))
        return self.conv1d_22(x)


class Cnn(Keras):
    def __init__(self):
        super().__init__()
        self.body = [self.conv(5, 32, 17), self.conv(32, 64, 11), self.conv(64, 128, 5)]
        self.conv(128, 1, 1)

    def forward(self, x):
        for conv in self.body:
            x = F.relu(conv(x))
        return self.conv1d_3(x)
