"""The contract of detectors: images in, boxes out.

Images are uint8 RGB [H, W, 3]; boxes xyxy float32, pixels of that image; labels contiguous class
indices 0..C-1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from synthaug.detectors.boxes import Boxes, Flags, Floats32, Image, Ints

Tensors = Mapping[str, Tensor]  # by name
LOSSES = ("objectness", "proposal_box", "class", "box", "mask")  # names shared by all back-ends


@dataclass(frozen=True)
class Prediction:
    """Detections of one image, best first."""

    boxes: Boxes  # [N, 4] xyxy, pixels
    labels: Ints  # [N] 0..C-1
    scores: Floats32  # [N] in [0, 1]
    # [N, M, M] in [0, 1], each stretched over its box; None without mask head
    masks: Floats32 | None = None

    def __post_init__(self) -> None:
        count = len(self.labels)
        assert self.boxes.shape == (count, 4)
        assert len(self.scores) == count
        assert self.masks is None or len(self.masks) == count


@dataclass(frozen=True)
class Sample:
    """One training image with its true boxes."""

    image: Image  # [H, W, 3] RGB
    boxes: Boxes  # [N, 4] xyxy, pixels, width and height > 0
    labels: Ints  # [N] 0..C-1
    # [N, H, W]; None where the data has none or nobody learns them
    masks: Flags | None = None
    # [K, 4] xyxy, pixels: regions that are neither object nor background
    ignore: Floats32 | None = None
    # [N] whose boxes and masks are learned, not their classes alone; None: all
    box_loss: Flags | None = None
    # whether background that is not near an object is nothing to learn
    ignore_background: bool = False

    def __post_init__(self) -> None:
        assert self.box_loss is None or len(self.box_loss) == len(self.labels)


class DetectorTraining(Protocol):
    """A detector being trained; the caller owns loop, checkpoints and resume.

    Everything that changes from step to step is in `modules` and `optimizers`; all randomness
    derives from the step index, so a training restored from these at step k continues bit for bit.
    """

    modules: Mapping[str, nn.Module]
    optimizers: Mapping[str, Optimizer]

    def step(self, index: int, batch: Sequence[Sample]) -> Tensors:
        """Do optimizer step `index` (0-based) on the batch; return named detached losses.

        In a process group (torch.distributed) the batch is this process's part, images rank,
        rank + world ... of the step's batch, and all processes come out with the same weights.
        """
        ...

    def averaged(self) -> AbstractContextManager[None]:
        """Give the detector the weights of `finish` meanwhile; disturbs no training."""
        ...

    def finish(self) -> None:
        """Give the detector the weights to predict with, after the last step.

        These are the averaged ones where such are kept.
        """
        ...


class Detector(Protocol):
    """A detector ready to predict."""

    num_classes: int
    model: nn.Module  # the network; its state is all that training changes

    def predict(self, images: Sequence[Image], scale: float = 1.0) -> list[Prediction]:
        """Detect in a batch of images; scores below the configured floor are left out.

        `scale` enlarges or shrinks the images inside the network (test-time augmentation); boxes
        stay in pixels of the images as given.
        """
        ...

    def features(self, images: Sequence[Image]) -> Floats32:
        """Return the backbone's features [N, D], one vector per image."""
        ...

    def box_features(self, images: Sequence[Image], boxes: Sequence[Boxes]) -> list[Floats32]:
        """Return the backbone's features [N, D] of boxes [N, 4] of each image.

        Boxes are xyxy in its pixels. Each map is averaged inside the box; what is around it is seen
        as far as the maps see it.
        """
        ...

    def losses(self, samples: Sequence[Sample]) -> Tensors:
        """Return the losses on samples, scalars with gradient named as in LOSSES.

        Puts the network into training mode; may draw from torch's global generator.
        """
        ...

    def image_losses(self, images: Sequence[Tensor], samples: Sequence[Sample]) -> Tensors:
        """Return the losses on images that may have a gradient.

        Images are [3, H, W] in 0..255, of any number format, in the place of the samples' own.
        Otherwise as `losses`.
        """
        ...

    def training(self, steps: int, seed: int) -> DetectorTraining:
        """Start a training of `steps` steps; the detector holds the trained weights."""
        ...

    def save(self, path: Path, metadata: Mapping[str, str]) -> None:
        """Write weights and config to one safetensors file."""
        ...
