"""A folder of image files: DIR/{train,test}/CLASS/*, or DIR/CLASS/* split by a fixed rule."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Int32, Int64, UInt8

from cnn_jax.config import Data
from cnn_jax.data.carving import carve_test
from cnn_jax.data.cropping import Part, usual_part
from cnn_jax.data.on_disk import ImagesOnDisk
from cnn_jax.data.sources.cache import cache_path, read_cache, write_cache
from cnn_jax.data.sources.decode_all import in_threads, room_for
from cnn_jax.data.sources.image_file import (
    BadImage,
    UnreadFile,
    decode_image,
    image_size,
    read_bytes,
    shown,
    strict_pillow,
)
from cnn_jax.data.sources.memory import choose_feed
from cnn_jax.data.sources.quiet import say, track
from cnn_jax.data.spec import Dataset, Spec, Split, check_names, shape_text
from cnn_jax.errors import InputError

EXTENSIONS = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
_PARTS = {"train": ("train",), "validation": ("validation", "val", "valid"), "test": ("test",)}


class _Files(NamedTuple):
    """The image files of one part of the folder, by their paths below it, and their labels."""

    paths: list[str]
    labels: Int32[np.ndarray, " n"]


class _Decoded(NamedTuple):
    """The readable files of a part, their content's hashes, and what was skipped and why."""

    paths: Int32[np.ndarray, " n"]  # indices into _Files.paths
    images: UInt8[np.ndarray, "n h w c"] | Int64[np.ndarray, "n two c"]  # or their sums, streamed
    labels: Int32[np.ndarray, " n"]
    hashes: UInt8[np.ndarray, "n 16"]
    skipped: tuple[str, ...]


def spec(data: Data) -> Spec:
    """Returns the folder's facts: its classes by their folders, the size of its images by
    `data.image_size` or else the header of the first that can be read.

    Without a folder they are what the config says they must be, if it says both; in either case
    classes are in the order of their names.

    Raises:
      InputError: the folder is not laid out as it should be, or no folder could have the classes.
    """
    if not data.dir and data.class_names and data.image_size:
        names = tuple(sorted(set(data.class_names)))
        if not 2 <= len(names) == len(data.class_names):
            raise InputError(
                f"data.class_names are {', '.join(data.class_names)}; they must be two or more "
                "different names"
            )
        return Spec("image_folder", (*[data.image_size] * 2, data.channels), names)
    root = _root(data)
    classes, parts = _scan(root)
    return _spec(root, classes, parts, data)


def load(data: Data, *, memory: int | None = None) -> Dataset:
    """Decodes a folder of images; see `cnn_jax.data.datasets.load_dataset`.

    Files that are equal byte for byte and lie both in train or validation and in test are
    counted on stderr: they make the test easier than it should be. Of what stays on disk each
    file is decoded once, ever, so that bad files are known before training starts.
    """
    root = _root(data)
    classes, parts = _scan(root)
    facts = _spec(root, classes, parts, data)
    count = sum(len(files.paths) for files in parts.values())
    feed = choose_feed(data, count, facts.image_shape, str(root), memory=memory)
    decoded = {part: _read(root, part, files, facts, data, feed) for part, files in parts.items()}
    skipped = tuple(line for each in decoded.values() for line in each.skipped)
    if skipped:
        say(f"warning: {len(skipped)} bad files of {root} are skipped, such as {skipped[0]}")
    for part, each in decoded.items():
        _check_classes(root, part, each, facts)
    if "all" in decoded:
        whole, files = decoded.pop("all"), parts.pop("all")
        is_test = carve_test(whole.labels, data.test_fraction, str(root))
        decoded = {"train": _select(whole, ~is_test), "test": _select(whole, is_test)}
        parts = {"train": files, "test": files}
    _warn_of_duplicates(root, parts, decoded)
    splits = {}
    for part, each in decoded.items():
        streamed = feed == "streaming"
        images = _on_disk(root, parts[part], each, facts, data) if streamed else each.images
        splits[part] = Split(images, each.labels)
    return Dataset(facts, splits["train"], splits.get("validation"), splits["test"], skipped, feed)


def _on_disk(root: Path, files: _Files, decoded: _Decoded, facts: Spec, data: Data) -> ImagesOnDisk:
    read = _Reader(root, files.paths, data.image_size, facts.image_shape, usual_part(data))
    return ImagesOnDisk(read, decoded.paths, facts.image_shape, decoded.images)


