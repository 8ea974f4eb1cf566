"""From a dataset's name to its facts, and to its examples in host memory."""

import dataclasses
from types import ModuleType

from cnn_jax.config import Data
from cnn_jax.data.carving import carve_validation
from cnn_jax.data.sources import array_file, image_folder, synthetic, tfds_source
from cnn_jax.data.sources.memory import available_memory
from cnn_jax.data.spec import Dataset, Spec
from cnn_jax.errors import InputError

# Each has spec(data) and load(data, memory=...). Any other name is TFDS's.
SOURCES = {"image_folder": image_folder, "npz": array_file, "synthetic": synthetic}

# Fields that some sources alone take: to set them for another is a mistake, not a no-op.
_FIELDS = {
    "dir": ("tfds", "image_folder", "npz"),
    "train_split": ("tfds",),
    "validation_split": ("tfds",),
    "test_split": ("tfds",),
    "test_fraction": ("image_folder", "npz"),
    "image_size": ("tfds", "image_folder"),
    "center_crop": ("tfds", "image_folder"),
    "crop_files": ("tfds", "image_folder"),
    "channels": ("image_folder",),
    "class_names": ("image_folder",),
    "on_bad_example": ("image_folder",),
    "synthetic": ("synthetic",),
}


def dataset_spec(data: Data) -> Spec:
    """Returns what is known of a dataset without decoding it; a TFDS one need not be prepared.

    Where a TFDS dataset is prepared (see `load_dataset`) the facts are those of the prepared copy.

    Raises:
      InputError: the name is unknown, the dataset is not image classification, or a folder or a
        file isn't what it should be.

    >>> spec = dataset_spec(Data(name="fashion_mnist"))
    >>> spec.image_shape, spec.num_classes, spec.class_names[-1]
    ((28, 28, 1), 10, 'Ankle boot')
    """
    return _source(data).spec(data)


def load_dataset(data: Data, *, memory: int | None = None) -> Dataset:
    """Opens a dataset: `data.name` says from where, `data.dir` from which place.

    - "image_folder": `data.dir` is a folder of train/CLASS/* and test/CLASS/* (and validation or
      val), or of CLASS/*, of which `data.test_fraction` is set apart for testing, the same files
      always and balanced over the classes. Classes are numbered by name. Every image is scaled
      to `data.image_size` at its shorter side and cropped, or all are of one size.
    - "npz": `data.dir` is a NumPy file of uint8 images and integer labels, see `array_file.load`.
    - "synthetic": made up as `data.synthetic` says, for benchmarks and smoke tests.
    - any other name is TFDS's: "cifar10", "cifar10:3.0.2", "emnist/letters". It is looked for in
      `data.dir`, else TFDS_DATA_DIR, else ~/tensorflow_datasets, and prepared there where it
      isn't and that can be done at once; "digits" needs no network (and is prepared in the cache
      directory where the place can't be written). Splits are TFDS's expressions, by default
      "train" and "test", or where there is no test (as in ImageNet) "validation" in its place.

    Validation is what the source has for it, otherwise `data.validation_fraction` of train: a
    random choice that depends on nothing but the number of training examples; both parts keep
    their order; 0 carves none. TFDS's own validation is used if `data.validation_split` names it.

    Images are read into memory, or left on disk and decoded whenever they are asked for, as
    `data.feed` says; "auto" goes by `memory`, the bytes there are (by default those of the host),
    of which images may take at most `RESIDENT_SHARE`. Those left on disk are decoded once all the
    same, the first time ever: damaged ones are found, labels checked, normalisation constants
    exact. Those of npz and synthetic are always in memory, and streamed from there.

    Raises:
      InputError: the data is not there, damaged or of a kind that doesn't fit; or it doesn't fit
        into memory; or the fields contradict each other.
    """
    dataset = _source(data).load(data, memory=memory or available_memory())
    if dataset.validation is not None:
        return dataset
    train, validation = carve_validation(dataset.train, data.validation_fraction)
    return dataclasses.replace(dataset, train=train, validation=validation)


def _source(data: Data) -> ModuleType:
    kind = data.name if data.name in SOURCES else "tfds"
    defaults = {field: getattr(Data(), field) for field in _FIELDS}
    foreign = [
        field
        for field, kinds in _FIELDS.items()
        if kind not in kinds and getattr(data, field) != defaults[field]
    ]
    if foreign:
        takers = dict.fromkeys(each for field in foreign for each in _FIELDS[field])
        kinds = ", ".join("TFDS datasets" if each == "tfds" else each for each in takers)
        plain = [field for field in foreign if isinstance(defaults[field], str | int | float)]
        unset = " ".join(f"--config.data.{field}={defaults[field]}" for field in plain)
        raise InputError(
            f"data.name={data.name} has no use for data.{', data.'.join(foreign)}; "
            f"only {kinds} have" + (f". Unset: {unset}" if unset else "")
        )
    return SOURCES.get(data.name, tfds_source)
