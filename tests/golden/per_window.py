"""The models of one label a window, as their authors' frameworks have them; [batch, position, base] in for Keras,
[batch, base, position] for PyTorch, logits out. `wide` is what becomes of a published width."""
import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from torch import nn


class Flat(nn.Module):
    def forward(self, x):
        return x.flatten(1)


def deepsea(length, targets, wide=lambda n: n):
    """Zhou & Troyanskaya's Torch7 model, converted: convolutions over [B, 4, 1, L], no dropout."""
    a, b, c, hidden = map(wide, (320, 480, 960, 925))
    places = ((length - 7) // 4 - 7) // 4 - 7
    return nn.Sequential(
        nn.Conv2d(4, a, (1, 8)), nn.Threshold(0, 1e-6), nn.MaxPool2d((1, 4)),
        nn.Conv2d(a, b, (1, 8)), nn.Threshold(0, 1e-6), nn.MaxPool2d((1, 4)),
        nn.Conv2d(b, c, (1, 8)), nn.Threshold(0, 1e-6), Flat(),
        nn.Sequential(nn.Identity(), nn.Linear(c * places, hidden)), nn.Threshold(0, 1e-6),
        nn.Sequential(nn.Identity(), nn.Linear(hidden, targets)))


def basset(length, targets, wide=lambda n: n):
    """Kelley's Torch7 model, converted: convolutions over [B, 4, L, 1], no dropout."""
    layers, inputs = [], 4
    for filters, kernel, pool in ((300, 19, 3), (200, 11, 4), (200, 7, 4)):
        filters, length = wide(filters), (length - kernel + 1) // pool
        layers += [nn.Conv2d(inputs, filters, (kernel, 1)), nn.BatchNorm2d(filters), nn.ReLU(), nn.MaxPool2d((pool, 1))]
        inputs = filters
    layers.append(Flat())
    inputs *= length
    for _ in range(2):
        hidden = wide(1000)
        layers += [nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden), nn.ReLU()]
        inputs = hidden
    return nn.Sequential(*layers, nn.Linear(inputs, targets))


def torch_tal1_norm(length, targets):
    return nn.Sequential(nn.Conv1d(4, 15, 10), nn.BatchNorm1d(15), nn.ReLU(), nn.MaxPool1d(35), Flat(),
                         nn.Linear(15 * ((length - 9) // 35), targets))


class TorchDanq(nn.Module):
    """DanQ as PyTorch ports have it: an LSTM with two biases, places side by side in the dense layer's input."""

    def __init__(self, length, targets, wide):
        super().__init__()
        filters, units, hidden = wide(320), wide(320), wide(925)
        self.conv = nn.Conv1d(4, filters, 26)
        self.lstm = nn.LSTM(filters, units, batch_first=True, bidirectional=True)
        self.dense = nn.Linear(2 * units * ((length - 25) // 13), hidden)
        self.out = nn.Linear(hidden, targets)

    def forward(self, x):
        x = nn.functional.max_pool1d(self.conv(x).relu(), 13)
        x, _ = self.lstm(x.transpose(1, 2))
        return self.out(self.dense(x.flatten(1)).relu())


def sequential(length, layers, channels=4):
    import keras

    return keras.Sequential([keras.Input((length, channels)), *layers])


def danq(length, targets, wide=lambda n: n, sizes=(320, 26, 13, 320)):
    from keras import layers

    filters, kernel, pool, units = sizes
    return sequential(length, [
        layers.Conv1D(wide(filters), kernel, activation="relu"), layers.MaxPooling1D(pool),
        layers.Bidirectional(layers.LSTM(wide(units), return_sequences=True)),
        layers.Flatten(), layers.Dense(wide(925), activation="relu"), layers.Dense(targets)])


def danq_jaspar(length, targets, wide=lambda n: n):
    return danq(length, targets, wide, (1024, 30, 15, 512))


def tal1(length, targets, number=1, filters=15, norm=False, padding="valid"):
    from keras import layers

    body = []
    for _ in range(number):
        body += [layers.Conv1D(filters, 10, padding=padding)]
        body += [layers.BatchNormalization()] if norm else []
        body += [layers.Activation("relu")]
    return sequential(length, [*body, layers.MaxPooling1D(35), layers.Flatten(), layers.Dense(targets)])


KERAS = {
    "danq": danq,
    "danq-jaspar": danq_jaspar,
    "tal1": tal1,
    "tal1-one": lambda length, targets: tal1(length, targets, filters=1, norm=True, padding="same"),
    "tal1-norm": lambda length, targets: tal1(length, targets, norm=True),
    "tal1-three": lambda length, targets: tal1(length, targets, number=3),
}
TORCH = {"deepsea": deepsea, "basset": basset}