class _Reader(NamedTuple):
    """Decodes files by their numbers; it can be pickled, for worker processes."""

    root: Path
    paths: list[str]
    size: int
    shape: tuple[int, int, int]
    part: Part

    def __call__(
        self, numbers: Int[np.ndarray, " k"], parts: Sequence[Part] | None = None
    ) -> UInt8[np.ndarray, "k h w c"]:
        """Returns images, or of each another part than the usual one.

        Raises:
          InputError: a file has changed since all were checked.
        """
        names = [self.paths[number] for number in numbers]
        return np.stack(list(map(self._decode, names, parts or [self.part] * len(names))))

    def _decode(self, name: str, part: Part) -> UInt8[np.ndarray, "h w c"]:
        path = f"{self.root}/{name}"  # to make a Path takes a tenth of a small image's time
        try:
            content, channels = read_bytes(path), self.shape[2]
            pixels = decode_image(content, size=self.size, channels=channels, part=part)
        except BadImage as error:
            raise InputError(f"{path} {error}; it could be read when training began") from error
        if pixels.shape != self.shape:
            found, known = (shape_text(shape[:2]) for shape in (pixels.shape, self.shape))
            raise InputError(f"{path} is {found} now and was {known} when training began")
        return pixels


def _root(data: Data) -> Path:
    if not data.dir:
        raise InputError("data.name is image_folder; data.dir must say which folder")
    root = Path(data.dir).expanduser().absolute()
    if not root.is_dir():
        raise InputError(f"data.dir: there is no folder {root}")
    return root


def _scan(root: Path) -> tuple[list[str], dict[str, _Files]]:
    """Returns the classes, sorted by name, and the files of each part: "all" for one tree."""
    try:
        places = _places(root)
        first = places.get("all") or places["train"]
        classes = [folder.name for folder in _folders(first)]
        check_names(classes, first)
        if len(classes) < 2:
            raise InputError(
                f"{first} has {len(classes)} class folders; at least two are needed, "
                f"as in {first}/cats and {first}/dogs"
            )
        return classes, {part: _files(root, place, classes) for part, place in places.items()}
    except OSError as error:
        raise InputError(f"{error.filename} can't be read: {error.strerror}") from error


def _places(root: Path) -> dict[str, Path]:
    """Returns which folder holds which part. A folder train that holds no folders is a class."""
    if not (root / "train").is_dir() or not _folders(root / "train"):
        return {"all": root}
    found = {
        part: next((root / name for name in names if (root / name).is_dir()), None)
        for part, names in _PARTS.items()
    }
    if found["test"] is None:  # as with TFDS, what is there to evaluate on is the test
        found["test"], found["validation"] = found["validation"], None
    if found["test"] is None:
        raise InputError(
            f"{root} has a folder train but none called test or validation; "
            f"to have {root / 'train'} itself split, give that as data.dir"
        )
    return {part: place for part, place in found.items() if place}


def _folders(place: Path) -> list[Path]:
    return sorted(p for p in place.iterdir() if p.is_dir() and not p.name.startswith("."))


def _files(root: Path, place: Path, classes: list[str]) -> _Files:
    paths, labels = [], []
    for folder in _folders(place):
        if folder.name not in classes:
            raise InputError(f"{folder} is no class of train, which has {', '.join(classes)}")
        found = sorted(path.relative_to(root).as_posix() for path in image_paths(folder))
        if not found:
            raise InputError(
                f"{folder} holds no image ({', '.join(sorted(EXTENSIONS))}); "
                "delete the folder if it is no class"
            )
        paths += found
        labels += [classes.index(folder.name)] * len(found)
    if not paths:
        raise InputError(f"{place} holds no class folders; it should have those of train")
    return _Files(paths, np.array(labels, np.int32))


def image_paths(folder: Path) -> Iterator[Path]:
    """Yields the files that should be images by their names, at any depth, in any order.

    Links to folders are followed, but to those that hold `folder`; each folder is gone through
    once.

    Raises:
      OSError: a folder can't be read.
    """

    def refuse(error: OSError) -> None:
        raise error

    seen = set(map(str, Path(os.path.realpath(folder)).parents))
    waiting = [str(folder)]  # links come last, so that files keep the names they have without them
    for start in waiting:
        for place, below, names in os.walk(start, onerror=refuse):
            real = os.path.realpath(place)
            if real in seen:
                below.clear()
                continue
            seen.add(real)
            below[:] = sorted(name for name in below if not name.startswith("."))
            waiting += filter(os.path.islink, (os.path.join(place, name) for name in below))
            for name in names:
                if not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS:
                    yield Path(place, name)


def _spec(root: Path, classes: list[str], parts: dict[str, _Files], data: Data) -> Spec:
    if data.class_names and sorted(data.class_names) != classes:
        wanted, found = ", ".join(sorted(data.class_names)), ", ".join(classes)
        raise InputError(f"{root} has the classes {found}; data.class_names wants {wanted}")
    if data.image_size:
        height = width = data.image_size
    else:
        files = next(iter(parts.values()))
        height, width = _first_size(root, files.paths, skip=data.on_bad_example == "skip")
    return Spec(shown(root.name), (height, width, data.channels), tuple(classes))


def _first_size(root: Path, paths: list[str], *, skip: bool) -> tuple[int, int]:
    with strict_pillow():
        for path in paths:
            try:
                return image_size(read_bytes(root / path))
            except BadImage as error:
                if not skip:
                    raise _refusal(root / path, error) from error
    raise InputError(f"{root}: none of its {len(paths)} image files can be read")


