"""The perceptual loss: how far two images are apart in the features of an ImageNet classifier (LostGAN-V2 eq. 11).

VGG-19, five layers, as the published training code weighs them. The classifier's weights are never downloaded: the user
gives the file.
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

# weight of the mean absolute difference after each of these layers of torchvision's `features`: relu1_1 ... relu5_1
LAYERS = {1: 1 / 32, 6: 1 / 16, 11: 1 / 8, 20: 1 / 4, 29: 1.0}
ADVICE = "give torchvision's ImageNet weights of vgg19, as .pth or .safetensors"


class PerceptualLoss(nn.Module):
    """Weighted sum of mean absolute differences between the VGG-19 features of fakes and of real images; frozen."""

    def __init__(self, path: Path) -> None:
        """Read the weights; ValueError, one line that names the file, when it is absent, damaged or another network's."""
        super().__init__()
        tensors = _read(path)
        with torch.device(
            "meta"
        ):  # no memory and no random numbers for weights that are replaced at once
            self.features = vgg19(weights=None, init_weights=False).features[: max(LAYERS) + 1]
        state = {}
        for name, expected in self.features.state_dict().items():
            found = tensors.get(f"features.{name}")
            if found is None:
                raise ValueError(f"{path}: lacks tensor 'features.{name}'; {ADVICE}")
            if found.shape != expected.shape or not found.is_floating_point():
                shapes = f"{found.dtype} {list(found.shape)}, not float {list(expected.shape)}"
                raise ValueError(f"{path}: tensor 'features.{name}' is {shapes}; {ADVICE}")
            state[name] = found.float()
        self.features.load_state_dict(state, assign=True)
        self.eval().requires_grad_(False)
        with path.open("rb") as file:
            self.digest = hashlib.file_digest(file, "sha256").hexdigest()

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        """Both [B, 3, H, W] in [-1, 1], of 16 pixels or more a side -> scalar float32; no gradient flows to `real`.

        The images go in as they are, without ImageNet's mean and deviation, as in the published code.
        """
        with torch.no_grad():
            wanted = self._taps(real)
        pairs = zip(self._taps(fake), wanted, LAYERS.values(), strict=True)
        # the means are float32 also where autocast makes the features bfloat16
        return torch.stack(
            [weight * F.l1_loss(ours.float(), theirs.float()) for ours, theirs, weight in pairs]
        ).sum()

    def _taps(self, x: Tensor) -> list[Tensor]:
        """Features after each of LAYERS, [B, C, S, S]; the in-place ReLUs overwrite convolutions' outputs, never a tap."""
        taps = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in LAYERS:
                taps.append(x)
        return taps


def perceptual_loss(weights: str, factor: float) -> PerceptualLoss | None:
    """Return the loss of a Config's `perceptual_weights` (a file) and `lambda_perceptual`; None where either is 0 or "".

    ValueError names the key and the file.
    """
    if not weights or not factor:
        return None
    try:
        return PerceptualLoss(Path(weights))
    except ValueError as err:
        raise ValueError(f"perceptual_weights: {err}") from err


def _read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors or torch file by name, on the CPU; nothing in it is ever executed."""
    if not path.is_file():
        raise ValueError(f"{path}: no such weights file; {ADVICE}")
    broken = (
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        LookupError,
        AttributeError,
        TypeError,
        struct.error,
    )
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, *broken) as err:
        reason = (str(err).strip() or type(err).__name__).splitlines()[0][:120]
        raise ValueError(
            f"{path}: is not a readable file of plain weights ({reason}); {ADVICE}"
        ) from err
    tensors = (
        {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
        if isinstance(content, Mapping)
        else {}
    )
    if not tensors:
        raise ValueError(f"{path}: holds no weights by name; {ADVICE}")
    return tensors
