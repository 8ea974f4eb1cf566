"""TFDS's builder of a dataset by name: what it says, and whether its data is there.

Whatever TFDS raises for wrong input becomes an InputError of one line.
"""

import difflib
import os
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np

from cnn_jax.data.sources.quiet import silence
from cnn_jax.data.spec import Spec, shape_text
from cnn_jax.errors import InputError

_NAME = re.compile(
    r"(?P<dataset>[a-zA-Z_]\w*)(/(?P<config>[\w+.\-]+))?(:(\d+|\*)(\.(\d+|\*)){2})?", re.ASCII
)
_FORMATS = ("array_record", "tfrecord")


def resolve_data_dir(data_dir: str | os.PathLike | None = None) -> Path:
    """Returns `data_dir`, else TFDS_DATA_DIR, else ~/tensorflow_datasets, as an absolute path."""
    chosen = os.fspath(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    if "://" in chosen:
        raise InputError(f"data directory {chosen} is a URL; it must be a local directory")
    return Path(chosen).expanduser().absolute()


def open_builder(name: str, data_dir: Path, **options: Any) -> Any:
    """Returns TFDS's builder of the name, whether prepared in `data_dir` or not.

    Raises:
      InputError: there is no dataset, config or version of that name, or it can't be opened.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise InputError(f"{name!r} is no dataset name; cifar10, cifar10:3.0.2, emnist/letters are")
    # Here and not at the top: the import takes 0.4 s, which a user of the layers alone or of
    # --help should not wait for. The second registers digits.
    import tensorflow_datasets as tfds

    from cnn_jax.data.sources import digits  # noqa: F401

    try:
        with silence():
            return tfds.builder(name, data_dir=data_dir, **options)
    except tfds.core.DatasetNotFoundError as error:
        known = ["image_folder", "npz", "synthetic"]
        known += tfds.list_builders(with_community_datasets=False)
        near = difflib.get_close_matches(match["dataset"].lower(), known) or ["digits", "cifar10"]
        raise InputError(
            f"dataset {name} is not known, nor prepared in {data_dir}; known are among others "
            f"{listed(near)}"
        ) from error
    except ModuleNotFoundError as error:
        raise InputError(
            f"{name} is not prepared in {data_dir}, and TFDS can't describe it "
            f"({one_line(error)}): pip install 'cnn_jax[prepare]'"
        ) from error
    # TFDS answers a wrong version or config and damaged files with almost any exception.
    except Exception as error:
        reason = one_line(error)
        if "BuilderConfig" in reason:
            configs = tfds.builder_cls(match["dataset"]).builder_configs
            reason = f"it has no config {match['config']}; its configs: {listed(configs)}"
        raise InputError(f"{name} can't be opened in {data_dir}: {reason}") from error


def spec_of(builder: Any) -> Spec:
    """Returns the facts that a builder tells; those of the prepared copy where there is one.

    Raises:
      InputError: it is not classification of 8-bit images.
    """
    import tensorflow_datasets as tfds

    info, features = builder.info, builder.info.features
    name = "/".join(filter(None, [info.name, info.config_name]))
    named = dict(features.items()) if isinstance(features, tfds.features.FeaturesDict) else {}
    image, label = named.get("image"), named.get("label")
    # Not any subclass of Tensor: a text and a class are among them.
    is_image = isinstance(image, tfds.features.Image) or type(image) is tfds.features.Tensor
    if not is_image or not isinstance(label, tfds.features.ClassLabel):
        raise InputError(
            f"{name} is not image classification: it needs an image called image and a class "
            f"called label, and has {listed(named)}"
        )
    if image.np_dtype != np.uint8 or len(image.shape) != 3 or image.shape[-1] is None:
        raise InputError(
            f"{name} has {image.np_dtype} images of shape {shape_text(image.shape)}; "
            "they must be uint8 of shape height x width x channels"
        )
    if label.num_classes is None:
        raise InputError(f"{name} doesn't say which classes it has before it is prepared")
    return Spec(name, tuple(image.shape), tuple(label.names))


def is_prepared(builder: Any) -> bool:
    """Tells whether the data is there, whole and in a format that can be read.

    Raises:
      InputError: what is there is half prepared or of another format.
    """
    home = Path(builder.data_dir)
    name = name_of(builder)
    if not (home / "dataset_info.json").is_file():
        if home.exists() or any(home.parent.glob(f"incomplete.*_{home.name}")):
            raise InputError(
                f"{name} is only half prepared in {home} (no dataset_info.json, as an interrupted "
                f"preparation leaves it); delete what is there and run: {command(builder)}"
            )
        return False
    file_format = builder.info.file_format
    if file_format is None or file_format.value not in _FORMATS:
        raise InputError(
            f"{name} is prepared in {home} as {file_format and file_format.value}, but only "
            f"{' and '.join(_FORMATS)} can be read; convert it with: tfds convert_format "
            f"--dataset_version_dir={shlex.quote(str(home))} --out_file_format=array_record"
        )
    return True


def not_prepared(builder: Any, obstacle: str) -> InputError:
    """Returns the error for a dataset that isn't there: where it was looked for, what to run."""
    home = Path(builder.data_dir)
    name = name_of(builder)
    others = sorted(p.parent.name for p in home.parent.glob("*.*.*/dataset_info.json"))
    known = [f"{name}:{version}" for version in others]
    found = f" (there is {listed(known)})" if known else ""
    return InputError(
        f"{name} is not prepared: looked for {home}{found}, and can't be prepared now: {obstacle}; "
        f"run: {command(builder)}"
    )


def name_of(builder: Any) -> str:
    """Returns the builder's name with its config's, as on the command line."""
    return "/".join(filter(None, [builder.info.name, builder.info.config_name]))


def data_dir_of(builder: Any) -> Path:
    """Returns the data directory of all datasets in which the builder's lies."""
    return Path(builder.data_dir).parents[name_of(builder).count("/") + 1]


def command(builder: Any) -> str:
    """Returns the command that prepares a builder's dataset where it was looked for."""
    data_dir = data_dir_of(builder)
    here = data_dir == resolve_data_dir()
    place = "" if here else f" --data_dir={shlex.quote(str(data_dir))}"
    name, version = name_of(builder), str(builder.version)
    if version != str(builder.VERSION):
        name += f":{version}"
    return f"python -m experiments.prepare --dataset={name}{place}"


def listed(names: Any) -> str:
    """Returns names with commas between them, for a message."""
    return ", ".join(map(str, names)) or "none"


def one_line(error: BaseException) -> str:
    """Returns an exception's message in one line, without TFDS's preamble."""
    text = " ".join(str(error).split()) or type(error).__name__
    return re.sub(r"^Failed to construct dataset .*?}\": ", "", text)
