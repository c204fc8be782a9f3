"""The Leopard U-Net in PyTorch as the program has it: [B, 5, 10240] -> one logit a base, 475,969 parameters."""

import torch
from torch import nn

DOWN, BOTTOM, UP = [15, 22, 33, 49, 73], 109, [72, 48, 32, 21, 14]
PARAMETERS = 475_969
LENGTH, CHANNELS = 10_240, 5


def rounded(channels, multiple):
    return -(-channels // multiple) * multiple


class UNet(nn.Module):
    """`multiple` > 1: channels rounded up, in two dimensions of height 1, which can lie channels last."""

    def __init__(self, multiple=1):
        super().__init__()
        self.flat = multiple == 1
        width = lambda channels: rounded(channels, multiple)
        self.inputs = width(CHANNELS)
        self.blocks, self.ups = nn.ModuleList(), nn.ModuleList()
        channels = self.inputs
        for out in DOWN + [BOTTOM]:
            self.blocks.append(self.block(channels, width(out)))
            channels = width(out)
        for out, skip in zip(UP, reversed(DOWN)):
            self.ups.append(self.up(channels, width(out)))
            self.blocks.append(self.block(width(out) + width(skip), width(out)))
            channels = width(out)
        self.pool = nn.MaxPool1d(2) if self.flat else nn.MaxPool2d((1, 2))
        self.head = self.conv(channels, 1, 1)

    def conv(self, inputs, outputs, kernel):
        if self.flat:
            return nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2)
        return nn.Conv2d(inputs, outputs, (1, kernel), padding=(0, kernel // 2))

    def up(self, inputs, outputs):
        if self.flat:
            return nn.ConvTranspose1d(inputs, outputs, 2, stride=2)
        return nn.ConvTranspose2d(inputs, outputs, (1, 2), stride=(1, 2))

    def block(self, inputs, outputs):
        layers = []
        for of in (inputs, outputs):
            norm = nn.BatchNorm1d if self.flat else nn.BatchNorm2d
            layers += [self.conv(of, outputs, 7), nn.ReLU(), norm(outputs, eps=1e-3, momentum=0.01)]
        return nn.Sequential(*layers)

    def forward(self, x):
        blocks, skips = iter(self.blocks), []
        for _ in DOWN:
            x = next(blocks)(x)
            skips.append(x)
            x = self.pool(x)
        x = next(blocks)(x)
        for up in self.ups:
            x = torch.cat([torch.relu(up(x)), skips.pop()], 1)
            x = next(blocks)(x)
        return self.head(x)


def count(model):
    return sum(p.numel() for p in model.parameters()) + sum(b.numel() for b in model.buffers() if b.dim() > 0)


def padded(plain, multiple=8):
    """The same function with channels rounded up: what is added is zero, and stays zero under Adam."""
    wide = UNet(multiple)
    split = {}
    for place, (out, up) in enumerate(zip(UP, wide.ups)):
        # The first convolution after a concatenation reads [up, skip], each padded by itself.
        split[f"blocks.{len(DOWN) + 1 + place}.0.weight"] = (out, up.bias.numel())
    narrow = dict(plain.named_parameters())
    with torch.no_grad():
        for name, parameter in wide.named_parameters():
            parameter.zero_()
            source = narrow[name]
            if source.dim() == 1:
                parameter[: len(source)] = source
                continue
            source = source.unsqueeze(2)
            first, at = split.get(name, (source.shape[1], source.shape[1]))
            rest = source.shape[1] - first
            parameter[: source.shape[0], :first] = source[:, :first]
            parameter[: source.shape[0], at : at + rest] = source[:, first:]
    return wide.to(memory_format=torch.channels_last)


def windows(batch, seed):
    """One-hot bases and a track, labels with a site of 200 bases in every fourth window."""
    random = torch.Generator().manual_seed(seed)
    bases = torch.randint(4, (batch, LENGTH), generator=random)
    track = torch.rand(batch, 1, LENGTH, generator=random) ** 4
    x = torch.cat([nn.functional.one_hot(bases, 4).transpose(1, 2).float(), track], 1)
    y = torch.zeros(batch, 1, LENGTH)
    y[::4, :, 3000:3200] = 1
    return x.contiguous(), y


def widened(x, channels):
    """For a padded model: [B, C, 1, L], channels last."""
    wide = torch.zeros(x.shape[0], channels, 1, x.shape[2])
    wide[:, : x.shape[1], 0] = x
    return wide.contiguous(memory_format=torch.channels_last)


def check():
    """Parameters as published; the padded model gives the plain one's loss, and after three steps nearly so: Adam's
    first steps turn the rounding of small gradients into whole steps."""
    torch.manual_seed(0)
    plain = UNet()
    assert count(plain) == PARAMETERS, count(plain)
    wide = padded(plain)
    x, y = windows(2, 0)
    losses = []
    for model, x, y in ((plain, x, y), (wide, widened(x, wide.inputs), y.unsqueeze(2))):
        adam = torch.optim.Adam(model.parameters(), 1e-3)
        losses.append([])
        for _ in range(4):
            adam.zero_grad()
            loss = nn.functional.binary_cross_entropy_with_logits(model(x), y)
            loss.backward()
            adam.step()
            losses[-1].append(loss.item())
    off = [abs(a - b) / a for a, b in zip(*losses)]
    assert off[0] < 1e-5 and max(off) < 1e-3, losses
    return losses


if __name__ == "__main__":
    print("plain and padded U-Net agree; losses", *check())
