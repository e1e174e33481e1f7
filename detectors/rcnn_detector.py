"""What the two-stage detectors of all back-ends share besides their settings: everything but the network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from synthaug.detectors.base import Prediction, Sample
from synthaug.detectors.rcnn_config import Config
from synthaug.detectors.training import StepTraining
from synthaug.detectors.weights import (
    load_checkpoint,
    load_pretrained,
    read_header,
    read_tensors,
    write_checkpoint,
)

COCO_ROWS = 91  # of the class layer in torchvision's COCO file: the ids 1..90 and the background


class RcnnDetector(ABC):
    """A two-stage detector around a back-end's network; `loaded` says in one line what came from the weights file."""

    backend: ClassVar[str]
    body: ClassVar[Mapping[str, str]]  # backbone -> prefix of the names of its pretrained part

    def __init__(
        self, config: Config, num_classes: int, model: nn.Module, loaded: str = ""
    ) -> None:
        self.config = config  # resolved
        self.num_classes = num_classes
        self.model = model
        self.loaded = loaded

    @classmethod
    @abstractmethod
    def network(cls, config: Config, num_classes: int) -> nn.Module:
        """Put the network of a resolved config together, weights drawn from torch's global generator."""

    @abstractmethod
    def detect(self, images: Sequence[Tensor], scale: float) -> list[dict[str, Tensor]]:
        """Detect in images [3, H, W] uint8 of one shape.

        Of each image, best first: boxes [N, 4] in its pixels, labels [N] 0..C-1, scores [N] and, with a mask head,
        masks [N, M, M] stretched over the boxes.
        """

    @abstractmethod
    def losses(self, samples: Sequence[Sample]) -> Mapping[str, Tensor]:
        """The network's losses, the shorter sides of images drawn from `train_sizes`; sets the network to train."""

    @classmethod
    def suited(cls, config: Config, weights: Mapping[str, Tensor]) -> Config:
        """Return a resolved config with what the weights file `config.weights` decides."""
        if len(weights.get("roi_heads.box_predictor.cls_score.bias", ())) == COCO_ROWS:
            return replace(config, norm_eps=0.0)  # torchvision's COCO file was trained without it
        return config

    @classmethod
    @abstractmethod
    def renamed(cls, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Bring a pretrained file's tensors to the network's names, and leave out what means something else there."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    def predict(self, images: Sequence[NDArray[np.uint8]], scale: float = 1.0) -> list[Prediction]:
        """Detect in images of any sizes; each result is best first and does not depend on the other images.

        Images of one shape run together and others apart: padding would change the normalisation and the borders.
        """
        self.model.eval()
        found: dict[int, Prediction] = {}
        for shape, members in _by_shape(images).items():
            with torch.inference_mode():
                outputs = self.detect([tensor(images[i], self.device) for i in members], scale)
            found |= {i: _prediction(out, shape) for i, out in zip(members, outputs, strict=True)}
        return [found[i] for i in range(len(images))]

    def features(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return the backbone's features [N, D]: each map of the pyramid averaged over the image, maps joined.

        Seen on the way of `detect`, whatever the back-end does to images before; images of one shape run together.
        """
        self.model.eval()
        seen: list[Tensor] = []
        hook = self.model.get_submodule("backbone").register_forward_hook(
            lambda _, __, maps: seen.append(_pooled(maps))
        )
        rows: dict[int, NDArray[np.float32]] = {}
        try:
            for members in _by_shape(images).values():
                seen.clear()
                with torch.inference_mode():
                    self.detect([tensor(images[i], self.device) for i in members], 1.0)
                rows |= dict(zip(members, torch.cat(seen).cpu().numpy(), strict=True))
        finally:
            hook.remove()
        return np.stack([rows[i] for i in range(len(images))])

    def training(self, steps: int, seed: int) -> StepTraining:
        """Start training from the present weights; call `finish()` on the result after the last step."""
        return StepTraining(self.model, self.losses, self.config.recipe(), steps, seed)

    def save(self, path: Path, metadata: Mapping[str, str]) -> None:
        """Write weights and config to one safetensors file."""
        write_checkpoint(
            path, self.model, self.backend, asdict(self.config), self.num_classes, metadata
        )

    @classmethod
    def build(cls, config: Config, num_classes: int, seed: int, device: str | torch.device) -> Self:
        """Make a detector, weights drawn from `seed` and then, if asked, read from a file.

        Raises ValueError when the weights file is absent, damaged or made for another network.
        """
        settings = config.resolved()
        if settings.norm == "frozen_bn" and not settings.weights:
            raise ValueError(
                "norm: frozen_bn cannot learn from scratch; give weights, or set norm to gn or bn"
            )
        weights = read_tensors(Path(settings.weights)) if settings.weights else {}
        settings = cls.suited(settings, weights)
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            model = cls.network(settings, num_classes)
        body, loaded = cls.body[settings.backbone], ""
        if weights:
            loaded = load_pretrained(model, cls.renamed(weights), Path(settings.weights), body)
        return cls(settings, num_classes, model.to(device), loaded)

    @classmethod
    def load(cls, path: Path, device: str | torch.device) -> Self:
        """Read a detector that `save` wrote; raises ValueError naming the file when it cannot be used."""
        header = read_header(path)
        known = {field.name for field in fields(Config)}
        unknown = sorted(set(header["config"]) - known)
        if header["backend"] != cls.backend or unknown:
            what = f"setting '{unknown[0]}'" if unknown else f"backend '{header['backend']}'"
            raise ValueError(
                f"{path}: {what} is unknown to {cls.backend}; read it with the version that wrote it"
            )
        try:
            config = Config(**header["config"]).resolved()
        except (ValueError, TypeError) as err:
            raise ValueError(f"{path}: {err}") from err
        with torch.random.fork_rng([]):
            model = cls.network(config, header["num_classes"])
        load_checkpoint(model, path)
        return cls(config, header["num_classes"], model.to(device), f"{path.name}: whole detector")


def _by_shape(images: Sequence[NDArray[np.uint8]]) -> dict[tuple[int, ...], list[int]]:
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, image in enumerate(images):
        groups.setdefault(image.shape, []).append(i)
    return groups


def _pooled(maps: Mapping[str, Tensor]) -> Tensor:
    """Average maps [B, C, h, w] to [B, levels x C]; the level that is only a coarser copy of another is left out."""
    levels = [level for name, level in maps.items() if name not in ("pool", "p6")]
    return torch.cat([level.float().mean(dim=(2, 3)) for level in levels], dim=1)


def tensor(image: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Image [H, W, 3] uint8 as a tensor [3, H, W] uint8 of a device."""
    return torch.from_numpy(np.array(image)).to(device).permute(2, 0, 1)


def focal_loss(logits: Tensor, labels: Tensor, gamma: float) -> Tensor:
    """Mean over boxes of (1 - p)^gamma times the cross entropy, p the true class's probability; 0 without boxes.

    Logits [R, C], labels [R]: the multi-class form of Lin et al. 2017 (eq. 4) that Unbiased Teacher (Liu et al. 2021,
    section 3.3) puts in the place of the box head's cross entropy.
    """
    surprise = F.cross_entropy(logits, labels, reduction="none")  # [R] -log p
    return ((1 - torch.exp(-surprise)) ** gamma * surprise).sum() / max(1, len(labels))


def _prediction(output: Mapping[str, Tensor], shape: tuple[int, ...]) -> Prediction:
    """What a network says of one image of shape (H, W, 3): clipped (scaling back may overshoot) and best first."""
    order = torch.argsort(output["scores"], descending=True, stable=True)
    limit = torch.tensor([shape[1], shape[0], shape[1], shape[0]], device=order.device)
    boxes = torch.minimum(output["boxes"][order].clamp(min=0), limit)
    labels, scores = output["labels"][order], output["scores"][order]
    masks = output["masks"][order].float().cpu().numpy() if "masks" in output else None
    return Prediction(boxes.cpu().numpy(), labels.cpu().numpy(), scores.cpu().numpy(), masks)
