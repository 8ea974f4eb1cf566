"""Draws what is inside a trained network, as PNG files in DIR/figures.

    python -m experiments.visualize --workdir=DIR [--what=WHAT,...] [--layer=PATTERN]
        [--image=FILE ...] [--class=NAME,...] [--checkpoint=best] [--data_dir=PLACE]

WHAT is any of
  feature_maps     what every layer makes of each image
  filters          the first kernels; for deeper layers the input that excites each channel most,
                   and the patches of the test split that do
  classes          images that make each class's output large
  attribution      saliency, SmoothGrad, integrated gradients, Grad-CAM and occlusion
  receptive_field  what units can see of the image, and what they do see
  deep_dream       the images redrawn by what layers see in them
and by default all of them. PATTERN is a regular expression that is looked for in the layers' names.
Images are those of the files, else the first of each of eight classes in the test split; without
data the pictures that need none are drawn. --steps, --learning_rate, --jitter, --blur,
--total_variation and --nospectrum say how the images of filters and classes are made.

    python -m experiments.visualize --what=kernels --image=FILE [--out=FILE]
    python -m experiments.visualize --config=NAME --what=augmentation [--out=FILE]

need no run: classic image kernels applied to an image; and originals beside several draws of every
augmentation that a config turns on.
"""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from absl import flags
from PIL import Image

from cnn_jax.analysis.activation_maximization import Recipe, recipe_for
from cnn_jax.analysis.augmentation import augmentation_sheet, file_crops, first_classes
from cnn_jax.config import Config
from cnn_jax.config_checks import validate
from cnn_jax.data.datasets import load_dataset
from cnn_jax.data.decoding import Decode, decoded_batches, find_images
from cnn_jax.data.order import epoch_order
from cnn_jax.data.sources.image_file import strict_pillow
from cnn_jax.data.sources.quiet import say
from cnn_jax.data.spec import Dataset, Split
from cnn_jax.errors import InputError, writing
from cnn_jax.training.predictor import Predictor, check_decodable, load_predictor
from cnn_jax.training.restore import check_classes
from experiments import command_line
from experiments.kernels_sheet import decode_for_kernels, kernels_sheet
from experiments.pictures import NEEDS_IMAGES, NEEDS_NONE, Picture, Subject

INSIDE = NEEDS_IMAGES | NEEDS_NONE
WHATS = [*INSIDE, "kernels", "augmentation"]

_CONFIG = command_line.define_config()
_WORKDIR = command_line.define_workdir()
_WHAT = flags.DEFINE_list("what", None, f"what to draw: {', '.join(WHATS)}")
_LAYER = flags.DEFINE_string("layer", None, "a regular expression; the layers to draw")
_IMAGE = flags.DEFINE_multi_string("image", [], "image files or folders; more may follow")
_CLASS = flags.DEFINE_list("class", [], "names or numbers of the classes to draw or explain")
_CHECKPOINT = command_line.define_checkpoint()
_DATA_DIR = command_line.define_data_dir()
_EXAMPLES = flags.DEFINE_integer("examples", 2000, "test images searched for patches", 1)
_SEED = flags.DEFINE_integer("seed", 0, "of the noise images are made from", 0, 2**32 - 1)
_OUT = flags.DEFINE_string("out", None, "the picture's file, without a run; default: NAME_WHAT.png")
_JITTER = "pixels by which images are shifted; unless given an eighth of the side at most"
_VARIATION = "its weight; unless given 0 for images below 32 pixels"
_RECIPE = (
    flags.DEFINE_integer("steps", Recipe.steps, "of ascent", 1),
    command_line.define_number("learning_rate", Recipe.learning_rate, "of ascent"),
    flags.DEFINE_bool("spectrum", Recipe.spectrum, "ascent by Fourier coefficients"),
    flags.DEFINE_integer("jitter", Recipe.jitter, _JITTER, 0, 2**30),
    command_line.define_number("blur", Recipe.blur, "sigma in pixels, after a step of ascent"),
    command_line.define_number("total_variation", Recipe.total_variation, _VARIATION),
)
# Which pictures an option has an effect on; without any of them it is refused.
_HEEDED_BY = {
    "config": ["augmentation"],
    "workdir": [*INSIDE, "kernels"],
    "layer": [what for what in INSIDE if what != "classes"],
    "class": ["classes", "attribution"],
    "image": [*NEEDS_IMAGES, "kernels"],
    "examples": ["filters"],
    "seed": [*NEEDS_NONE, "attribution", "deep_dream"],
    "checkpoint": [*INSIDE],
    "data_dir": [*INSIDE],
    **{each.name: [*NEEDS_NONE] for each in _RECIPE},
}


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    if not _IMAGE.value:
        command_line.refuse_arguments(argv)
    files = [*_IMAGE.value, *argv[1:]]
    whats = _whats()
    _refuse_unheeded(whats)
    if "augmentation" in whats:
        _draw_alone(whats, lambda: draw_augmentation(command_line.read_config(_CONFIG)))
    elif _WORKDIR.value is None and "kernels" in whats:
        problems: list[str] = []
        _draw_alone(whats, lambda: draw_kernels(files, problems))
        _tell(problems)
    else:
        _draw_run(command_line.read_workdir(_WORKDIR), whats, files)


