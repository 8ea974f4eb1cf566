"""TFDS datasets by name, from prepared files into memory or left in them, without TensorFlow."""

import dataclasses
import itertools
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np

from cnn_jax.config import Data
from cnn_jax.data.cropping import usual_part
from cnn_jax.data.on_disk import ImagesOnDisk
from cnn_jax.data.sources import prepare
from cnn_jax.data.sources.cache import cache_dir, cache_path, read_cache, write_cache
from cnn_jax.data.sources.decode_all import in_threads, room_for
from cnn_jax.data.sources.image_file import strict_pillow
from cnn_jax.data.sources.memory import choose_feed
from cnn_jax.data.sources.quiet import silence, track
from cnn_jax.data.sources.records import Records, in_turn, is_random_access
from cnn_jax.data.sources.tfds_builder import (
    is_prepared,
    listed,
    one_line,
    open_builder,
    resolve_data_dir,
    spec_of,
)
from cnn_jax.data.spec import Dataset, Spec, Split, shape_text
from cnn_jax.errors import InputError

_CHUNK = 1000  # examples decoded at once


def spec(data: Data) -> Spec:
    """Returns what TFDS says of a dataset, prepared or not, at the size that is asked for."""
    return _sized(spec_of(open_builder(data.name, resolve_data_dir(data.dir))), data)


def load(data: Data, *, memory: int | None = None) -> Dataset:
    """Reads a TFDS dataset; see `cnn_jax.data.datasets.load_dataset`."""
    builder = open_prepared(data.name, resolve_data_dir(data.dir))
    facts = _sized(spec_of(builder), data)
    if None in facts.image_shape:
        raise InputError(
            f"{data.name} has images of differing sizes, {shape_text(facts.image_shape)}; "
            "set data.image_size, to which they are scaled and cropped"
        )
    names = _split_names(builder, data)
    images = sum(builder.info.splits[split].num_examples for split in names.values())
    feed = choose_feed(data, images, facts.image_shape, data.name, memory=memory)
    if feed == "streaming" and not is_random_access(builder):
        home = shlex.quote(str(builder.data_dir))
        raise InputError(
            f"{data.name} is to be streamed, but is prepared as TFRecord, which can't be read in "
            f"any order; convert it with: tfds convert_format --dataset_version_dir={home} "
            "--out_file_format=array_record"
        )
    splits = {part: _read_split(builder, split, facts, data, feed) for part, split in names.items()}
    return Dataset(facts, splits["train"], splits.get("validation"), splits["test"], feed=feed)


def open_prepared(name: str, data_dir: Path) -> Any:
    """Returns the builder of a dataset that is prepared, or is now, else raises InputError."""
    from cnn_jax.data.sources import digits

    builder = open_builder(name, data_dir)
    spec_of(builder)  # before preparing what could not be used
    if builder.name == "digits":
        with silence():
            place = digits.prepare_in_first([data_dir, cache_dir() / "tfds"])
        return open_builder(name, place)
    if not is_prepared(builder):
        prepare.prepare_by_itself(builder)
        builder = open_builder(name, data_dir)
    return builder


def _sized(facts: Spec, data: Data) -> Spec:
    size, channels = data.image_size, facts.image_shape[2]
    return dataclasses.replace(facts, image_shape=(size, size, channels)) if size else facts


def _split_names(builder: Any, data: Data) -> dict[str, str]:
    """Returns which split or expression is train, which test and which, if any, validation."""
    splits = builder.info.splits
    default_test = "test" if "test" in splits else "validation"
    names = {
        "train": data.train_split or "train",
        "validation": data.validation_split,
        "test": data.test_split or default_test,
    }
    for part, needed in ("train", "train"), ("test", "test or validation"):
        if not getattr(data, f"{part}_split") and names[part] not in splits:
            raise InputError(f"{data.name} has no {needed} split; it has {listed(splits)}")
    names = {part: name for part, name in names.items() if name}
    _check_apart(builder, {part: _examples_of(builder, part, name) for part, name in names.items()})
    return names


def _examples_of(builder: Any, part: str, name: str) -> list[tuple[str, int, int]]:
    """Returns the examples of a split or an expression: file, first and end of each piece."""
    splits = builder.info.splits
    try:
        pieces = splits[name].file_instructions
    except Exception as error:  # of many kinds
        raise InputError(
            f"data.{part}_split is '{name}', which {builder.info.name} doesn't have; it has "
            f"{listed(splits)}, of which a part is train[:90%] and two are train+test"
        ) from error
    if not sum(piece.take for piece in pieces):
        raise InputError(f"the {name} split of {builder.info.name} holds no examples")
    return [(piece.filename, piece.skip, piece.skip + piece.take) for piece in pieces]


