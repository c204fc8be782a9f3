"""Times training steps of the U-Net in Keras; prints one JSON line."""

import argparse
import json
import os
import time

parser = argparse.ArgumentParser()
parser.add_argument("--batch", type=int, default=8)
parser.add_argument("--steps", type=int, default=9)
parser.add_argument("--warm-up", type=int, default=2)
parser.add_argument("--threads", type=int, default=1)
options = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(options.threads)
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy
import tensorflow
from keras import layers

tensorflow.config.threading.set_intra_op_parallelism_threads(options.threads)
tensorflow.config.threading.set_inter_op_parallelism_threads(1)
DOWN, BOTTOM, UP = [15, 22, 33, 49, 73], 109, [72, 48, 32, 21, 14]
LENGTH = 10_240


def block(x, channels):
    for _ in range(2):
        x = layers.Conv1D(channels, 7, padding="same", activation="relu")(x)
        x = layers.BatchNormalization()(x)
    return x


def unet():
    x = inputs = keras.Input((LENGTH, 5))
    skips = []
    for channels in DOWN:
        x = block(x, channels)
        skips.append(x)
        x = layers.MaxPooling1D(2)(x)
    x = block(x, BOTTOM)
    for channels in UP:
        x = layers.Conv1DTranspose(channels, 2, strides=2, activation="relu")(x)
        x = block(layers.Concatenate()([x, skips.pop()]), channels)
    return keras.Model(inputs, layers.Conv1D(1, 1)(x))


random = numpy.random.default_rng(0)
x = numpy.zeros((options.batch, LENGTH, 5), numpy.float32)
x[..., :4] = numpy.eye(4)[random.integers(4, size=(options.batch, LENGTH))]
x[..., 4] = random.random((options.batch, LENGTH)) ** 4
y = numpy.zeros((options.batch, LENGTH, 1), numpy.float32)
y[::4, 3000:3200] = 1
x, y = tensorflow.constant(x), tensorflow.constant(y)
model, adam = unet(), keras.optimizers.Adam(1e-3)
assert model.count_params() == 475_969, model.count_params()
loss_of = keras.losses.BinaryCrossentropy(from_logits=True)
adam.build(model.trainable_variables)


@tensorflow.function
def train():
    with tensorflow.GradientTape() as tape:
        loss = loss_of(y, model(x, training=True))
    variables = model.trainable_variables
    adam.apply_gradients(zip(tape.gradient(loss, variables), variables))
    return loss


times, losses = [], []
for _ in range(options.warm_up + options.steps):
    began = time.perf_counter()
    losses.append(float(train().numpy()))
    times.append(time.perf_counter() - began)
assert losses[-1] < losses[0], f"the loss does not fall: {losses}"
version = f"Keras {keras.__version__}, TensorFlow {tensorflow.__version__}"
line = {"batch": options.batch, "seconds": times[options.warm_up :], "version": version, "last": losses[-1]}
print(json.dumps(line), flush=True)
