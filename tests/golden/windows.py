"""Logits, loss and gradients of the models of one label a window, at their published widths, by Keras (TensorFlow) and
PyTorch in float64 -> windows.json.

Weights come from the hash (README.md). Of a gradient, which is as large as the weights, the file holds the norm and
its products with four streams of numbers in [-1, 1): one number out of place changes them."""
import json
import math
import sys
from pathlib import Path

import numpy as np
import torch

from hashing import uniform
from per_window import KERAS, TORCH

sys.path.append(str(Path(__file__).parents[2] / "tools"))
import convert_weights

BATCH, TARGETS, STREAM = 3, 3, 2000
# Two places at least before the dense layer, so that their order counts.
LENGTHS = {"deepsea": 181, "basset": 216, "danq": 54, "danq-jaspar": 61, "tal1": 93, "tal1-one": 86, "tal1-norm": 93,
           "tal1-three": 111}


def value(name, shape, t):
    """By this program's name and shape."""
    u = uniform(t, math.prod(shape))
    layer, part = name.split(".")
    if layer.startswith("batch"):
        values = {"weight": 0.5 + u, "running_var": 0.5 + u, "bias": (2 * u - 1) * 0.3, "running_mean": (2 * u - 1) * 0.2}[part]
    elif part.startswith("bias"):
        values = (2 * u - 1) * 0.1
    else:
        values = (2 * u - 1) * math.sqrt(3 / math.prod(shape[1:]))
    return values.astype(np.float32).astype(np.float64).reshape(shape)


def inputs(length):
    n = BATCH * length
    base, missing = uniform(STREAM, n), uniform(STREAM + 1, n)
    seq = np.where(missing < 0.06, 4, np.floor(4 * base)).astype(np.uint8).reshape(BATCH, length)
    label = np.where(uniform(STREAM + 2, BATCH * TARGETS) < 0.1, -1, uniform(STREAM + 3, BATCH * TARGETS) < 0.4)
    return seq, label.astype(np.int8).reshape(BATCH, TARGETS)


def digest(tensor):
    flat = tensor.reshape(-1)
    return [float(np.linalg.norm(flat))] + [float(flat @ (2 * uniform(STREAM + 10 + k, flat.size) - 1)) for k in range(4)]


def fill(arrays, to_here):
    """Arrays of the framework, in its layouts, such that `to_here` of them are the values of the hash. `to_here` only
    moves numbers, so that of places it tells where each went."""
    sizes = np.cumsum([0] + [array.size for array in arrays])
    places = [np.arange(a, b, dtype=np.float64).reshape(array.shape) for a, b, array in zip(sizes, sizes[1:], arrays)]
    here = to_here(places)
    flat = np.full(sizes[-1], np.nan)
    for t, name in enumerate(sorted(here)):
        flat[here[name].astype(np.int64).reshape(-1)] = value(name, here[name].shape, t).reshape(-1)
    assert not np.isnan(flat).any()
    return [flat[a:b].reshape(array.shape) for a, b, array in zip(sizes, sizes[1:], arrays)]


def by_keras(name, seq, label):
    import keras
    import tensorflow as tf

    keras.backend.set_floatx("float64")
    model = KERAS[name](seq.shape[1], TARGETS)

    def to_here(arrays):
        """As the converter names and lays them out: gradients as well as weights."""
        arrays, layers = list(arrays), []
        for layer in model.layers:
            own = [arrays.pop(0) for _ in layer.weights]
            found = convert_weights.keras_layer(layer.name, type(layer).__name__, layer.get_config(), own)
            layers += [found] if found else []
        return convert_weights.named(layers)

    weights = [variable for layer in model.layers for variable in layer.weights]
    for variable, array in zip(weights, fill([w.numpy() for w in weights], to_here)):
        variable.assign(array)
    x = tf.constant((seq[:, :, None] == np.arange(4)).astype(np.float64))
    results = {"logits": model(x, training=False).numpy()}
    with tf.GradientTape() as tape:
        logits = model(x, training=True)
        known = label >= 0
        each = tf.nn.sigmoid_cross_entropy_with_logits(labels=(label > 0).astype(np.float64), logits=logits)
        loss = tf.reduce_sum(tf.where(known, each, 0.0))
    trained = model.trainable_variables
    gradients = dict(zip([id(v) for v in trained], tape.gradient(loss, trained)))
    arrays = [np.asarray(gradients.get(id(w), np.zeros(w.shape))) for w in weights]
    here = {n: g for n, g in to_here(arrays).items() if "running" not in n}
    after = {n: v for n, v in to_here([w.numpy() for w in weights]).items() if "running_mean" in n}
    return results | {"loss": float(loss), "gradients": here, "after": after}


def by_torch(name, seq, label):
    model = TORCH[name](seq.shape[1], TARGETS).double()
    state = {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}

    def to_here(arrays):
        groups = {}
        for key, array in zip(state, arrays):
            layer, part = key.rsplit(".", 1)
            groups.setdefault(layer, {})[part] = array
        layers = [convert_weights.torch_layer(layer, of, ()) for layer, of in groups.items()]
        return convert_weights.named(layers, flatten="channels", dense_on_places=False)

    for tensor, array in zip(state.values(), fill([v.numpy() for v in state.values()], to_here)):
        tensor.copy_(torch.from_numpy(array))
    x = torch.from_numpy((seq[:, None] == np.arange(4)[:, None]).astype(np.float64))
    x = x[:, :, None] if name == "deepsea" else x[..., None]
    results = {"logits": model.eval()(x).detach().numpy()}
    logits, label = model.train()(x), torch.from_numpy(label)
    known = label >= 0
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits[known], label[known].double(), reduction="sum")
    loss.backward()
    gradients = {k: p.grad.numpy() for k, p in model.named_parameters()}
    arrays = [gradients.get(k, np.zeros(v.shape)) for k, v in state.items()]
    here = {n: g for n, g in to_here(arrays).items() if "running" not in n}
    after = {n: v for n, v in to_here([v.numpy() for v in state.values()]).items() if "running" in n}
    return results | {"loss": loss.item(), "gradients": here, "after": after}


if __name__ == "__main__":
    golden = {}
    for name in [*TORCH, *KERAS]:
        seq, label = inputs(LENGTHS[name])
        found = (by_torch if name in TORCH else by_keras)(name, seq, label)
        numbers = sum(g.size for g in found["gradients"].values())
        print(f"{name}: {numbers:,} gradients, loss {found['loss']:.6f}, logits {found['logits'][0]}", flush=True)
        golden[name] = {
            "length": LENGTHS[name], "seq": seq.reshape(-1).tolist(), "label": label.reshape(-1).tolist(),
            "logits": found["logits"].reshape(-1).tolist(), "loss": found["loss"],
            "gradients": {n: digest(g) for n, g in found["gradients"].items()},
            "after": {n: digest(v) for n, v in found["after"].items()},
        }
    Path(__file__).with_name("windows.json").write_text(json.dumps(golden, separators=(",", ":")).replace('},"', '},\n"') + "\n")
