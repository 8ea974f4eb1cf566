"""A run's network with all that it takes to use it, and without the data it was trained on."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh
from jaxtyping import Array, Float, PyTree, UInt8

from cnn_jax.config import Config
from cnn_jax.data.cropping import usual_part
from cnn_jax.data.normalization import Normalization, normalize, to_unit
from cnn_jax.data.sources.image_file import decode_image
from cnn_jax.data.spec import Spec
from cnn_jax.errors import InputError
from cnn_jax.models.registry import variable_shapes
from cnn_jax.placement import replicated
from cnn_jax.training.checkpoint import Checkpoints, abstract
from cnn_jax.training.network import build_network
from cnn_jax.training.objective import sigmoid_each
from cnn_jax.training.parallel import compile_step, make_mesh, shard_batch
from cnn_jax.training.run_directory import NORMALIZATION, read_spec, single_config
from cnn_jax.training.step import make_logits_fn


@dataclasses.dataclass(frozen=True, eq=False)
class Predictor:
    """A trained network, its variables on the devices, and how images are made ready for it."""

    config: Config
    spec: Spec  # class names and image shape
    normalization: Normalization
    model: nn.Module
    variables: PyTree  # averaged weights if the run keeps an average
    mesh: Mesh
    step: int  # of the checkpoint

    @property
    def sigmoids(self) -> bool:
        """Whether a class's probability is its logit's sigmoid, and not the softmax of all."""
        return sigmoid_each(self.config.train, self.spec)

    def decode(self, content: bytes) -> UInt8[np.ndarray, "h w c"]:
        """Returns an image file's pixels as training would have them, at the run's image shape.

        An image of another size is scaled at its shorter side and cropped at the centre, and any
        with a `data.center_crop` below 1.

        Raises:
          BadImage: the file holds no image that can be read.
        """
        height, width, channels = self.spec.image_shape
        part = usual_part(self.config.data)
        return decode_image(content, size=(height, width), channels=channels, part=part)

    def prepare(self, images: UInt8[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        """Returns pixels as the network takes them; a pure function, to be compiled with others."""
        return normalize(to_unit(images), self.normalization)

    def logits(
        self, variables: PyTree, images: UInt8[Array, "n h w c"]
    ) -> Float[Array, "n classes"]:
        """Returns the network's logits of pixels, in float32; a pure function too."""
        compute = make_logits_fn(self.model, self.prepare, dtype=self.config.train.dtype)
        return compute(variables, images)


def load_predictor(workdir: Path, *, which: str = "last") -> Predictor:
    """Returns the network of a run directory; `which` is the "last" or the "best" checkpoint.

    Reads its config, dataset.json, normalization.npz and from the checkpoint the variables alone.

    Raises:
      InputError: it is no single run's directory, holds no checkpoint, or something is damaged.
    """
    config = single_config(workdir)
    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        step = checkpoints.find(which)
        spec = read_spec(workdir)
        model = build_network(config, spec)
        mesh = make_mesh()
        shapes = variable_shapes(model, spec.image_shape)
        weights = "ema" if config.train.ema_decay else "params"
        fields = {weights: shapes["params"], "batch_stats": shapes.get("batch_stats", {})}
        saved = checkpoints.restore_fields(step, abstract(fields, replicated(mesh)))
    return Predictor(
        config=config,
        spec=spec,
        normalization=Normalization.load(workdir / NORMALIZATION, spec.image_shape),
        model=model,
        variables={"params": saved[weights], "batch_stats": saved["batch_stats"]},
        mesh=mesh,
        step=step,
    )


def check_decodable(spec: Spec) -> None:
    """Raises InputError where image files can't have the channels that a network takes."""
    channels = spec.image_shape[2]
    if channels not in (1, 3):
        raise InputError(
            f"the network takes images of {channels} channels ({spec.name}); image files are read "
            "as gray or RGB, with 1 or 3"
        )


def compile_logits(
    predictor: Predictor, batch_size: int
) -> Callable[[UInt8[np.ndarray, "n h w c"]], Float[np.ndarray, "n classes"]]:
    """Returns logits(images) for any number of images up to `batch_size`, compiled for that many.

    Fewer are padded; where devices can't share the batch equally it is made larger by the rest.
    """
    mesh = predictor.mesh
    size = batch_size + -batch_size % mesh.size

    def step(variables: PyTree, images: jax.Array) -> jax.Array:
        return predictor.logits(variables, shard_batch(images, mesh))

    def put(images: np.ndarray) -> jax.Array:
        return jax.device_put(images, replicated(mesh))

    example = np.zeros((size, *predictor.spec.image_shape), np.uint8)
    compiled = compile_step(step, (predictor.variables, put(example)), mesh=mesh)

    def logits(images: np.ndarray) -> np.ndarray:
        padding = [(0, size - len(images)), (0, 0), (0, 0), (0, 0)]
        return np.asarray(compiled(predictor.variables, put(np.pad(images, padding))))[
            : len(images)
        ]

    return logits
