"""The Keras opponents: the seed page's best Vision Transformer and the keras.io CNN.

    .venv-keras/bin/python benchmarks/keras_programs.py keras-cnn --data mnist.npz --seed 0 --epochs 15 --threads 2
    .venv-keras/bin/python benchmarks/keras_programs.py seed-best --data mnist.npz --seed 0 --epochs 1 --threads 2 \
        --limit-steps 20

Runs in the environment of benchmarks/keras_env.py and does not use vitlab. The .npz file holds `train_images` and
`test_images`, uint8 [images, 28, 28, 1], and `train_labels` and `test_labels`, integers [images]. The last tenth of the
training images is left out, because both originals use it for validation. Keras decides whatever the originals leave to
Keras: on a CPU it does not use XLA, which made the CNN five times slower.

Prints JSON lines: first what runs, then one line per epoch. `train_seconds` is the time in training steps so far,
without evaluation; `process_seconds` is all time since the start. Nothing is selected by `test_top1`. Before the clock
starts, two steps on random pixels and labels let Keras trace and compile; then the model and its optimiser are reset to
their initial state. `--limit-steps K` trains one epoch of K steps, to measure throughput.
"""

from __future__ import annotations

import time

STARTED = time.time()  # before TensorFlow is imported

import os  # noqa: E402

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

stderr = os.dup(2)
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # silences what TensorFlow prints before it reads the log level
try:
    import keras
    import tensorflow as tf
finally:
    os.dup2(stderr, 2)

import argparse  # noqa: E402
import json  # noqa: E402
import platform  # noqa: E402
from collections.abc import Callable  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from functools import partial  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
from keras import layers  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

IMPORT_SECONDS = time.time() - STARTED
Images = NDArray[np.float32]
Labels = NDArray[Any]


@dataclass(frozen=True)
class Program:
    """``build`` makes the compiled model from all 60,000 training images, [B, H, W, C] in [0, 1]."""

    build: Callable[[Images], Any]
    batch_size: int
    one_hot: bool


def main() -> None:
    """Parse, train, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", choices=PROGRAMS)
    parser.add_argument("--data", type=Path, required=True, help="the .npz file")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--limit-steps", type=int, metavar="K", help="one epoch of K steps only")
    arguments = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
    tf.config.threading.set_inter_op_parallelism_threads(arguments.threads)
    keras.utils.set_random_seed(arguments.seed)
    compete(arguments)


def compete(arguments: argparse.Namespace) -> None:
    """Build the program's model, warm up, train, and print the accuracy after each epoch."""
    program = PROGRAMS[arguments.program]
    with np.load(arguments.data) as file:
        images_BHWC, labels_B = file["train_images"].astype("float32") / 255, file["train_labels"]
        test_BHWC, test_labels_B = file["test_images"].astype("float32") / 255, file["test_labels"]
    model = program.build(images_BHWC)
    kept = len(images_BHWC) * 9 // 10
    if arguments.limit_steps:
        kept = min(kept, arguments.limit_steps * program.batch_size)
    images_BHWC, labels_B = images_BHWC[:kept], labels_B[:kept]
    if program.one_hot:
        labels_B = keras.utils.to_categorical(labels_B, 10)
    warmed = warm_up(model, program, kept)
    say(
        program=arguments.program,
        seed=arguments.seed,
        tensorflow=tf.__version__,
        keras=keras.__version__,
        python=platform.python_version(),
        threads=arguments.threads,
        jit_compile=model.jit_compile,
        parameters=int(sum(np.prod(weight.shape) for weight in model.trainable_variables)),
        import_seconds=round(IMPORT_SECONDS, 2),
        warm_up_seconds=round(warmed, 2),
    )
    seconds, started = 0.0, 0.0

    def start_clock(epoch: int, logs: Any = None) -> None:
        nonlocal started
        started = time.perf_counter()

    def stop_clock(epoch: int, logs: Any = None) -> None:
        nonlocal seconds
        own = time.perf_counter() - started
        seconds += own
        say(
            program=arguments.program,
            seed=arguments.seed,
            epoch=epoch + 1,
            steps=int(model.optimizer.iterations.numpy()),
            train_seconds=round(seconds, 3),
            images_per_second=round(kept / own, 1),
            test_top1=top1(model, test_BHWC, test_labels_B),
            process_seconds=round(time.time() - STARTED, 2),
        )

    clock = keras.callbacks.LambdaCallback(on_epoch_begin=start_clock, on_epoch_end=stop_clock)
    epochs = 1 if arguments.limit_steps else arguments.epochs
    model.fit(images_BHWC, labels_B, program.batch_size, epochs, verbose=0, callbacks=[clock])


