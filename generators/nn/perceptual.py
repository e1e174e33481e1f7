"""The perceptual loss: distance in VGG-19 features (LostGAN-V2 eq. 11).

Five layers, as the published training code weighs them. The ImageNet weights are never downloaded:
the user gives the file.
"""

from __future__ import annotations

import hashlib
import pickle
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import vgg19

# Weight of the mean absolute difference after each of these layers of torchvision's `features`:
# relu1_1 ... relu5_1
LAYERS = {1: 1 / 32, 6: 1 / 16, 11: 1 / 8, 20: 1 / 4, 29: 1.0}
ADVICE = "give torchvision's ImageNet weights of vgg19, as .pth or .safetensors"
# Errors that reading a damaged file raises
UNREADABLE = (
    SafetensorError,
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    struct.error,
)


class PerceptualLoss(nn.Module):
    """Weighted sum of mean absolute differences of VGG-19 features.

    Frozen. Raises ValueError, one line that names the file, when it is absent, damaged or another
    network's.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        tensors = _read(path)
        # no memory and no random numbers for weights that are replaced at once
        with torch.device("meta"):
            network = vgg19(weights=None, init_weights=False)
            self.features = network.features[: max(LAYERS) + 1]
        state = {}
        for name, expected in self.features.state_dict().items():
            state[name] = _checked(tensors, f"features.{name}", expected, path)
        self.features.load_state_dict(state, assign=True)
        self.eval().requires_grad_(False)
        with path.open("rb") as file:
            self.digest = hashlib.file_digest(file, "sha256").hexdigest()

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        """Return the distance, scalar float32; no gradient flows to `real`.

        Both are [B, 3, H, W] in [-1, 1], of 16 pixels or more a side. They go in as they are,
        without ImageNet's mean and deviation, as in the published code.
        """
        with torch.no_grad():
            real_features = self._layer_outputs(real)
        fake_features = self._layer_outputs(fake)
        terms = []
        for ours, theirs, weight in zip(fake_features, real_features, LAYERS.values(), strict=True):
            # the means are float32 also where autocast makes the features bfloat16
            terms.append(weight * F.l1_loss(ours.float(), theirs.float()))
        return torch.stack(terms).sum()

    def _layer_outputs(self, x: Tensor) -> list[Tensor]:
        """Return the features after each of LAYERS, [B, C, S, S].

        The in-place ReLUs overwrite the outputs of convolutions, never one of these.
        """
        outputs = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in LAYERS:
                outputs.append(x)
        return outputs


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
        return PerceptualLoss(Path(weights))
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
        reason = text.splitlines()[0][:120]
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
