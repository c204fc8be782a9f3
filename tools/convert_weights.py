#!/usr/bin/env python3
"""Weights of Keras (.h5, .keras) or PyTorch (.pt, .pth, .pth.tar) as a file that `tfbind-mpi import` reads.

    convert_weights.py leopard.h5 leopard.safetensors --arch unet
    convert_weights.py deepsea.pth deepsea.safetensors --alphabet AGCT

Layers are taken in the order of the file and named as `tfbind-mpi models NAME` names them; docs/weights.md says what
changes. Needs numpy, and h5py or torch to read the file; no Keras.
"""
import argparse
import io
import json
import re
import struct
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

BASES = "ACGT"
# What is added to the variance in batch norm: here by model, and there unless the file says otherwise.
EPS_HERE = {"basset": 1e-5} | dict.fromkeys(
    ("unet", "unet-wide", "unet-attention", "transunet", "tal1-one", "tal1-norm"), 1e-3)
EPS_TORCH, EPS_KERAS = 1e-5, 1e-3


@dataclass
class Layer:
    """One layer of the source. Weights are laid out as here: [out, in, k], [out, in], [gates, in]; a transposed
    convolution's [in, out, k]."""
    kind: str  # conv1d, conv1d_transpose, batch_normalization, dense, bidirectional, lstm, simple_rnn, flatten
    tensors: dict = field(default_factory=dict)
    # Of a recurrent layer: a state for every place, not the last alone.
    sequence: bool = True
    # Of a batch norm, where the file says what is added to the variance.
    eps: float | None = None


def fail(message):
    raise SystemExit(f"error: {message}")


# Keras ---------------------------------------------------------------------------------------------------------------

KERAS = {
    "conv1d": "conv1d", "conv2d": "conv1d", "convolution1d": "conv1d",
    "conv1dtranspose": "conv1d_transpose", "conv2dtranspose": "conv1d_transpose",
    "batchnormalization": "batch_normalization", "dense": "dense",
    "bidirectional": "bidirectional", "lstm": "lstm", "simplernn": "simple_rnn",
    "flatten": "flatten", "globalmaxpooling1d": "flatten", "globalaveragepooling1d": "flatten",
}


def kind_of(class_name):
    """Of a Keras class, or of a layer that is named after it: conv1d_3, batch_normalization_1."""
    return KERAS.get(re.sub(r"(_\d+)?$", "", class_name).replace("_", "").lower())


def one_dimension(kernel):
    """The kernel [h, w, a, b] of a two-dimensional layer on sequences -> [k, a, b]."""
    if kernel.ndim == 4:
        if 1 not in kernel.shape[:2]:
            fail(f"a kernel of {kernel.shape} is not of one dimension")
        kernel = kernel.reshape(-1, *kernel.shape[2:])
    return kernel


def recurrent(kernel, state, bias, suffix=""):
    """Keras' [in, gates], [units, gates], [gates]; its gates are in the order i, f, c, o, as here."""
    return {f"weight{suffix}": kernel.T, f"recurrent{suffix}": state.T, f"bias{suffix}": bias}


def check_recurrent(name, kind, config, inner, gates):
    """Here gates are sigmoids and states go through tanh."""
    if config is None:
        if gates != "sigmoid":
            fail(f"{name}: weights alone do not say whether its gates are sigmoids or, as in Keras before 2.3, hard "
                 "sigmoids; save the whole model, or type --gates sigmoid if you know")
        return
    # Before 2.3 a configuration may leave out what was the default.
    used = inner.get("recurrent_activation", "sigmoid") if kind != "simple_rnn" else "sigmoid"
    if used != "sigmoid":
        fail(f"{name}: gates of {used}; here they are sigmoids")
    if inner.get("activation", "tanh") != "tanh":
        fail(f"{name}: states through {inner['activation']}; here through tanh")
    if inner.get("go_backwards") or config.get("merge_mode", "concat") != "concat":
        fail(f"{name}: read backwards alone, or with directions not side by side, has no counterpart here")