def warm_up(model: Any, program: Program, kept: int) -> float:
    """Take two steps on noise, in the batch sizes of ``kept`` images, and undo them. Returns the seconds they took."""
    started = time.time()
    model.optimizer.build(model.trainable_variables)
    variables = [*model.variables, *model.optimizer.variables]
    before = [variable.numpy() for variable in variables]
    size = program.batch_size + (kept % program.batch_size or program.batch_size)
    random = np.random.default_rng(0)
    noise_BHWC = random.random((size, *model.input_shape[1:]), dtype=np.float32)
    labels_B = random.integers(0, 10, size)
    if program.one_hot:
        labels_B = keras.utils.to_categorical(labels_B, 10)
    model.fit(noise_BHWC, labels_B, program.batch_size, epochs=1, verbose=0)
    if int(model.optimizer.iterations.numpy()) != 2:
        raise RuntimeError("the warm-up did not take two steps")
    for variable, value in zip(variables, before, strict=True):
        variable.assign(value)
    after = [variable.numpy() for variable in (*model.variables, *model.optimizer.variables)]
    same = len(before) == len(after) and all(map(np.array_equal, before, after))
    if not same or model.optimizer.iterations.numpy() != 0:
        raise RuntimeError("the warm-up changed the model or its optimiser")
    return time.time() - started


def top1(model: Any, images_BHWC: Images, labels_B: Labels) -> float:
    """The fraction of images whose largest output belongs to their label."""
    outputs_BK = model.predict(images_BHWC, batch_size=1000, verbose=0)
    return float(np.mean(outputs_BK.argmax(axis=1) == labels_B))


def keras_cnn(images_BHWC: Images) -> Any:
    """The keras.io "Simple MNIST convnet": two convolutions, dropout, softmax; Adam; 34,826 parameters.

    Rebuilt from keras-team/keras-io `examples/vision/mnist_convnet.py` at commit 02cfe80.
    """
    pixels = x = keras.Input(images_BHWC.shape[1:])
    for channels in (32, 64):
        x = layers.Conv2D(channels, 3, activation="relu")(x)
        x = layers.MaxPooling2D(2)(x)
    x = layers.Dropout(0.5)(layers.Flatten()(x))
    model = keras.Model(pixels, layers.Dense(10, activation="softmax")(x))
    model.compile(keras.optimizers.Adam(1e-3), loss="categorical_crossentropy", metrics=["accuracy"])
    return model


def seed_best(images_BHWC: Images, stock: bool = False) -> Any:
    """The best run of the page "Visual transformer and the MNIST dataset": 16 blocks of width 96 on four patches.

    5,896,234 parameters. Where the page's text is incomplete, this follows the program that the page modifies,
    keras-team/keras-io `examples/vision/image_classification_with_vision_transformer.py` at commit ef4cd45. That
    program's optimiser subtracted 1e-4 of every weight at each step; Keras 3 multiplies the decay by the learning rate,
    hence 0.1 here.

    ``stock`` keeps attention as that program writes it; otherwise ``attention`` halves Keras' time.
    """
    pixels = keras.Input(images_BHWC.shape[1:])
    normalization = layers.Normalization()
    normalization.adapt(images_BHWC)
    x = normalization(pixels)
    x = layers.RandomRotation(0.02)(x)
    x = layers.RandomZoom(0.2, 0.2)(x)
    x = AddPositions()(layers.Dense(96)(patches(x, 14)))
    for _ in range(16):
        x = block(x, dim=96, heads=4, stock=stock)
    x = layers.Flatten()(layers.LayerNormalization(epsilon=1e-6)(x))
    x = dense(layers.Dropout(0.5)(x), [2048, 1024], dropout=0.5)
    model = keras.Model(pixels, layers.Dense(10)(x))
    model.compile(
        keras.optimizers.AdamW(1e-3, weight_decay=0.1),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["sparse_categorical_accuracy", keras.metrics.SparseTopKCategoricalAccuracy(5)],
    )
    return model


