"""What the three networks of SIMS learn from a batch of real images with maps.

They learn side by side, each by a loss of its own:

- the transform network from segments of an image that were scaled and shifted, to be moved back;
- the order network from pairs of touching segments (depth.py);
- the synthesis network from canvases as retrieval will make them: an image's own pixels, as far as
  a segment of another image of the same class and of a near shape would cover them, with borders
  and labels as uncertain as they will be then.

Legend: B images, N segments, H W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.generators.base import MapBatch
from synthaug.generators.sims.bank import Real, SegmentBank
from synthaug.generators.sims.canvas import Floats, near, outline
from synthaug.generators.sims.config import Config
from synthaug.generators.sims.depth import ordered_pairs
from synthaug.generators.sims.generator import Networks, check_classes
from synthaug.generators.sims.losses import SynthesisLoss, placement_loss
from synthaug.generators.sims.network import move, paint_pairs
from synthaug.generators.sims.segments import Flags, Ints, Segment, large_segments, segments_of
from synthaug.generators.spade.semantics import Semantics, semantics
from synthaug.generators.training.losses import Loss

MOST = 10  # segments, and pairs of them, of an image that count in a step
SCALE = 0.1  # segments are scaled by 1 - SCALE to 1 + SCALE
SHIFT = 0.03125  # share of its sides by which a segment is shifted at most
RECOLORED = 0.2  # share of the segments that take the colors of the retrieved one
WHITE = 0.05  # of the height: side of the squares along borders that are half made white
TURN = 2.5  # degrees by which a segment is turned to make its label uncertain


class SimsObjective:
    """The networks and their losses; the memory is filled before the first step."""

    def __init__(self, config: Config, num_classes: int) -> None:
        check_classes(config, num_classes)
        self.config = config
        self.num_classes = num_classes
        self.bank = SegmentBank(config, num_classes)
        self.networks: Mapping[str, nn.Module] = {"G": Networks(config, num_classes)}
        self.loss = SynthesisLoss(
            config.weights, config.perceptual_weights, config.perceptual_input
        )

    def losses(self, batch: MapBatch, rng: torch.Generator) -> dict[str, Loss]:
        """Return the losses of the three networks."""
        networks = self.networks["G"]
        assert isinstance(networks, Networks)
        config = self.config
        seen = semantics(batch.maps, config.dont_care, config.edges)
        seed = int(torch.randint(2**62, (), generator=rng))
        noise = np.random.default_rng(seed)
        images = [
            Labelled.of(batch, number, config, self.num_classes)
            for number in range(len(batch.maps))
        ]
        canvases = []
        maps = []
        of_transform = []
        of_order = []
        for image in images:
            canvas, labels = training_canvas(image, self.bank, config, self.num_classes, noise)
            canvases.append(canvas)
            maps.append(labels)
            of_transform.append(self._transform_loss(networks, image, seen, noise))
            of_order.append(self._order_loss(networks, image, noise))
        synthesis = self._synthesis_loss(networks, batch, seen, canvases, maps)
        return {
            "synthesis": Loss(synthesis),
            "transform": Loss(torch.stack(of_transform).mean()),
            "order": Loss(torch.stack(of_order).mean()),
        }

    def _synthesis_loss(
        self,
        networks: Networks,
        batch: MapBatch,
        seen: Semantics,
        canvases: Sequence[Floats],
        maps: Sequence[Ints],
    ) -> Tensor:
        """Return the loss of the images made of canvases and their uncertain maps."""
        device = batch.images.device
        stacked = torch.from_numpy(np.stack(canvases)).permute(0, 3, 1, 2)
        uncertain = torch.from_numpy(np.stack(maps)).to(device)
        inputs = with_labels(seen, uncertain)
        made = networks.synthesis(inputs, stacked.to(device))
        weights = None
        if self.config.weigh_scores:
            weights = batch.weights
        loss = self.loss.to(device)
        return loss.terms(made, batch.images, batch.maps.labels, weights).sum()

    def _transform_loss(
        self, networks: Networks, image: Labelled, seen: Semantics, noise: np.random.Generator
    ) -> Tensor:
        """Return how far scaled and shifted segments of an image are moved back."""
        chosen = image.draw(noise)
        if not chosen:
            return nothing(networks.transform)
        device = image.colors.device
        size = self.config.size
        frames: Flags = np.stack([segment.in_frame(size) for segment in chosen])
        targets = torch.from_numpy(frames).float()[:, None].to(device)
        changes = [distortion(segment, size, noise) for segment in chosen]
        theta = torch.tensor(changes, dtype=torch.float32, device=device)
        distorted = move(image.colors / 255 * targets, theta)
        maps = seen.dense[image.number].expand(len(chosen), -1, -1, -1)
        moved = move(distorted, networks.transform(distorted, targets, maps))
        weight = image.confidence(np.asarray(frames.any(0)))
        return weight * placement_loss(moved, targets, image.colors)

    def _order_loss(
        self, networks: Networks, image: Labelled, noise: np.random.Generator
    ) -> Tensor:
        """Return the cross-entropy of which segments of pairs are in front."""
        pairs = ordered_pairs(image.large, self.config.size)
        if not pairs:
            return nothing(networks.order)
        order = noise.permutation(len(pairs))[:MOST]
        size = self.config.size
        masks: list[Flags] = []
        winners = []
        for place in order.tolist():
            behind, front = pairs[place]
            masks.append(behind.in_frame(size) | front.in_frame(size))
            winners.append(front.category)
        device = image.colors.device
        labels = torch.from_numpy(image.labels).to(device)
        shown = paint_pairs(labels, torch.from_numpy(np.stack(masks)).to(device), networks.palette)
        scores = networks.order(shown)
        truth = torch.tensor(winners, device=device)
        terms = F.cross_entropy(scores.float(), truth, reduction="none")
        weights = [image.confidence(mask) for mask in masks]
        weighed: Tensor = (terms * torch.tensor(weights, device=device)).mean()
        return weighed


class Labelled:
    """An image of a batch with its large segments."""

    def __init__(
        self,
        number: int,
        source: int,
        colors: Tensor,
        labels: Ints,
        large: list[Segment],
        weights: Floats | None,
    ) -> None:
        self.number = number  # in the batch
        self.source = source  # in the memory; -1 = it is not there
        self.colors = colors  # [3, H, W] of 0 to 255
        self.labels = labels  # [H, W]
        self.large = large
        self._weights = weights  # [H, W] how sure each label is; None = all are

    @staticmethod
    def of(batch: MapBatch, number: int, config: Config, num_classes: int) -> Labelled:
        """Return an image of a batch."""
        labels = batch.maps.labels[number].cpu().numpy()
        segments = segments_of(labels, num_classes, config.thin)
        large = large_segments(segments, config.large, config.size)
        source = -1
        if batch.sources is not None:
            source = int(batch.sources[number])
        weights = None
        if batch.weights is not None and config.weigh_scores:
            weights = batch.weights[number].cpu().numpy()
        colors = (batch.images[number].float() + 1) * 127.5
        return Labelled(number, source, colors, labels, large, weights)

    def draw(self, noise: np.random.Generator) -> list[Segment]:
        """Return some of the large segments, in order."""
        chosen = noise.permutation(len(self.large))[:MOST]
        return [self.large[place] for place in sorted(chosen.tolist())]

    def confidence(self, mask: Flags) -> float:
        """Return the mean confidence of the labels in a mask [H, W]."""
        if self._weights is None or not mask.any():
            return 1.0
        return float(self._weights[mask].mean())


def nothing(network: nn.Module) -> Tensor:
    """Return 0 with a gradient of 0 for every weight: all workers have the same ones."""
    sums = [parameter.sum() for parameter in network.parameters()]
    return torch.stack(sums).sum() * 0


def with_labels(seen: Semantics, labels: Tensor) -> Tensor:
    """Return a batch's maps [B, C, H, W] with other labels [B, H, W]; edges stay."""
    dense = seen.dense.clone()
    classes = seen.num_classes
    dense[:, :classes] = F.one_hot(labels, classes).permute(0, 3, 1, 2)
    return dense