def keras_layer(name, class_name, config, arrays, gates=None):
    """None for a layer without weights that changes no order. `config` is None where the file holds weights alone."""
    kind = kind_of(class_name)
    if kind is None:
        if arrays:
            fail(f"{name}: a {class_name} with weights has no counterpart here")
        return None
    if kind == "flatten":
        return Layer(kind)
    inner = (config or {}).get("layer", {}).get("config", config or {})
    if kind in ("bidirectional", "lstm", "simple_rnn"):
        check_recurrent(name, kind, config, inner, gates)
    sequence = inner.get("return_sequences", True)
    if kind == "conv1d":
        kernel, *bias = arrays
        kernel = one_dimension(kernel).transpose(2, 1, 0)
        return Layer(kind, {"weight": kernel, "bias": bias[0] if bias else np.zeros(len(kernel))})
    if kind == "conv1d_transpose":
        kernel, *bias = arrays
        # [k, out, in] -> [in, out, k]
        kernel = one_dimension(kernel).transpose(2, 1, 0)
        return Layer(kind, {"weight": kernel, "bias": bias[0] if bias else np.zeros(kernel.shape[1])})
    if kind == "batch_normalization":
        if len(arrays) != 4:
            fail(f"{name}: a batch norm without scale or centre has no counterpart here")
        parts = dict(zip(("weight", "bias", "running_mean", "running_var"), arrays))
        return Layer(kind, parts, eps=inner.get("epsilon"))
    if kind == "dense":
        kernel, *bias = arrays
        return Layer(kind, {"weight": kernel.T, "bias": bias[0] if bias else np.zeros(kernel.shape[1])})
    if kind == "bidirectional":
        wrapped = (config or {}).get("layer", {}).get("class_name", "LSTM")
        if wrapped != "LSTM" or len(arrays) != 6 or arrays[0].shape[1] != 4 * arrays[1].shape[0]:
            fail(f"{name}: in both directions only an LSTM with biases has a counterpart here")
        return Layer(kind, recurrent(*arrays[:3]) | recurrent(*arrays[3:], "_reverse"), sequence)
    if len(arrays) != 3:
        fail(f"{name}: a recurrent layer without biases has no counterpart here")
    return Layer(kind, recurrent(*arrays), sequence)


def configs_of(model_config):
    """Of each layer: name, class, config; of a sequential or functional model."""
    layers = model_config["config"]
    layers = layers["layers"] if isinstance(layers, dict) else layers
    return [(one["config"].get("name", ""), one["class_name"], one["config"]) for one in layers]


def read_h5(path, gates):
    import h5py

    with h5py.File(path) as file:
        group = file["model_weights"] if "model_weights" in file else file
        if "layer_names" not in group.attrs:
            fail(f"{path}: the order of its layers is not in it; save the whole model as .keras or .h5")
        config = file.attrs.get("model_config")
        known = {name: rest for name, *rest in configs_of(json.loads(config))} if config else {}
        layers = []
        for name in group.attrs["layer_names"]:
            name = name.decode() if isinstance(name, bytes) else name
            names = group[name].attrs["weight_names"]
            arrays = [group[name][n.decode() if isinstance(n, bytes) else n][...] for n in names]
            class_name, settings = known.get(name, (name, None))
            layers.append(keras_layer(name, class_name, settings, arrays, gates))
    return [layer for layer in layers if layer]


def read_keras(path):
    """Keras 3: config.json, and weights under the classes' names in the order of the layers."""
    import h5py

    def snake(name):
        name = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", re.sub(r"\W+", "", name))
        return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()

    def variables(group):
        found = group["vars"] if "vars" in group else {}
        return [found[i][...] for i in sorted(found, key=int)]

    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
        stored = io.BytesIO(archive.read("model.weights.h5"))
    layers, seen = [], {}
    with h5py.File(stored) as file:
        for name, class_name, settings in configs_of(config):
            place = snake(class_name)
            seen[place] = seen.get(place, -1) + 1
            place = f"layers/{place}_{seen[place]}" if seen[place] else f"layers/{place}"
            arrays = []
            if place in file:
                group = file[place]
                # A recurrent layer's are its cell's.
                parts = [part for part in ("forward_layer", "backward_layer") if part in group]
                cells = [group[part]["cell"] for part in parts] or [group.get("cell", group)]
                arrays = [array for cell in cells for array in variables(cell)]
            layers.append(keras_layer(name, class_name, settings, arrays))
    return [layer for layer in layers if layer]


# PyTorch -------------------------------------------------------------------------------------------------------------

