"""Trains a network on MNIST as Keras's tutorials do, and says how well it does on the test split.

    python -m experiments.contenders.keras_published --data=FILE.npz [--network=mnist_convnet]
        [--epochs=5] [--seed=0]

RMSprop with Keras's defaults, cross-entropy, batches of 128: the published recipe. FILE holds
`x_train`, `y_train`, `x_test` and `y_test`, as Keras's own mnist.npz does. Nothing of this project
is imported, so that its start costs nothing here. Prints a JSON object.
"""

import argparse
import json

import keras
import numpy as np
from keras import layers


def _convnet() -> list[keras.Layer]:
    return [
        layers.Conv2D(16, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(32, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(64, 3, activation="relu"),
        layers.Flatten(),
        layers.Dense(64, activation="relu"),
    ]


def _lenot() -> list[keras.Layer]:
    return [
        layers.ZeroPadding2D(2),
        layers.Conv2D(6, 5, activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(16, 5, activation="relu"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dense(120, activation="relu"),
        layers.Dense(84, activation="relu"),
    ]


NETWORKS = {"mnist_convnet": _convnet, "lenot_mnist": _lenot}


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--network", default="mnist_convnet", choices=NETWORKS)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    keras.utils.set_random_seed(given.seed)  # before the layers are made, which draw from it
    data = np.load(given.data)
    x_train, x_test = (data[name].astype("float32") / 255 for name in ("x_train", "x_test"))
    parts = [layers.Input(x_train.shape[1:]), *NETWORKS[given.network]()]
    model = keras.Sequential([*parts, layers.Dense(10, activation="softmax")])
    model.compile("rmsprop", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x_train, data["y_train"], epochs=given.epochs, batch_size=128, verbose=0)
    _, accuracy = model.evaluate(x_test, data["y_test"], verbose=0)
    print(json.dumps({"test_accuracy": accuracy, "parameters": model.count_params()}))


if __name__ == "__main__":
    main()