def distortion(segment: Segment, size: tuple[int, int], noise: np.random.Generator) -> list[float]:
    """Return theta that scales and shifts a segment about its middle."""
    top, left, bottom, right = segment.box
    height, width = size
    scale = float(noise.uniform(1 - SCALE, 1 + SCALE))
    middle_row = (top + bottom) / 2 - height // 2
    middle_column = (left + right) / 2 - width // 2
    rows = float(noise.uniform(-SHIFT, SHIFT)) * (bottom - top)
    columns = float(noise.uniform(-SHIFT, SHIFT)) * (right - left)
    # a pixel is that of its mapped place: the inverse of what is done to the segment
    inverse = 1 / scale
    of_columns = [inverse, 0.0, middle_column - inverse * (middle_column + columns)]
    of_rows = [0.0, inverse, middle_row - inverse * (middle_row + rows)]
    return [*of_columns, *of_rows]


# ---- Canvases to learn from ----


def training_canvas(
    image: Labelled,
    bank: SegmentBank,
    config: Config,
    num_classes: int,
    noise: np.random.Generator,
) -> tuple[Floats, Ints]:
    """Return a canvas [H, W, 3] of an image's own pixels, and its uncertain map.

    Where the memory has no segment for one of the image, it stays open.
    """
    size = config.size
    own = (image.colors / 255).permute(1, 2, 0).cpu().numpy()
    labels = image.labels.copy()
    canvas = np.zeros((*size, 3), np.float32)
    allowed = images_to_search(bank, config, image.source, noise)
    for segment in image.large:
        found = bank.nearest(segment, 1, allowed)
        real = bank.real(found[0], segment) if found else None
        if real is None:
            continue
        mask = segment.in_frame(size)
        shown = mask & real.mask
        colors = own
        if noise.random() < RECOLORED:
            colors = recolor(own, mask, real)
        canvas[shown] = colors[shown]
        band = near(outline(mask), int(WHITE * size[0]))
        white = band & (noise.random(size) < 0.5)
        canvas[white] = 1
        if config.dont_care and config.follow == "canvas":
            unsure = uncertain(mask, real, noise)
            labels[unsure] = num_classes
    return canvas, labels