def _check_apart(builder: Any, examples: dict[str, list[tuple[str, int, int]]]) -> None:
    """Raises InputError where an example would be used twice."""
    pieces = sorted((*piece, part) for part, found in examples.items() for piece in found)
    for (file, _, end, part), (other_file, start, other_end, other) in itertools.pairwise(pieces):
        if file == other_file and start < end:
            twice = f"both in {part} and in {other}" if part != other else f"twice in {part}"
            raise InputError(
                f"data.*_split: {min(end, other_end) - start:,} examples of {builder.info.name} "
                f"would be {twice}; splits must not overlap"
            )


def _read_split(builder: Any, split: str, facts: Spec, data: Data, feed: str) -> Split:
    """Returns a split, in memory or on disk; from the cache, or decoded and put into the cache.

    Also of what stays on disk each image is decoded once, ever: its label is checked and a damaged
    one is found before training starts.
    """
    where = f"the {split} split of {facts.name} in {builder.data_dir}"
    info = builder.info.splits[split]
    missing = [path.name for path in info.filepaths if not path.exists()]
    if missing:
        raise InputError(f"{where} is only half there: {listed(missing)} is missing")
    path = _cache_path(builder, split, data, feed)
    cached = read_cache(path) or {}
    kept, labels = cached.get("images"), cached.get("labels")
    wanted, _ = room_for(0, facts.image_shape, feed)
    if not _fits(kept, labels, (info.num_examples, *wanted.shape[1:]), wanted.dtype):
        kept, labels = _decode(builder, split, facts, data, feed, where)
        if builder.name != "digits":  # so few that a cache would gain nothing
            write_cache(path, images=kept, labels=labels)
    if feed == "resident":
        return Split(kept, labels)
    read = Records(builder, split, **_framing(data), what=where)
    numbers = np.arange(len(labels), dtype=np.int64)
    return Split(ImagesOnDisk(read, numbers, facts.image_shape, kept), labels)


def _cache_path(builder: Any, split: str, data: Data, feed: str) -> Path:
    """Names the cache file after the dataset, its version and the very files it is prepared in."""
    home = Path(builder.data_dir).resolve()
    files = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(home.iterdir())]
    part = re.sub(r"\W+", "_", split)
    identity = (split, data.image_size, data.center_crop, feed, str(home), files)
    return cache_path(builder.info.full_name, part, *identity)


def _fits(kept: Any, labels: Any, shape: tuple[int, ...], dtype: np.dtype) -> bool:
    if kept is None or labels is None:
        return False
    shapes = kept.shape == shape and labels.shape == shape[:1]
    return shapes and kept.dtype == dtype and labels.dtype == np.int32


def _decode(
    builder: Any, split: str, facts: Spec, data: Data, feed: str, where: str
) -> tuple[np.ndarray, np.ndarray]:
    """Decodes all examples and checks them against the spec; returns what is kept, and labels."""
    count = builder.info.splits[split].num_examples
    rows, keep = room_for(count, facts.image_shape, feed)
    labels = np.empty(count, np.int64)
    at_random = is_random_access(builder)
    if at_random:
        read = Records(builder, split, **_framing(data), what=where).examples
    else:
        read = in_turn(builder, split, **_framing(data))

    def decode(start: int) -> None:
        stop = min(start + _CHUNK, count)
        try:
            images, found = zip(*read(range(start, stop)), strict=True)
            pixels = np.stack(images)
        # A damaged file shows as whatever array_record, protobuf or Pillow make of it.
        except Exception as error:
            raise InputError(
                f"{where} can't be read (examples {start} to {stop - 1}): {one_line(error)}"
            ) from error
        _check_pixels(pixels, facts, where)
        rows[start:stop], labels[start:stop] = keep(pixels), found

    starts = range(0, count, _CHUNK)
    name = f"decoding {facts.name} {split}"
    with strict_pillow():
        done = in_threads(decode, starts, threads=0 if at_random else 1)
        list(track(done, name, total=len(starts), hidden=len(starts) < 5))
    if labels.min() < 0 or labels.max() >= facts.num_classes:
        raise InputError(
            f"{where} has labels from {labels.min()} to {labels.max()}; "
            f"they must be 0 to {facts.num_classes - 1}"
        )
    return rows, labels.astype(np.int32)


def _framing(data: Data) -> dict[str, Any]:
    return {"size": data.image_size, "part": usual_part(data)}


def _check_pixels(pixels: np.ndarray, facts: Spec, where: str) -> None:
    if pixels.dtype != np.uint8 or pixels.shape[1:] != facts.image_shape:
        raise InputError(
            f"{where} has {pixels.dtype} images of shape {shape_text(pixels.shape[1:])}; "
            f"its description says uint8 of {shape_text(facts.image_shape)}"
        )