def _whats() -> list[str]:
    """Returns what to draw: of a config its augmentation, of a run all there is inside."""
    given = _WHAT.value or (["augmentation"] if _CONFIG.present else list(INSIDE))
    return command_line.chosen("picture", given, WHATS)


def _refuse_unheeded(whats: list[str]) -> None:
    """Raises InputError for an option that has no effect on any of the pictures."""
    for option, heeding in _HEEDED_BY.items():
        if flags.FLAGS[option].present and not {*heeding} & {*whats}:
            raise InputError(
                f"--{option} has no effect on --what={','.join(whats)}; leave it out, or draw any "
                f"of {', '.join(heeding)}"
            )


def _draw_alone(whats: list[str], draw: Callable[[], Picture]) -> None:
    """Draws a picture that needs no run."""
    (what, *more) = whats
    if more:
        raise InputError(f"--what={what} is drawn by itself, not with {', '.join(more)}")
    name = f"{_CONFIG.value.name}_{what}" if _CONFIG.present else what
    picture = draw()
    _save(picture, Path(_OUT.value or f"{name}.png"))


def draw_augmentation(config: Config) -> Picture:
    """Returns the contact sheet of the first image that training meets of each of eight classes.

    Where there are fewer classes, the next images that training meets come after them.
    """
    validate(config)
    train = load_dataset(config.data).train
    order = epoch_order(config.seed, 0, len(train))
    classes = first_classes(train.labels)
    _, met = np.unique(classes[order], return_index=True)
    met = np.sort(met)
    first = order[np.concatenate([met, np.setdiff1d(np.arange(len(order)), met)])[:8]]
    shown = train.images[first], classes[first]
    crops = file_crops(config.data, train.images, first, seed=config.seed)
    return augmentation_sheet(config.data.augment, *shown, crops=crops, seed=config.seed)


def draw_kernels(files: Sequence[str], problems: list[str]) -> Picture:
    """Returns the sheet of image kernels; `problems` is given the files that can't be read."""
    if not files:
        raise InputError("--what=kernels needs an image: --image=FILE")
    images, names = _read(files, decode_for_kernels, problems)
    return kernels_sheet(images, names)


def _draw_run(workdir: Path, whats: list[str], files: list[str]) -> None:
    if _OUT.present:
        raise InputError(f"--out has no effect on pictures of a run, which go to {workdir}/figures")
    problems: list[str] = []
    predictor = load_predictor(workdir, which=_CHECKPOINT.value)
    predictor.config.data.dir = _DATA_DIR.value or predictor.config.data.dir
    subject, whats = _subject(predictor, whats, files, problems)
    figures = workdir / "figures"
    with writing(figures, InputError):
        figures.mkdir(exist_ok=True)
    for what in whats:
        if what == "kernels":
            pictures = {"image_kernels": draw_kernels(files, problems)}
        else:
            pictures = INSIDE[what](subject)
        for name, picture in pictures.items():
            _save(picture, figures / f"{name}.png")
    _tell(problems)


