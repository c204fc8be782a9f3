"""Models that Keras and PyTorch began at random, converted by tools/convert_weights.py, with their outputs
-> imported_*.safetensors, imported.json.

Narrow, so that the files stay small: the widths that `--width 0.025` leaves, and a U-Net that begins with 3 filters.
Running statistics and the scale and shift of norms are drawn, as training would have moved them."""
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

import per_window
from hashing import uniform

sys.path.append(str(Path(__file__).parents[2] / "tools"))
import convert_weights

HERE = Path(__file__).parent
BATCH, TARGETS, STREAM = 3, 2, 3000
WIDTH = 0.025


def wide(n):
    return int(n * WIDTH + 0.5)


def leopard(length, targets):
    """Li & Guan's unet.py with 5 channels: no activation after the transposed convolutions, which they make of
    two-dimensional ones."""
    import keras
    from keras import layers

    def block(x, width):
        for _ in range(2):
            x = layers.BatchNormalization()(layers.Conv1D(width, 7, padding="same", activation="relu")(x))
        return x

    def up(x, width):
        x = layers.Reshape((x.shape[1], 1, x.shape[2]))(x)
        x = layers.Conv2DTranspose(width, (2, 1), strides=(2, 1), padding="same")(x)
        return layers.Reshape((x.shape[1], width))(x)

    inputs = x = keras.Input((length, 5))
    skips, width = [], 3
    for _ in range(5):
        x = block(x, width)
        skips.append(x)
        x, width = layers.MaxPooling1D(2)(x), int(width * 1.5)
    x = block(x, width)
    for skip in reversed(skips):
        width = int(width / 1.5)
        x = block(layers.Concatenate()([up(x, width), skip]), width)
    return keras.Model(inputs, layers.Conv1D(targets, 1)(x))


def inputs(length, channels):
    n = BATCH * length
    base, missing = uniform(STREAM, n), uniform(STREAM + 1, n)
    seq = np.where(missing < 0.06, 4, np.floor(4 * base)).astype(np.uint8).reshape(BATCH, length)
    signal = (4 * uniform(STREAM + 2, n) ** 4).astype(np.float16).reshape(BATCH, 1, length)[:, : channels - 4]
    return seq, signal


def one_hot(seq, signal, alphabet="ACGT"):
    """[B, C, L]"""
    order = np.array(["ACGT".index(base) for base in alphabet])
    return np.concatenate([seq[:, None] == order[:, None], signal], 1).astype(np.float32)


def refuses_weights_alone(whole):
    """As Keras 2's save_weights wrote them: whether gates are sigmoids is not in the file."""
    import h5py

    alone = whole.with_suffix(".weights.h5")
    with h5py.File(whole) as file, h5py.File(alone, "w") as copy:
        copy.attrs.update(file["model_weights"].attrs)
        for name in file["model_weights"]:
            file.copy(f"model_weights/{name}", copy)
    try:
        convert_weights.convert(alone)
    except SystemExit as error:
        assert "--gates sigmoid" in str(error)
    else:
        raise AssertionError("weights of an LSTM without its configuration were taken")
    return convert_weights.convert(alone, gates="sigmoid")


def by_keras(model, path, arch):
    import keras

    rng = np.random.default_rng(5)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.gamma.shape
            layer.set_weights([rng.uniform(*ends, shape) for ends in ((0.5, 1.5), (-0.3, 0.3), (-0.2, 0.2), (0.5, 1.5))])
        elif getattr(layer, "bias", None) is not None:
            layer.bias.assign(rng.uniform(-0.1, 0.1, layer.bias.shape))
    files = [path.with_suffix(".keras"), path.with_suffix(".h5")]
    for file in files:
        model.save(file)
    zipped, plain = (convert_weights.convert(file, arch=arch) for file in files)
    assert zipped.keys() == plain.keys() and all((zipped[name] == plain[name]).all() for name in plain)
    if arch == "danq":
        alone = refuses_weights_alone(files[1])
        assert all((alone[name] == plain[name]).all() for name in plain)
    return zipped