def torch_layer(name, of, transposed):
    if "running_mean" in of:
        if "weight" not in of:
            fail(f"{name}: a batch norm without scale and centre has no counterpart here")
        return Layer("batch_normalization", of)
    if "weight_ih_l0" in of:
        if any("_l1" in part for part in of):
            fail(f"{name}: one recurrent layer over another has no counterpart here; one each")
        tensors = {}
        for suffix in ("", "_reverse"):
            if f"weight_ih_l0{suffix}" in of:
                state = of[f"weight_hh_l0{suffix}"]
                zeros = np.zeros(len(state))
                # Two biases that are added; gates in the order i, f, g, o, as here.
                bias = of.get(f"bias_ih_l0{suffix}", zeros) + of.get(f"bias_hh_l0{suffix}", zeros)
                tensors |= {f"weight{suffix}": of[f"weight_ih_l0{suffix}"],
                            f"recurrent{suffix}": state, f"bias{suffix}": bias}
        both, gates = len(tensors) == 6, len(state) // state.shape[1]
        kind = {(True, 4): "bidirectional", (False, 4): "lstm", (False, 1): "simple_rnn"}.get((both, gates))
        if kind is None:
            fail(f"{name}: of {gates} gates{' in both directions' * both}, which has no counterpart here")
        return Layer(kind, tensors)
    if "weight" not in of:
        fail(f"{name}: {', '.join(of)} have no counterpart here")
    weight = of["weight"]
    if weight.ndim == 4:
        if 1 not in weight.shape[2:]:
            fail(f"{name}: a kernel of {weight.shape} is not of one dimension")
        weight = weight.reshape(*weight.shape[:2], -1)
    is_transposed = name in transposed
    kind = {2: "dense", 3: "conv1d_transpose" if is_transposed else "conv1d"}.get(weight.ndim)
    if kind is None:
        fail(f"{name}: a weight of {weight.shape} has no counterpart here")
    return Layer(kind, {"weight": weight, "bias": of.get("bias", np.zeros(weight.shape[is_transposed]))})


def read_torch(path, transposed):
    import torch

    state = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model_state_dict", "model"):
        state = state[key] if isinstance(state.get(key), dict) else state
    groups = {}
    for name, tensor in state.items():
        layer, part = name.removeprefix("module.").rsplit(".", 1)
        if part != "num_batches_tracked":
            groups.setdefault(layer, {})[part] = tensor.to(torch.float64).numpy()
    missing = set(transposed) - set(groups)
    if missing:
        fail(f"--transposed {','.join(missing)}: layers are {', '.join(groups)}")
    return [torch_layer(name, of, transposed) for name, of in groups.items()]


# The names and orders here -------------------------------------------------------------------------------------------

