"""Logits, loss and gradients of the class's small models by Keras -> toys.safetensors.

Run in float64; parameters, a few hundred numbers in all, are stored with the results, under the names and in the
shapes of this program.
"""
import os
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"
import keras
import numpy as np
import tensorflow as tf
from safetensors.numpy import save_file

from hashing import uniform

keras.config.set_floatx("float64")
BATCH = 6


def recurrent(kernel, state, bias):
    return {"weight": kernel.T, "recurrent": state.T, "bias": bias}


def dense(kernel, bias, channels):
    """Keras flattens [L, C], this program [C, L]."""
    return {"weight": kernel.reshape(-1, channels).T.reshape(1, -1), "bias": bias}


def layer(name, channels):
    return {
        "simple_rnn": lambda k, r, b: recurrent(k, r, b),
        "lstm": lambda k, r, b: recurrent(k, r, b),
        "conv1d": lambda k, b: {"weight": k.transpose(2, 1, 0), "bias": b},
        "dense": lambda k, b: dense(k, b, channels),
    }[name]


def cross_entropy(z, y):
    return tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(y, z))


def squares(z, y):
    return tf.reduce_sum((tf.sigmoid(z) - y) ** 2)


MODELS = {
    "toy-rnn": (10, 2, "simple_rnn", keras.layers.SimpleRNN(2, return_sequences=True), cross_entropy),
    "toy-conv": (10, 2, "conv1d", keras.layers.Conv1D(2, 3, activation="relu"), cross_entropy),
    "toy-memory-rnn": (100, 1, "simple_rnn", keras.layers.SimpleRNN(1, return_sequences=True), squares),
    "toy-memory-lstm": (100, 1, "lstm", keras.layers.LSTM(1, return_sequences=True), squares),
}

stored, stream = {}, 5000
for name, (length, channels, kind, first, loss_of) in MODELS.items():
    x = keras.Input((length, 1))
    model = keras.Model(x, keras.layers.Dense(1)(keras.layers.Flatten()(first(x))))
    for weight in model.weights:
        values = 1.6 * uniform(stream, int(np.prod(weight.shape))) - 0.8
        weight.assign(values.astype(np.float32).reshape(weight.shape))
        stream += 1
    bits = (uniform(stream, BATCH * length) < 0.5).astype(np.float64).reshape(BATCH, length, 1)
    labels = (uniform(stream + 1, BATCH) < 0.5).astype(np.float64).reshape(BATCH, 1)
    stream += 2
    with tf.GradientTape() as tape:
        logits = model(bits)
        loss = loss_of(logits, labels)
    gradients = tape.gradient(loss, model.trainable_weights)

    def named(prefix, tensors):
        tensors = [np.asarray(tensor) for tensor in tensors]
        parts = {kind: tensors[:-2], "dense": tensors[-2:]}
        for of, values in parts.items():
            for part, value in layer(of, channels)(*values).items():
                stored[f"{name}/{prefix}.{of}.{part}"] = value

    named("value", model.trainable_weights)
    named("grad", gradients)
    stored[f"{name}/bits"], stored[f"{name}/label"] = bits.reshape(BATCH, length), labels[:, 0]
    stored[f"{name}/logits"], stored[f"{name}/loss"] = logits.numpy()[:, 0], np.array([float(loss)])
    print(name, model.count_params(), "parameters, loss", float(loss))

stored = {key: np.ascontiguousarray(value, np.float32) for key, value in stored.items()}
save_file(stored, Path(__file__).with_name("toys.safetensors"))
