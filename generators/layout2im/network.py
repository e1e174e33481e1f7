"""Layout2Im: objects, one after the other, to a layout of features to an image.

Zhao, Meng, Yin & Sigal, "Image Generation from Layout", 2019.

Top to bottom: class-conditional norm, crop encoder, convolutional LSTM, layout encoder, decoder,
generator. Parameter names are those of the official checkpoints. Config, rows of objects,
discriminators, objective, sampler and fast form have files of their own.

Legend: B images, n objects of all images, K slots of an image, T objects of the fullest image, C
channels, Z width of a latent code, S image side, c side of a crop.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from synthaug.generators.layout2im.config import LSTM_WIDTHS, Config
from synthaug.generators.layout2im.rows import ObjectRows, rasters
from synthaug.generators.nn.crops import as_slots, crop_boxes
from synthaug.generators.nn.layers import BatchNorm2d, place_masks
from synthaug.generators.nn.mask_net import mask_net

CROP = 32  # side of the crops of objects
RESIDUALS = 6  # blocks after the LSTM


class ClassNorm(nn.Module):
    """Batch norm with a gain and a bias per class and channel."""

    def __init__(self, channels: int, labels: int) -> None:
        super().__init__()
        self.bn = BatchNorm2d(channels, affine=False)
        self.embed = nn.Embedding(labels, 2 * channels)  # gains, then biases
        with torch.no_grad():
            self.embed.weight[:, :channels].normal_(1, 0.02)
            self.embed.weight[:, channels:].zero_()

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Map x [n, C, H, W] of objects with labels [n] to the same."""
        embedded = self.embed(labels)  # [n, 2 C]
        gain, bias = embedded[:, :, None, None].chunk(2, 1)
        normed = self.bn(x)
        return torch.addcmul(bias, gain, normed)


