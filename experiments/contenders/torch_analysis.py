"""Activation maximisation and Grad-CAM in plain PyTorch."""

import math

import numpy as np
import torch
from jaxtyping import PyTree
from torch import nn

from cnn_jax.analysis.activation_maximization import Recipe
from cnn_jax.analysis.image_parametrization import COLORS
from cnn_jax.analysis.operations import Operation
from cnn_jax.data.normalization import Normalization
from experiments.contenders.pytorch import normalization_constants, with_weights


class Normalized(nn.Module):
    """A network behind the normalisation of its run: it takes NCHW images in [0, 1]."""

    def __init__(self, layers: nn.Module, mean: torch.Tensor, std: torch.Tensor):
        super().__init__()
        self.layers = layers
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns the logits."""
        return self.layers((images - self.mean) / self.std)


def trained(found: list[Operation], variables: PyTree, normalization: Normalization) -> Normalized:
    """Returns the network of a list of operations with our weights, for inference.

    Raises:
      InputError: the normalisation is ZCA whitening.
    """
    constants = normalization_constants(normalization)
    made = Normalized(with_weights(found, variables), *constants).eval()
    return made.to("cuda" if torch.cuda.is_available() else "cpu").requires_grad_(False)


def class_images(
    model: Normalized, shape: tuple[int, int, int], count: int, recipe: Recipe
) -> np.ndarray:
    """Returns an image (H, W, C) for each class, by the same recipe as ours.

    Raises:
      ValueError: the recipe asks for what is not written here.
    """
    if not recipe.spectrum or recipe.blur:
        raise ValueError("only a recipe with a spectrum and without blur is compared")
    height, width, channels = shape
    device = model.mean.device
    down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    gain = math.sqrt(height * width) / np.maximum(np.hypot(down, across), 1 / max(height, width))
    gain = torch.tensor(gain.astype(np.float32), device=device)
    colors = torch.tensor(COLORS, device=device) if channels == 3 else None
    torch.manual_seed(0)
    size = (count, channels, height, width // 2 + 1, 2)
    numbers = (0.05 * torch.randn(size, device=device)).requires_grad_()
    optimizer = torch.optim.Adam([numbers], lr=recipe.learning_rate)
    classes = torch.arange(count, device=device)

    def to_images() -> torch.Tensor:
        values = torch.fft.irfft2(torch.view_as_complex(numbers) * gain, s=(height, width))
        if colors is not None:
            values = torch.einsum("nchw,dc->ndhw", values, colors)
        return torch.sigmoid(values)

    for _ in range(recipe.steps):
        images = to_images()
        shift = torch.randint(-recipe.jitter, recipe.jitter + 1, (2,)).tolist()
        logits = model(torch.roll(images, shift, (2, 3)))
        variation = images.diff(dim=2).abs().mean((1, 2, 3)) + images.diff(dim=3).abs().mean(
            (1, 2, 3)
        )
        loss = (recipe.total_variation * variation - logits[classes, classes]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return to_images().permute(0, 2, 3, 1).cpu().numpy()


def grad_cam(model: Normalized, layer: str, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns a map (H, W) for each image, with a hook on the layer."""
    device = model.mean.device
    x = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().to(device)
    classes = torch.from_numpy(labels).to(device, torch.int64)
    seen = []

    def keep(module: nn.Module, inputs: tuple, output: torch.Tensor) -> torch.Tensor:
        seen.append(output.detach().requires_grad_())
        return seen[0]

    handle = getattr(model.layers, layer.replace("/", "_")).register_forward_hook(keep)
    logits = model(x)
    handle.remove()
    score = logits.gather(1, classes[:, None]).sum()
    (gradient,) = torch.autograd.grad(score, seen)
    weights = gradient.mean((2, 3), keepdim=True)
    cam = torch.relu((weights * seen[0].detach()).sum(1, keepdim=True))
    options = {"mode": "bilinear", "align_corners": False}
    return nn.functional.interpolate(cam, x.shape[2:], **options)[:, 0].cpu().numpy()
