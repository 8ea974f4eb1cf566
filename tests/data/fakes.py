"""Tiny datasets in TFDS's own form, written without TensorFlow, so that tests need no real data."""

import contextlib
import io
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image


def prepare_fake(name, data_dir, *, train=40, test=20, validation=0, size=32):
    """Prepares a stock TFDS dataset, made-up images under its name, version and features.

    Each class has a random picture of its own, and its images are that picture with some noise:
    a network learns it within a few steps. Labels run in turn through the classes. An image
    height or width that the dataset leaves open becomes `size`. A split of 0 examples is left
    out. Returns the directory of the prepared version.
    """
    info = tfds.builder(name, data_dir=data_dir).info
    label, image = info.features["label"], info.features["image"]
    shape = tuple(size if n is None else n for n in image.shape)
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (label.num_classes, *shape))

    def examples(split, count):
        for index in range(count):
            number = index % label.num_classes
            drawn = (3 * pictures[number] + rng.integers(0, 256, shape)) // 4
            others = {k: _filler(f, f"{split}_{index:05}") for k, f in info.features.items()}
            yield {**others, "image": png(drawn.astype(np.uint8)), "label": number}

    counts = {"train": train, "validation": validation, "test": test}
    return write_dataset(
        info.name,
        data_dir,
        features=info.features,
        splits={split: list(examples(split, count)) for split, count in counts.items() if count},
        version=str(info.version),
        config=info.config_name,
    )


def prepare_imagenet(data_dir, *, train=12, validation=6, smallest=30, largest=90):
    """Prepares an imagenet2012 of noise: JPEG files whose sizes all differ, and no test split."""
    features = tfds.builder("imagenet2012", data_dir=data_dir).info.features
    rng = np.random.default_rng(0)

    def examples(split, count):
        for index in range(count):
            shape = (*rng.integers(smallest, largest, 2), 3)
            file = encoded(rng.integers(0, 256, shape, np.uint8), "JPEG")
            yield {"image": file, "label": 37 * index, "file_name": f"{split}_{index}.JPEG"}

    splits = {"train": list(examples("train", train))}
    splits["validation"] = list(examples("val", validation))
    return write_dataset(
        "imagenet2012", data_dir, features=features, splits=splits, version="5.1.0"
    )


def write_dataset(name, data_dir, *, features, splits, version="1.0.0", config=None):
    """Prepares any dataset: `splits` maps a split's name to its examples, dicts in the form that
    `features` (a tfds FeaturesDict) encodes. Returns the directory of the prepared version.
    """

    class Fake(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version(version)
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=config)] if config else []

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(split) for split in splits}

        def _generate_examples(self, split):
            yield from enumerate(splits[split])

    Fake.name = name
    builder = Fake(data_dir=data_dir, file_format="array_record")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        builder.download_and_prepare()
    return Path(builder.data_dir)


def png(image):
    """Returns a uint8 image (H, W, 1 or 3) as the bytes of a PNG file, opened for TFDS."""
    return encoded(image, "PNG")


def encoded(image, form):
    """Returns a uint8 image (H, W, 1 or 3) as the bytes of a file, opened for TFDS."""
    file = io.BytesIO()
    Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(file, format=form)
    file.seek(0)
    return file


def _filler(feature, key):
    return 0 if isinstance(feature, tfds.features.ClassLabel) else key