def small_variances():
    """tal1-norm in PyTorch, whose norms add 1e-5 where this program adds 1e-3: most of what a norm divides by."""
    with torch.random.fork_rng():
        torch.manual_seed(8)
        model = per_window.torch_tal1_norm(93, TARGETS)
        with torch.no_grad():
            for tensor in model[0].parameters():
                tensor *= 0.1
    return model


def by_torch(model, path, arch, alphabet, variances=(0.5, 1.5)):
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            for tensor, ends in ((module.weight, (0.5, 1.5)), (module.bias, (-0.3, 0.3)),
                                 (module.running_mean, (-0.2, 0.2)), (module.running_var, variances)):
                torch.nn.init.uniform_(tensor, *ends)
    torch.save({"state_dict": model.state_dict()}, path.with_suffix(".pth"))
    return convert_weights.convert(path.with_suffix(".pth"), alphabet, arch=arch)


if __name__ == "__main__":
    import keras

    keras.utils.set_random_seed(11)
    torch.manual_seed(7)
    golden = {}
    cases = [
        # name, model here, bases in the order of the framework's channels
        ("leopard", "unet", leopard(64, TARGETS), 64, 5, "ACGT"),
        ("danq", "danq", per_window.danq(54, TARGETS, wide), 54, 4, "ACGT"),
        ("tal1", "tal1", per_window.tal1(93, TARGETS), 93, 4, "ACGT"),
        ("tal1_one", "tal1-one", per_window.KERAS["tal1-one"](86, TARGETS), 86, 4, "ACGT"),
        ("deepsea", "deepsea", per_window.deepsea(181, TARGETS, wide), 181, 4, "AGCT"),
        ("basset", "basset", per_window.basset(216, TARGETS, wide), 216, 4, "ACGT"),
        ("danq_torch", "danq", per_window.TorchDanq(54, TARGETS, wide), 54, 4, "AGCT"),
        ("tal1_norm_torch", "tal1-norm", small_variances(), 93, 4, "ACGT"),
    ]
    with tempfile.TemporaryDirectory() as folder:
        for name, arch, model, length, channels, alphabet in cases:
            seq, signal = inputs(length, channels)
            x = one_hot(seq, signal, alphabet)
            path = Path(folder) / name
            if isinstance(model, torch.nn.Module):
                variances = {"tal1_norm_torch": (2e-4, 2e-3)}.get(name, (0.5, 1.5))
                tensors = by_torch(model, path, arch, alphabet, variances)
                shaped = {"deepsea": x[:, :, None], "basset": x[..., None]}.get(name, x)
                logits = model.eval()(torch.from_numpy(shaped))[..., None].detach().numpy()
            else:
                tensors = by_keras(model, path, arch)
                logits = model(x.transpose(0, 2, 1), training=False).numpy()
                # [B, L, T] or [B, T] -> [B, T, M]
                logits = logits.transpose(0, 2, 1) if logits.ndim == 3 else logits[..., None]
            # A narrow net may be dead: every place and window must matter.
            assert np.ptp(logits, axis=0).mean() > 1e-3 and (np.diff(logits) != 0).all()
            convert_weights.write_safetensors(HERE / f"imported_{name}.safetensors", tensors)
            print(f"{name}: {sum(t.size for t in tensors.values()):,} numbers, logits {logits.reshape(-1)[:4]}", flush=True)
            golden[name] = {
                "arch": arch, "width": WIDTH if arch in ("danq", "deepsea", "basset") else None,
                "length": length, "channels": channels, "targets": TARGETS,
                "seq": seq.reshape(-1).tolist(), "signal": signal.astype(float).reshape(-1).tolist(),
                "logits": logits.astype(float).reshape(-1).tolist(),
            }
    (HERE / "imported.json").write_text(json.dumps(golden, separators=(",", ":")).replace('},"', '},\n"') + "\n")
