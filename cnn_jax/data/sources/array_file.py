"""A NumPy .npz file of images and labels, for people with data of their own."""

import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from cnn_jax.config import Data
from cnn_jax.data.carving import carve_test
from cnn_jax.data.sources.image_file import shown
from cnn_jax.data.sources.memory import check_memory, choose_feed
from cnn_jax.data.spec import Dataset, Labels, Spec, Split, check_names, shape_text
from cnn_jax.errors import InputError

_CLASSES_TRUSTED = 1000  # so many classes a file may have by its largest label, however few images
# Keys of images and labels. One set is split; several are train, validation and test.
_ONE_SET = (("images", "labels"), ("x", "y"))
_SETS = {
    "train": (("train_images", "train_labels"), ("x_train", "y_train")),
    "validation": (
        ("validation_images", "validation_labels"),
        ("val_images", "val_labels"),
        ("x_val", "y_val"),
    ),
    "test": (("test_images", "test_labels"), ("x_test", "y_test")),
}
_PARTS = (["train", "test"], ["train", "validation", "test"])  # each once


def spec(data: Data) -> Spec:
    """Returns the file's facts: the shape by the headers of its arrays, the classes by its
    labels; no image is read.

    Raises:
      InputError: the file is not as `load` needs it.
    """
    return _File(data).spec


def load(data: Data, *, memory: int | None = None) -> Dataset:
    """Reads a .npz file: `images` and `labels`, of which `data.test_fraction` is set apart for
    testing, balanced over the classes; or `train_images`, `train_labels`, `test_images`,
    `test_labels` and, if there is, `validation_images`, `validation_labels` (`val_...`). Keras's
    names do as well: `x_train`, `y_train`, `x_test`, `y_test`.

    Images are uint8, (N, H, W) or (N, H, W, C). Labels are whole numbers from 0, (N,) or (N, 1); or
    for each class whether the image is of it, zeros and ones (N, classes), where images may be of
    any number of classes.
    `class_names` may name the classes; otherwise there are as many as the largest label says, but
    not over a thousand and more than images.

    Raises:
      InputError: the file isn't like that.
    """
    file = _File(data)
    sizes = [len(labels) for labels in file.labels.values()]
    check_memory(sum(sizes), file.spec.image_shape, str(file.path))  # also if it is streamed
    feed = choose_feed(data, sum(sizes), file.spec.image_shape, str(file.path), memory=memory)
    splits = {part: Split(file.images(part), labels) for part, labels in file.labels.items()}
    if "all" in splits:
        whole = splits["all"]
        # Of several labels an image, each combination counts as a class.
        _, kinds = np.unique(whole.labels, axis=0, return_inverse=True)
        is_test = carve_test(kinds.reshape(-1), data.test_fraction, str(file.path))
        splits = {"train": whole.only(~is_test), "test": whole.only(is_test)}
    return Dataset(file.spec, splits["train"], splits.get("validation"), splits["test"], feed=feed)