class CropEncoder(nn.Module):
    """From the crop of an object to the distribution of its latent code."""

    def __init__(self, width: int, z: int, labels: int) -> None:
        super().__init__()
        self.activation = nn.ReLU()
        self.c1 = nn.Conv2d(3, width, 7, padding=3, bias=False)
        self.c2 = _halving(width, 2 * width)
        self.c3 = _halving(2 * width, 4 * width)
        self.c4 = _halving(4 * width, 8 * width)
        self.conv5 = _halving(8 * width, 16 * width)
        self.bn1 = ClassNorm(width, labels)
        self.bn2 = ClassNorm(2 * width, labels)
        self.bn3 = ClassNorm(4 * width, labels)
        self.bn4 = ClassNorm(8 * width, labels)
        self.bn5 = ClassNorm(16 * width, labels)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc_mu = nn.Linear(16 * width, z)
        self.fc_logvar = nn.Linear(16 * width, z)

    def forward(self, crops: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Crops [n, 3, c, c] -> means and logarithms of variances [n, Z]."""
        x = crops
        for conv, norm in (
            (self.c1, self.bn1),
            (self.c2, self.bn2),
            (self.c3, self.bn3),
            (self.c4, self.bn4),
            (self.conv5, self.bn5),
        ):
            x = norm(conv(x), labels)
            x = self.activation(x)
        flat = self.pool(x).flatten(1)
        mean = self.fc_mu(flat)
        log_variance = self.fc_logvar(flat)
        return mean, log_variance


class LstmCell(nn.Module):
    """A convolutional LSTM's cell; gates in the order input, forget, output, value."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.conv = nn.Conv2d(width_in + width, 4 * width, 5, padding=2)

    def forward(self, x: Tensor, hidden: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, C, H, W], hidden and memory [B, C', H, W] -> the next hidden and memory."""
        both = torch.cat([x, hidden], 1)
        gates = self.conv(both)
        return next_state(gates, memory)


def next_state(gates: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """Return hidden and memory of gates [B, 4 C, H, W] before their activations."""
    write, keep, show, value = gates.chunk(4, 1)
    written = torch.sigmoid(write) * torch.tanh(value)
    memory = torch.addcmul(written, torch.sigmoid(keep), memory)
    hidden = torch.sigmoid(show) * torch.tanh(memory)
    return hidden, memory


class ConvLstm(nn.Module):
    """Layers of cells over the objects of each image, read at its last one."""

    def __init__(self, width_in: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.cell_list = nn.ModuleList()
        for before, width in zip((width_in, *widths), widths, strict=False):
            self.cell_list.append(LstmCell(before, width))

    def forward(self, steps: Tensor, counts: Tensor) -> Tensor:
        """Steps [B, T, C, H, W] of images with counts [B] objects -> [B, C', H, W].

        Zero for an image without objects.
        """
        most_first = counts.argsort(descending=True, stable=True)
        left = counts[most_first].tolist()
        inputs = list(steps[most_first].unbind(1))
        hidden = steps.new_zeros(0)
        for cell in self.cell_list:
            assert isinstance(cell, LstmCell)
            shape = (len(steps), cell.width, *steps.shape[3:])
            hidden = steps.new_zeros(shape)
            memory = steps.new_zeros(shape)
            outputs = []
            for step, x in enumerate(inputs):
                going = sum(count > step for count in left)
                if not going:  # no image of the batch has an object
                    break
                ended_hidden = hidden[going:]
                ended_memory = memory[going:]
                hidden, memory = cell(x[:going], hidden[:going], memory[:going])
                hidden = torch.cat([hidden, ended_hidden])
                memory = torch.cat([memory, ended_memory])
                outputs.append(hidden)
            inputs = outputs
        back = most_first.argsort()
        return hidden[back]


class ResidualBlock(nn.Module):
    """Two convolutions that change a map by what they add to it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same."""
        out: Tensor = x + self.main(x)
        return out


class LayoutEncoder(nn.Module):
    """From vectors of objects and where they are to a map of the image."""

    def __init__(self, config: Config, labels: int) -> None:
        super().__init__()
        width = config.width
        vector = config.embedding + config.z_object
        self.activation = nn.ReLU()
        self.embedding = nn.Embedding(labels, config.embedding)
        # the padding of a 1 x 1 convolution makes 66 x 66 pixels of 64 x 64, as published
        self.c1 = nn.Conv2d(vector, width, 1, padding=1, bias=False)
        self.c2 = _halving(width, 2 * width)
        self.c3 = _halving(2 * width, 4 * width)
        self.c4 = _halving(4 * width, 8 * width)
        self.bn1 = ClassNorm(width, labels)
        self.bn2 = ClassNorm(2 * width, labels)
        self.bn3 = ClassNorm(4 * width, labels)
        self.bn4 = ClassNorm(8 * width, labels)
        multiples = LSTM_WIDTHS[config.lstm_layers]
        widths = tuple(width * multiple for multiple in multiples)
        self.clstm = ConvLstm(8 * width, widths)
        blocks = [ResidualBlock(width) for _ in range(RESIDUALS)]
        self.residual = nn.Sequential(*blocks)

    def vectors(self, labels: Tensor, z: Tensor) -> Tensor:
        """Return what is known of objects [n, D]: label embedding and latent code."""
        return torch.cat([self.embedding(labels), z], 1)

    def forward(self, rows: ObjectRows, vectors: Tensor, masks: Tensor) -> Tensor:
        """Vectors [n, D] that fill masks [n, S, S] -> maps [B, C, S/8, S/8]."""
        labels = rows.labels
        x = vectors[:, :, None, None] * masks[:, None]
        for conv, norm in (
            (self.c1, self.bn1),
            (self.c2, self.bn2),
            (self.c3, self.bn3),
        ):
            x = norm(conv(x), labels)
            x = self.activation(x)
        x = self.bn4(self.c4(x), labels)
        steps = as_slots(x, rows.packed)
        fused = self.clstm(steps, rows.counts)
        out: Tensor = self.residual(fused)
        return out


class Decoder(nn.Module):
    """From maps to images."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.activation = nn.ReLU()
        self.c0 = nn.Conv2d(width, 4 * width, 3, padding=1, bias=False)
        self.dc1 = _doubling(4 * width, 4 * width)
        self.dc2 = _doubling(4 * width, 2 * width)
        self.dc3 = _doubling(2 * width, width)
        self.bn0 = BatchNorm2d(4 * width)
        self.bn1 = BatchNorm2d(4 * width)
        self.bn2 = BatchNorm2d(2 * width)
        self.bn3 = BatchNorm2d(width)
        self.c4 = nn.Conv2d(width, 3, 7, padding=3)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps [B, C, S/8, S/8] -> images [B, 3, S, S] as networks of ImageNet see them."""
        x = maps
        for conv, norm in (
            (self.c0, self.bn0),
            (self.dc1, self.bn1),
            (self.dc2, self.bn2),
            (self.dc3, self.bn3),
        ):
            x = norm(conv(x))
            x = self.activation(x)
        images: Tensor = self.c4(x)
        return images


@dataclass(frozen=True)
class Painted:
    """What the generator makes of objects and their codes."""

    images: Tensor  # [B, 3, S, S] as networks of ImageNet see them
    masks: Tensor  # [n, S, S]: what each object filled


class Layout2ImGenerator(nn.Module):
    """From objects and codes to images; the sampler is in sampler.py."""

    def __init__(self, config: Config, labels: int) -> None:
        super().__init__()
        self.config = config
        self.crop_encoder = CropEncoder(config.width, config.z_object, labels)
        self.layout_encoder = LayoutEncoder(config, labels)
        self.decoder = Decoder(config.width)
        self.mask_net = None
        if config.owa:
            vector = config.embedding + config.z_object
            self.mask_net = mask_net(vector, config.mask_side)

    def forward(self, rows: ObjectRows, z: Tensor, pixels: Tensor | None = None) -> Painted:
        """Paint objects with codes z [n, Z].

        pixels [n, S, S] take the place of the rasters of the boxes.
        """
        vectors = self.layout_encoder.vectors(rows.labels, z)
        masks = pixels
        if masks is None:
            masks = self.fill(rows.boxes, vectors)
        maps = self.layout_encoder(rows, vectors, masks)
        images = self.decoder(maps)
        return Painted(images, masks)

    def fill(self, boxes: Tensor, vectors: Tensor) -> Tensor:
        """Return what objects fill [n, S, S]: their boxes, or masks inferred from vectors."""
        side = self.config.resolution
        if self.mask_net is None:
            return rasters(boxes, side)
        logits = self.mask_net(vectors[:, :, None, None])  # [n, 1, M, M]
        shapes = torch.sigmoid(logits[:, 0])
        corners = boxes.to(shapes.dtype)
        placed = place_masks(shapes[None], corners[None], side, align_corners=True)
        return placed[0]

    def read(self, images: Tensor, rows: ObjectRows) -> tuple[Tensor, Tensor]:
        """Return means and log-variances [n, Z] of the codes of objects in images."""
        crops = crop_boxes(images, rows.boxes, rows.image_of, CROP)
        mean, log_variance = self.crop_encoder(crops, rows.labels)
        return mean, log_variance


def _halving(width_in: int, width_out: int) -> nn.Conv2d:
    return nn.Conv2d(width_in, width_out, 4, stride=2, padding=1, bias=False)


def _doubling(width_in: int, width_out: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(width_in, width_out, 4, stride=2, padding=1, bias=False)