def images_to_search(
    bank: SegmentBank, config: Config, source: int, noise: np.random.Generator
) -> Flags:
    """Return of which images [I] segments may be: some drawn ones, never its own."""
    count = len(bank.images)
    allowed = np.ones(count, bool)
    if 0 < config.among < count:
        allowed[:] = False
        allowed[noise.choice(count, config.among, replace=False)] = True
    if 0 <= source < count:
        allowed[source] = False
    return allowed


def uncertain(mask: Flags, real: Real, noise: np.random.Generator) -> Flags:
    """Return the pixels [H, W] beside a segment whose label is to be unknown.

    Those of the retrieved segment, or of the segment itself when it is turned a little.
    """
    other = real.mask
    if noise.random() < 0.5:
        rows, columns = np.nonzero(mask)
        middle = (float(columns.mean()), float(rows.mean()))
        angle = float(noise.uniform(-TURN, TURN))
        matrix = cv2.getRotationMatrix2D(middle, angle, 1.0)
        size = (mask.shape[1], mask.shape[0])
        turned = cv2.warpAffine(mask.astype(np.uint8), matrix, size, flags=cv2.INTER_NEAREST)
        other = turned > 0
    beside: Flags = other & ~mask
    return beside


def recolor(own: Floats, mask: Flags, real: Real) -> Floats:
    """Return an image [H, W, 3] whose colors in a mask are spread as a real segment's.

    The linear map between two normal distributions that moves colors least (Monge and Kantorovich;
    Pitié & Kokaram 2007).
    """
    if not real.mask.any():
        return own
    of_own = own[mask].astype(np.float64)
    of_real = real.colors[real.mask].astype(np.float64)
    small = 1e-5 * np.eye(3)
    spread = np.cov(of_own.T, bias=True) + small
    wanted = np.cov(of_real.T, bias=True) + small
    root = square_root(spread)
    inverse = np.linalg.inv(root)
    change = inverse @ square_root(root @ wanted @ root) @ inverse
    recolored = own.copy()
    moved = (of_own - of_own.mean(0)) @ change.T + of_real.mean(0)
    recolored[mask] = moved.clip(0, 1).astype(np.float32)
    return recolored


def square_root(matrix: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Floats:
    """Return the square root of a symmetric matrix without negative eigenvalues."""
    values, vectors = np.linalg.eigh(matrix)
    root: Floats = vectors * np.sqrt(values.clip(0)) @ vectors.T
    return root
