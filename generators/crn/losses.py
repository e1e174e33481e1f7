"""CRN's loss: weighted mean absolute differences.

Of the image and of five layers of a VGG-19. Plain (paper eq. 1), or diverse (eq. 3): each class of
a map is measured alone, and of several images the nearest one counts.

Legend: B images, K images per map, C classes, H W pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.generators.nn.perceptual import VggFeatures, named_features

# conv1_2 to conv5_2 after their ReLUs, where these are in torchvision's `features`
VGG19_LAYERS = (3, 8, 13, 22, 31)
VGG16_LAYERS = (3, 8, 13, 20, 27)
CAFFE_MEAN = (123.68, 116.779, 103.939)  # RGB, of 0 to 255
IMAGENET_MEAN = (0.485, 0.456, 0.406)  # RGB, of 0 to 1
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
NEAREST = 0.999  # weight of the nearest image's error; the rest is the mean's


class RegressionLoss(nn.Module):
    """The loss of images against a real one.

    `weights` [6]: of the image's own difference, then of the layers'. Raises ValueError, one line
    that names key and file, when VGG's weights cannot be read.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self, weights: tuple[float, ...], diverse: bool, vgg: str = "", vgg_input: str = "caffe"
    ) -> None:
        super().__init__()
        self.weights = weights
        self.diverse = diverse
        self.features: VggFeatures | None = None
        if any(weights[1:]):
            self.features = named_features(vgg, VGG19_LAYERS, VGG16_LAYERS)
        if self.features is not None:
            average_pools(self.features)
        scale, shift = vgg_colors(vgg_input)
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("shift", shift, persistent=False)

    def forward(
        self, images: Tensor, real: Tensor, labels: Tensor, confidence: Tensor | None = None
    ) -> Tensor:
        """Return the loss, scalar float32; no gradient flows to `real`.

        images [B, K, 3, H, W] and real [B, 3, H, W] in [-1, 1], labels [B, C, H, W]: 1 where a
        pixel is of the class. `confidence` [B, H, W] weighs each pixel's differences.
        """
        if self.diverse:
            return nearest_image(self.class_errors(images, real, labels, confidence).sum(0))
        assert images.shape[1] == 1
        return self.errors(images[:, 0], real, confidence).sum()

    def errors(self, fake: Tensor, real: Tensor, confidence: Tensor | None = None) -> Tensor:
        """Return the weighted terms [6] of images [B, 3, H, W], means over the batch."""
        terms = []
        for weight, ours, theirs in self._levels(fake, real):
            distance = (ours - theirs).abs()
            if confidence is not None:
                distance = distance * shrink(confidence[:, None], distance)
            terms.append(weight * distance.mean())
        return torch.stack(terms)

    def class_errors(
        self, images: Tensor, real: Tensor, labels: Tensor, confidence: Tensor | None = None
    ) -> Tensor:
        """Return the weighted terms of every image and class [6, B, K, C]."""
        count, kinds = images.shape[:2]
        if confidence is not None:
            labels = labels * confidence[:, None]
        terms = []
        for weight, ours, theirs in self._levels(images.flatten(0, 1), real):
            of_image = ours.view(count, kinds, *ours.shape[1:])
            distance = (of_image - theirs[:, None]).abs().mean(2)  # [B, K, h, w]
            at_level = shrink(labels, theirs)
            pixels = distance[0, 0].numel()
            by_class = torch.einsum("bkhw,bchw->bkc", distance, at_level)
            terms.append(weight * by_class / pixels)
        return torch.stack(terms)

    def _levels(self, fake: Tensor, real: Tensor) -> list[tuple[float, Tensor, Tensor]]:
        """Return weight, features of `fake` and of `real` of every term, image first."""
        ours = self._inputs(fake)
        theirs = self._inputs(real)
        levels = [(self.weights[0], from_vgg(ours, self), from_vgg(theirs, self))]
        if self.features is None:
            return levels
        of_fake = self.features.outputs(ours)
        with torch.no_grad():
            of_real = self.features.outputs(theirs)
        for weight, fakes, reals in zip(self.weights[1:], of_fake, of_real, strict=True):
            levels.append((weight, fakes.float(), reals.float()))
        return levels

    def _inputs(self, images: Tensor) -> Tensor:
        """Return images in [-1, 1] as VGG's weights expect them."""
        return images.float() * self.scale + self.shift


def from_vgg(inputs: Tensor, loss: RegressionLoss) -> Tensor:
    """Return what VGG sees as colors of 0 to 255, up to their mean."""
    return inputs * (127.5 / loss.scale)


def vgg_colors(vgg_input: str) -> tuple[Tensor, Tensor]:
    """Return scale and shift [3, 1, 1] from [-1, 1] to what VGG's weights expect."""
    if vgg_input == "caffe":
        scale = torch.full((3,), 127.5)
        shift = 127.5 - torch.tensor(CAFFE_MEAN)
    else:
        deviation = torch.tensor(IMAGENET_DEVIATION)
        scale = 0.5 / deviation
        shift = (0.5 - torch.tensor(IMAGENET_MEAN)) / deviation
    return scale[:, None, None], shift[:, None, None]


def average_pools(features: VggFeatures) -> None:
    """Put average pools in the place of the maximum ones (the published code)."""
    layers = features.features
    for index, layer in enumerate(layers):
        if isinstance(layer, nn.MaxPool2d):
            layers[index] = nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False)


def nearest_image(errors: Tensor) -> Tensor:
    """Return eq. 3 of errors [B, K, C]: each class by its nearest image.

    A mean over the batch.
    """
    nearest = errors.amin(1).sum(1)
    mean = errors.mean(1).sum(1)
    return (NEAREST * nearest + (1 - NEAREST) * mean).mean()


def shrink(x: Tensor, like: Tensor) -> Tensor:
    """Return [B, C, H, W] at the sides of another map: means of blocks of pixels."""
    size = (like.shape[2], like.shape[3])
    if size == (x.shape[2], x.shape[3]):
        return x
    return F.adaptive_avg_pool2d(x, size)