def _subject(
    predictor: Predictor, whats: list[str], files: list[str], problems: list[str]
) -> tuple[Subject, list[str]]:
    """Returns what is looked at, and what of it can be drawn with the data there is."""
    shape = predictor.spec.image_shape
    dataset, reason = _load(predictor)
    images, names = np.zeros((0, *shape), np.uint8), []
    if files:
        check_decodable(predictor.spec)
        images, names = _read(files, predictor.decode, problems)
    elif dataset is not None:
        images, names = _examples(dataset.test, predictor.spec.class_names)
    elif _WHAT.value and NEEDS_IMAGES.keys() & set(whats):
        raise InputError(f"{reason}; or give --image=FILE")
    else:
        drawn = " and ".join(NEEDS_NONE)
        say(f"only {drawn} are drawn without images: {reason}; or give --image=FILE")
        whats = [what for what in whats if what not in NEEDS_IMAGES]
    subject = Subject(
        predictor,
        np.stack(images) if len(images) else images,
        names,
        searched=dataset.test.images[: _EXAMPLES.value] if dataset and "filters" in whats else None,
        pattern=_LAYER.value,
        classes=[_class(each, predictor.spec.class_names) for each in _CLASS.value],
        recipe=recipe_for(shape, **{each.name: each.value for each in _RECIPE if each.present}),
        seed=_SEED.value,
    )
    return subject, whats


def _load(predictor: Predictor) -> tuple[Dataset | None, str]:
    """Returns the run's dataset, or None and why it can't be had."""
    try:
        dataset = load_dataset(predictor.config.data)
        check_classes(dataset.spec, predictor.spec)
        return dataset, ""
    except InputError as error:
        return None, str(error)


def _examples(split: Split, class_names: Sequence[str]) -> tuple[list[np.ndarray], list[str]]:
    """Returns the first example of each of eight classes, named by its class.

    Where an example may be of many classes they are the first eight, by number.
    """
    if split.labels.ndim == 2:
        return [*split.images[:8]], [f"test {i}" for i in range(len(split.images[:8]))]
    classes, first = (found[:8] for found in np.unique(split.labels, return_index=True))
    return [*split.images[first]], _distinct([class_names[label] for label in classes])


def _read(
    files: Sequence[str], decode: Decode, problems: list[str]
) -> tuple[list[np.ndarray], list[str]]:
    """Returns the images of those files that can be read, and their names."""
    images, names = [], []
    with strict_pillow():
        for batch in decoded_batches(find_images(files), decode, size=64):
            for each in batch:
                if each.pixels is None:
                    problems.append(f"{each.path} {each.problem}")
                else:
                    images.append(each.pixels)
                    names.append(each.path.stem)
    if not images:
        _tell(problems)
    return images, _distinct(names)


def _distinct(names: Sequence[str]) -> list[str]:
    """Returns the names as files may be called, numbered where they are equal.

    >>> _distinct(["cat", "a/b", "cat", "cat_2"])
    ['cat', 'a_b', 'cat_3', 'cat_2']
    """
    given = [name.replace("/", "_") for name in names]
    found: list[str] = []
    for name in given:
        others = (f"{name}_{i}" for i in itertools.count(2))
        free = (each for each in others if each not in given and each not in found)
        found.append(name if name not in found else next(free))
    return found


def _class(given: str, names: Sequence[str]) -> int:
    """Returns the number of a class that is given by its name or its number."""
    if given in names:
        return list(names).index(given)
    if given.isdecimal() and int(given) < len(names):
        return int(given)
    last = len(names) - 1
    raise InputError(
        f"there is no class '{given}'; they are 0 to {last}: {', '.join(names[:20])}"
        + (" ..." if len(names) > 20 else "")
    )


def _save(picture: Picture, path: Path) -> None:
    try:
        Image.fromarray(picture).save(path)
    except (OSError, ValueError) as error:  # a ValueError where the ending is no kind of picture
        raise InputError(f"{path} can't be written: {error}") from error
    say(f"wrote {path}")


def _tell(problems: list[str]) -> None:
    """Raises InputError if there were files that could not be read; the others are done by then."""
    if problems:
        first, *others = dict.fromkeys(problems)
        more = f", and {len(others)} more: {'; '.join(others)}" if others else ""
        raise InputError(f"{first}{more}")


if __name__ == "__main__":
    command_line.run(main)