def named(layers, alphabet=BASES, flatten="positions", dense_on_places=True):
    """Tensors by this program's names. `flatten`: which of a window's numbers stand side by side in a dense layer's
    input, those of one place (Keras: positions) or of one channel (here: channels)."""
    out, numbers = {}, {}
    channels, flat, first = None, False, True
    for layer in layers:
        if layer.kind == "flatten":
            flat = True
            continue
        kind, tensors = layer.kind, dict(layer.tensors)
        if kind == "dense" and dense_on_places and not flat and channels == tensors["weight"].shape[1]:
            # At every place alike: a convolution of width 1.
            kind, tensors["weight"] = "conv1d", tensors["weight"][:, :, None]
        if first and alphabet != BASES:
            tensors |= {part: in_order(tensor, alphabet, kind) for part, tensor in tensors.items()
                        if part.startswith("weight")}
        first = False
        if kind == "dense":
            weight = tensors["weight"]
            units, inputs = weight.shape
            if channels is not None and inputs % channels:
                fail(f"a dense layer of {inputs} inputs after {channels} channels")
            if channels is not None and flatten == "positions":
                weight = weight.reshape(units, inputs // channels, channels).transpose(0, 2, 1)
            tensors["weight"] = weight.reshape(units, inputs)
            channels, flat = units, True
        elif kind != "batch_normalization":
            channels = len(tensors["bias"])
            if "recurrent" in tensors:
                channels = tensors["recurrent"].shape[1] * (2 if kind == "bidirectional" else 1)
                flat = not layer.sequence
        number = numbers[kind] = numbers.get(kind, -1) + 1
        name = f"{kind}_{number}" if number else kind
        out |= {f"{name}.{part}": tensor for part, tensor in tensors.items()}
    return out


def in_order(tensor, alphabet, kind):
    """The inputs of the first layer, dimension 1, from the order `alphabet` into A C G T; others follow as they are."""
    if kind == "dense":
        fail("--alphabet: the first layer is dense, and where its bases stand is not in the file")
    order = [alphabet.index(base) for base in BASES] + list(range(4, tensor.shape[1]))
    return tensor[:, order]


def fold_eps(layer, arch, usual, typed):
    """The variance plus what is added to it there, less what will be added here: the sum is the same. It may be
    negative."""
    if arch is None:
        fail("--arch is missing: the file has batch norms, and what is added to a variance differs from model to model")
    if arch not in EPS_HERE:
        fail(f"--arch {arch}: has no batch norm here, but the file has; models with it: {', '.join(sorted(EPS_HERE))}")
    if None not in (layer.eps, typed) and layer.eps != typed:
        fail(f"--bn-eps {typed}: the file itself says {layer.eps}")
    there = next(eps for eps in (layer.eps, typed, usual) if eps is not None)
    if there != EPS_HERE[arch]:
        variance = np.asarray(layer.tensors["running_var"], np.float64)
        layer.tensors = layer.tensors | {"running_var": variance + there - EPS_HERE[arch]}


def convert(path, alphabet=BASES, flatten=None, transposed=(), arch=None, bn_eps=None, gates=None):
    """Tensors of the file by this program's names, f32."""
    if sorted(alphabet) != sorted(BASES):
        fail(f"--alphabet {alphabet}: the four letters A, C, G, T in the order of the file's channels")
    if zipfile.is_zipfile(path) and "config.json" in zipfile.ZipFile(path).namelist():
        layers, from_torch = read_keras(path), False
    elif Path(path).read_bytes()[:8] == b"\x89HDF\r\n\x1a\n":
        layers, from_torch = read_h5(path, gates), False
    else:
        layers, from_torch = read_torch(path, transposed), True
    if transposed and not from_torch:
        fail("--transposed is for PyTorch; Keras says so itself")
    for layer in layers:
        if layer.kind == "batch_normalization":
            fold_eps(layer, arch, EPS_TORCH if from_torch else EPS_KERAS, bn_eps)
    if flatten is None:
        # PyTorch's convolutions keep channels together, its recurrent layers places.
        last = [layer.kind for layer in layers if layer.kind not in ("dense", "flatten")][-1:]
        by_channel = from_torch and last and last[0] not in ("bidirectional", "lstm", "simple_rnn")
        flatten = "channels" if by_channel else "positions"
    out = named(layers, alphabet, flatten, dense_on_places=not from_torch)
    return {name: np.ascontiguousarray(tensor, np.float32) for name, tensor in out.items()}


def write_safetensors(path, tensors):
    """github.com/huggingface/safetensors: length of the header, header, numbers."""
    header, start = {}, 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [start, start + tensor.nbytes]}
        start += tensor.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            file.write(tensor.astype("<f4").tobytes())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help=".h5, .keras, .pt, .pth or .pth.tar")
    parser.add_argument("out", help="safetensors file to write")
    parser.add_argument("--alphabet", default=BASES, help="order of the bases in the first four channels of the source: "
                        "AGCT for DeepSEA's and DanQ's data [default: ACGT]")
    parser.add_argument("--flatten", choices=["channels", "positions"],
                        help="which numbers stand side by side in the input of the first dense layer [default: positions; "
                        "channels for PyTorch without a recurrent layer]")
    parser.add_argument("--transposed", default="", help="names of PyTorch's transposed convolutions, comma separated")
    parser.add_argument("--arch", help="model of `tfbind-mpi models` that the weights are for; needed where the file has "
                        "batch norms, whose epsilon is another in basset")
    parser.add_argument("--bn-eps", type=float, help="what batch norms add to the variance, where the file does not say "
                        "[default: 1e-5 for PyTorch, 1e-3 for Keras]")
    parser.add_argument("--gates", choices=["sigmoid"], help="of recurrent layers in a Keras file of weights alone, which "
                        "does not say")
    args = parser.parse_args()
    transposed = [name for name in args.transposed.split(",") if name]
    tensors = convert(args.source, args.alphabet.upper(), args.flatten, transposed, args.arch, args.bn_eps, args.gates)
    write_safetensors(args.out, tensors)
    for name, tensor in tensors.items():
        print(f"{name:<34}{list(tensor.shape)}")
    print(f"{sum(tensor.size for tensor in tensors.values()):,} numbers in {args.out}")


if __name__ == "__main__":
    main()