class _File:
    """A .npz file whose labels are read and checked, and whose images can be."""

    def __init__(self, data: Data):
        if not data.dir:
            raise InputError("data.name is npz; data.dir must say which file, FILE.npz")
        self.path = Path(data.dir).expanduser().absolute()
        if not self.path.is_file():
            raise InputError(f"data.dir: there is no file {self.path}")
        try:
            with zipfile.ZipFile(self.path) as archive:
                members = [name for name in archive.namelist() if name.endswith(".npy")]
                self.headers = {name[:-4]: _header(archive, name) for name in members}
        except Exception as error:  # each compression and each part of a header has its own kinds
            raise InputError(f"{self.path} is no whole .npz file ({error})") from error
        self.keys = self._keys()
        self.labels = {part: self._labels(part) for part in self.keys}
        shapes = {part: self._image_shape(part) for part in self.keys}
        if len(set(shapes.values())) > 1:
            found = ", ".join(f"{part} {shape_text(shape)}" for part, shape in shapes.items())
            raise InputError(f"{self.path}: the images of its sets differ in shape: {found}")
        several = self._multi_label()
        names, shape = self._class_names(several), next(iter(shapes.values()))
        self.spec = Spec(shown(self.path.stem), shape, names, multi_label=several)

    def images(self, part: str) -> UInt8[np.ndarray, "n h w c"]:
        """Returns the images of a part, with their channels."""
        images = self._read(self.keys[part][0])
        return np.ascontiguousarray(images.reshape(len(images), *self.spec.image_shape))

    def _read(self, key: str) -> np.ndarray:
        try:
            # Opened here, as np.load leaves a damaged file open.
            with open(self.path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
                return arrays[key]
        except Exception as error:  # each compression has its own kinds
            raise InputError(f"{self.path}: {key} can't be read ({error})") from error

    def _keys(self) -> dict[str, tuple[str, str]]:
        held = self.headers.keys()
        one = [pair for pair in _ONE_SET if set(pair) <= held]
        sets = [(part, pair) for part, of in _SETS.items() for pair in of if set(pair) & held]
        whole = all(set(pair) <= held for _, pair in sets)
        if not one and whole and [part for part, _ in sets] in _PARTS:
            return dict(sets)
        if len(one) == 1 and not sets:
            return {"all": one[0]}
        raise InputError(
            f"{self.path} holds {', '.join(self.headers) or 'nothing'}; it should hold images and "
            "labels, or train_images, train_labels, test_images and test_labels, and validation "
            "perhaps, each once"
        )

    def _labels(self, part: str) -> Labels:
        images, key = self.keys[part]
        shape, kind = self.headers[key]
        count = self.headers[images][0][:1]
        several = len(shape) == 2 and shape[1] > 1
        if kind.kind not in ("iub" if several else "iu"):
            raise InputError(
                f"{self.path}: {key} are {kind}; they must be whole numbers: labels.astype(int)"
            )
        sizes = [shape_text(each) or "()" for each in (shape, self.headers[images][0])]
        if not shape or shape[:1] != count or (shape[1:] not in ((), (1,)) and not several):
            raise InputError(
                f"{self.path}: {key} have shape {sizes[0]} and {images} {sizes[1]}; "
                "there must be a label for each image"
            )
        if not shape[0]:
            raise InputError(f"{self.path}: {images} holds no images")
        if several:
            return self._label_vectors(key)
        labels = self._read(key).reshape(-1)
        if labels.min() < 0 or labels.max() >= 2**31:
            worst = labels.min() if labels.min() < 0 else labels.max()
            raise InputError(f"{self.path}: {key} has a label {worst}; labels count from 0")
        return labels.astype(np.int32)

    def _label_vectors(self, key: str) -> UInt8[np.ndarray, "n classes"]:
        labels = self._read(key)
        if labels.min() < 0 or labels.max() > 1:
            worst = labels.min() if labels.min() < 0 else labels.max()
            raise InputError(
                f"{self.path}: {key} have shape {shape_text(labels.shape)}, a column for each "
                f"class, and hold {worst}; they must be 0 or 1"
            )
        return labels.astype(np.uint8)

    def _multi_label(self) -> bool:
        """Whether labels are vectors; those of all sets must be, and equally long."""
        widths = {labels.shape[1:] for labels in self.labels.values()}
        if len(widths) > 1:
            shapes = {part: shape_text(labels.shape) for part, labels in self.labels.items()}
            found = ", ".join(f"{part} {shape}" for part, shape in shapes.items())
            raise InputError(f"{self.path}: the labels of its sets differ in shape: {found}")
        several = widths != {()}
        if several and all((labels.sum(axis=1) == 1).all() for labels in self.labels.values()):
            key = next(iter(self.keys.values()))[1]
            raise InputError(
                f"{self.path}: {key} name one class an image, as one-hot labels do; they must be "
                "class numbers: labels.argmax(1)"
            )
        return several

    def _image_shape(self, part: str) -> tuple[int, int, int]:
        key = self.keys[part][0]
        shape, kind = self.headers[key]
        if kind != np.uint8:
            raise InputError(f"{self.path}: {key} are {kind}, not uint8; {self._advice(key)}")
        if len(shape) not in (3, 4) or 0 in shape:
            raise InputError(
                f"{self.path}: {key} have shape {shape_text(shape)}; it must be N x H x W or "
                "N x H x W x C"
            )
        if len(shape) == 4 and shape[1] in (1, 3, 4) and shape[2] == shape[3] > 4:
            raise InputError(
                f"{self.path}: {key} have shape {shape_text(shape)}, with channels first; they "
                "must come last: np.moveaxis(images, 1, -1)"
            )
        height, width, channels = (*shape[1:], 1)[:3]
        return height, width, channels

    def _advice(self, key: str) -> str:
        """Says how to make uint8 of what an array holds."""
        images = self._read(key)
        if images.dtype.kind not in "biuf" or not images.size:
            return "pixels must be whole numbers from 0 to 255"
        if images.dtype.kind == "f" and not np.isfinite(images).all():
            bad = images.size - np.isfinite(images).sum()
            return f"{bad} of its pixels are NaN or infinite; find out why before you convert them"
        low, high = images.min(), images.max()
        found = f"its pixels go from {low} to {high}"
        if images.dtype.kind == "b":
            return "save images.astype(np.uint8) * 255"
        if low >= 0 and high <= 1 and images.dtype.kind == "f":
            return f"{found}; save np.rint(images * 255).astype(np.uint8)"
        if low >= 0 and high <= 255:
            return f"{found}; save np.rint(images).astype(np.uint8)"
        return f"{found}; scale them to 0 to 255, round, and save as np.uint8"

    def _class_names(self, several: bool) -> tuple[str, ...]:
        tops = (labels.shape[1] - 1 if several else labels.max() for labels in self.labels.values())
        top = int(max(tops))
        if top == 0:
            raise InputError(f"{self.path} has one class only; at least two are needed")
        if "class_names" not in self.headers:
            count = sum(map(len, self.labels.values()))
            if not several and top >= max(_CLASSES_TRUSTED, count):
                raise InputError(
                    f"{self.path} has a label {top}, but {count} images; number the classes "
                    "0, 1, …: np.unique(labels, return_inverse=True)[1]"
                )
            return tuple(map(str, range(top + 1)))
        shape, kind = self.headers["class_names"]
        if kind.kind != "U" or len(shape) != 1:
            raise InputError(f"{self.path}: class_names must be a list of strings, not {kind}")
        names = tuple(self._read("class_names").tolist())
        check_names(names, self.path)
        name, times = Counter(names).most_common(1)[0] if names else ("", 1)
        if times > 1:
            raise InputError(
                f"{self.path}: class_names holds {name!r} {times} times; they must differ"
            )
        if not all(map(str.strip, names)):
            raise InputError(f"{self.path}: class_names holds a blank; each class must have a name")
        if several and top + 1 != len(names):
            raise InputError(
                f"{self.path} has {top + 1} columns of labels, but {len(names)} class_names"
            )
        if top >= len(names):
            raise InputError(
                f"{self.path} has a label {top}, but {len(names)} class_names; "
                f"labels must be 0 to {len(names) - 1}"
            )
        return names


def _header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Returns the shape and dtype of an array without reading it."""
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read is None:
            raise ValueError(f"{name} has the format {version}")
        shape, _, kind = read(file)
    return shape, kind