def patches(x_BHWC: Any, size: int) -> Any:
    """Square patches row by row, each flattened: [B, N, P], a copy. The patch size must divide the image."""
    _, height, width, channels = x_BHWC.shape
    rows, columns = height // size, width // size
    x = layers.Reshape((rows, size, columns, size, channels))(x_BHWC)
    x = layers.Permute((1, 3, 2, 4, 5))(x)
    return layers.Reshape((rows * columns, size * size * channels))(x)


class AddPositions(layers.Layer):  # type: ignore[misc]
    """Adds a learned vector to each token, initialised like Keras' embeddings: uniform within +-0.05."""

    def build(self, shape_BND: tuple[int | None, ...]) -> None:
        """Create the vectors, [N, D]."""
        self.positions_ND = self.add_weight(shape=shape_BND[1:], initializer="uniform", name="positions")

    def call(self, x_BND: Any) -> Any:
        """Shape in, shape out: [B, N, D]."""
        return x_BND + self.positions_ND


def block(x_BND: Any, dim: int, heads: int, stock: bool) -> Any:
    """A pre-norm block. Each head is as wide as the whole vector; both dense layers end in a GELU."""
    normed = layers.LayerNormalization(epsilon=1e-6)(x_BND)
    if stock:
        attended = layers.MultiHeadAttention(heads, dim, dropout=0.1)(normed, normed)
    else:
        attended = attention(normed, dim, heads)
    x_BND = layers.Add()([attended, x_BND])
    normed = layers.LayerNormalization(epsilon=1e-6)(x_BND)
    return layers.Add()([dense(normed, [2 * dim, dim], dropout=0.1), x_BND])


def attention(x_BND: Any, dim: int, heads: int) -> Any:
    """Keras' own attention layer, over the second axis of [B, 1, N, D]: the same weights and results as over [B, N, D].

    For [B, N, D] Keras 3.15 computes the gradient of each projection image by image and then sums over images, which
    doubles the time of the whole model; with one more axis it leaves the product to TensorFlow. The initial kernels,
    [D, heads, D] and [heads, D, D], are drawn as Keras drew them when the page was written, counting the first axis on
    both sides; Keras 3.15 would draw those of queries, keys and values 4.5 times as wide.
    """
    glorot = keras.initializers.GlorotUniform(input_axes=(0, 1), output_axes=(0, 2))
    attend = layers.MultiHeadAttention(heads, dim, dropout=0.1, attention_axes=2, kernel_initializer=glorot)
    x_B1ND = layers.Reshape((1, *x_BND.shape[1:]))(x_BND)
    return layers.Reshape(x_BND.shape[1:])(attend(x_B1ND, x_B1ND))


def dense(x: Any, widths: list[int], dropout: float) -> Any:
    """Dense layers, each followed by a GELU (exact, with erf) and dropout."""
    for width in widths:
        x = layers.Dense(width, activation=keras.activations.gelu)(x)
        x = layers.Dropout(dropout)(x)
    return x


def say(**values: Any) -> None:
    """Print one line of JSON."""
    print(json.dumps(values), flush=True)


PROGRAMS = {
    "keras-cnn": Program(keras_cnn, batch_size=128, one_hot=True),
    "seed-best": Program(seed_best, batch_size=2000, one_hot=False),
    "seed-best-stock": Program(partial(seed_best, stock=True), batch_size=2000, one_hot=False),
}

if __name__ == "__main__":
    main()