def _refusal(path: Path, reason: object) -> InputError:
    return InputError(
        f"{path} {reason}; repair or delete it, or set data.on_bad_example=skip to go on without it"
    )


def _read(root: Path, part: str, files: _Files, facts: Spec, data: Data, feed: str) -> _Decoded:
    """Returns a part from the cache, or decoded and then put into the cache.

    Not if a file could not be read: whether it can be another time its version doesn't tell.
    """
    identity = [(path, *_version(root / path)) for path in files.paths]
    options = (facts.image_shape, facts.class_names, data.image_size, data.center_crop)
    options += (data.on_bad_example, feed)
    path = cache_path(f"image_folder/{root.name}", part, str(root), options, identity)
    cached = read_cache(path)
    if cached is not None and cached.keys() == set(_Decoded._fields):
        return _Decoded(**cached | {"skipped": tuple(cached["skipped"].tolist())})
    decoded, unread = _decode(root, part, files, facts, data, feed)
    if not unread:
        write_cache(path, **decoded._asdict() | {"skipped": np.array(decoded.skipped, str)})
    return decoded


def _version(path: Path) -> tuple[int, ...]:
    """Returns a file's size and time; nothing of one that can't be read, such as a broken link."""
    try:
        stat = path.stat()
    except OSError:
        return ()
    return stat.st_size, stat.st_mtime_ns


def _decode(
    root: Path, part: str, files: _Files, facts: Spec, data: Data, feed: str
) -> tuple[_Decoded, int]:
    """Returns a part, and how many of its files could not be read at all."""
    count, unread = len(files.paths), []
    images, keep = room_for(count, facts.image_shape, feed)
    hashes = np.empty((count, 16), np.uint8)
    size, center = data.image_size, usual_part(data)

    def decode(index: int) -> str:
        """Fills a row; returns what is wrong with the file, or nothing."""
        path = root / files.paths[index]
        try:
            content = read_bytes(path)
            pixels = decode_image(content, size=size, channels=data.channels, part=center)
        except BadImage as error:
            if data.on_bad_example != "skip":
                raise _refusal(path, error) from error
            if isinstance(error, UnreadFile):
                unread.append(index)
            return f"{shown(files.paths[index])} {error}"
        if pixels.shape != facts.image_shape:
            raise InputError(_other_size(path, pixels.shape, facts))
        images[index] = keep(pixels[None])[0]
        hashes[index] = np.frombuffer(hashlib.sha256(content).digest()[:16], np.uint8)
        return ""

    with strict_pillow():
        outcomes = track(
            in_threads(decode, range(count)),
            f"decoding {facts.name} {part}",
            total=count,
            hidden=count < 5000,
        )
        problems = list(outcomes)
    good = np.array([not problem for problem in problems], bool)
    rows = np.flatnonzero(good).astype(np.int32)
    skipped = tuple(filter(None, problems))
    if skipped:
        images, hashes = images[good], hashes[good]
    return _Decoded(rows, images, files.labels[good], hashes, skipped), len(unread)


def _other_size(path: Path, shape: tuple[int, ...], facts: Spec) -> str:
    height, width, _ = facts.image_shape
    return (
        f"{path} is {shape[0]} x {shape[1]}, but the first image is {height} x {width}; where "
        "sizes are mixed set data.image_size, to which images are scaled and cropped"
    )


def _check_classes(root: Path, part: str, decoded: _Decoded, facts: Spec) -> None:
    """Raises InputError where skipping has left a class of train, or all of test, empty."""
    present = np.bincount(decoded.labels, minlength=facts.num_classes) > 0
    needed = present if part in ("train", "all") else present.any(keepdims=True)
    if not needed.all():
        name = facts.class_names[int(np.argmin(present))]
        raise InputError(f"{root}: no image of class {name} ({part}) can be read")


def _select(decoded: _Decoded, chosen: Bool[np.ndarray, " n"]) -> _Decoded:
    return _Decoded(*(array[chosen] for array in decoded[:4]), decoded.skipped)


def _warn_of_duplicates(root: Path, parts: dict[str, _Files], decoded: dict[str, _Decoded]) -> None:
    seen = dict(_by_hash(parts, decoded, [part for part in decoded if part != "test"]))
    pairs = [(seen[key], path) for key, path in _by_hash(parts, decoded, ["test"]) if key in seen]
    if pairs:
        say(
            f"warning: {len(pairs)} test files of {root} are also among the training files, byte "
            f"for byte, such as {pairs[0][1]} ({pairs[0][0]}); they flatter the test accuracy"
        )


def _by_hash(
    parts: dict[str, _Files], decoded: dict[str, _Decoded], wanted: Iterable[str]
) -> Iterator[tuple[bytes, str]]:
    for part in wanted:
        for row, key in zip(decoded[part].paths, decoded[part].hashes, strict=True):
            yield key.tobytes(), parts[part].paths[row]
