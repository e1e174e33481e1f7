"""Sampling from a trained SIMS: retrieve, order, paste, synthesize.

The seed chooses among the nearest segments, where more than one counts, and which pixels of the
borders are left to the synthesis network.

Legend: N segments of a map, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from synthaug.generators.base import Maps, SamplerOptions, Samples
from synthaug.generators.nn.pixels import to_pixels
from synthaug.generators.nn.precision import uses_bfloat16
from synthaug.generators.sims.bank import Real
from synthaug.generators.sims.canvas import Bare, Canvas, Piece, Rules, compose
from synthaug.generators.sims.generator import Sims
from synthaug.generators.sims.network import move, paint_pairs
from synthaug.generators.sims.segments import Flags, Ints, Segment, large_segments, segments_of
from synthaug.generators.spade.sampler import checked_semantics


class SimsSampler:
    """A trained generator, ready to be sampled (generators.base.MapSampler)."""

    def __init__(self, network: Sims, options: SamplerOptions) -> None:
        self.config = network.config
        self.size = network.config.size  # (H, W)
        self.num_classes = network.num_classes
        self.device = options.device
        self.bf16 = uses_bfloat16(options.precision, options.device)
        self.bank = network.bank
        self.networks = network.networks.eval().to(options.device)
        self.layers = back_to_front(network)

    @torch.inference_mode()
    def sample(self, conditions: Maps, seeds: Sequence[int]) -> Samples:
        """Return one image per map.

        Raises ValueError when the maps have another size, another number of classes, or pixels of
        no class where the network knows none.
        """
        assert len(seeds) == len(conditions)
        config = self.config
        seen = checked_semantics(
            conditions.to(self.device), self.size, self.num_classes, config.dont_care, config.edges
        )
        dense = seen.dense.clone()
        colors = []
        for number, seed in enumerate(seeds):
            labels = conditions.labels[number].cpu().numpy()
            canvas = self.canvas(labels, seed, dense[number])
            colors.append(torch.from_numpy(canvas.colors).permute(2, 0, 1))
            shown = labels
            if config.follow == "canvas":
                shown = canvas.labels
            if not config.dont_care:
                shown = np.where(shown == self.num_classes, labels, shown)
            on_device = torch.from_numpy(shown).to(self.device)
            channels = F.one_hot(on_device, seen.num_classes).permute(2, 0, 1)
            dense[number, : seen.num_classes] = channels
        canvases = torch.stack(colors).to(self.device)
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.bf16):
            made = self.networks.synthesis(dense, canvases)
        return Samples(to_pixels(made.images.float()))

    def canvas(self, labels: Ints, seed: int, maps: Tensor) -> Canvas:
        """Return the canvas of a map [H, W], which is given as channels [C, H, W] as well."""
        config = self.config
        rng = np.random.default_rng(seed)
        segments = segments_of(labels, self.num_classes, config.thin)
        segments.sort(key=lambda segment: (self.layers[segment.category], segment.number))
        large = {id(segment) for segment in large_segments(segments, config.large, self.size)}
        pieces: list[Piece | Bare] = []
        found: list[tuple[int, Segment, Real]] = []
        for number, segment in enumerate(segments):
            pieces.append(Bare(segment.category, segment.in_frame(self.size)))
            real = None
            if id(segment) in large:
                real = self._retrieve(segment, rng)
            if real is not None:
                found.append((number, segment, real))
        for number, piece in self._moved(found, maps):
            pieces[number] = piece
        rules = Rules(config.ground, config.loose, config.background)

        def in_front(placed: int, new: int) -> bool:
            return self._in_front(labels, pieces[placed], pieces[new])

        def speckles(band: Flags) -> Flags:
            chosen: Flags = band & (rng.random(band.shape) < 0.5)
            return chosen

        return compose(labels, self.num_classes, pieces, in_front, rules, speckles)

    def _retrieve(self, segment: Segment, rng: np.random.Generator) -> Real | None:
        """Return a real segment for one of a map, None where the memory has none."""
        numbers = self.bank.nearest(segment, self.config.choices)
        if not numbers:
            return None
        chosen = numbers[int(rng.integers(len(numbers)))]
        return self.bank.real(chosen, segment)

    def _moved(
        self, found: Sequence[tuple[int, Segment, Real]], maps: Tensor
    ) -> list[tuple[int, Piece]]:
        """Return pieces with the real segments where the transform network moves them."""
        if not found:
            return []
        reals = np.stack([real.colors for _, _, real in found])
        masks = np.stack([real.mask for _, _, real in found])
        wanted = np.stack([segment.in_frame(self.size) for _, segment, _ in found])
        colors = torch.from_numpy(reals).permute(0, 3, 1, 2).to(self.device)
        targets = torch.from_numpy(wanted).float()[:, None].to(self.device)
        shown = torch.from_numpy(masks).float()[:, None].to(self.device)
        theta = self.networks.transform(colors, targets, maps.expand(len(found), *maps.shape))
        moved = move(torch.cat([colors, shown], 1), theta.round())  # published at test
        moved_colors = moved[:, :3].permute(0, 2, 3, 1).cpu().numpy()
        moved_masks = moved[:, 3].cpu().numpy() > 0.5
        if self.config.follow == "map":
            masks &= wanted
            moved_masks &= wanted
        pieces = []
        for place, (number, segment, real) in enumerate(found):
            moved_mask = moved_masks[place]
            piece = Piece(
                segment.category,
                wanted[place],
                real.whole,
                real.colors,
                masks[place],
                moved_colors[place] * moved_mask[..., None],
                moved_mask,
                real.shadows,
            )
            pieces.append((number, piece))
        return pieces

    def _in_front(self, labels: Ints, placed: Piece | Bare, new: Piece | Bare) -> bool:
        """Return whether the order network takes the placed piece for the front one."""
        if not self.config.order or placed.category == new.category:
            return False
        pair = torch.from_numpy(placed.target | new.target)[None].to(self.device)
        of_map = torch.from_numpy(labels).to(self.device)
        shown = paint_pairs(of_map, pair, self.networks.palette)
        scores = self.networks.order(shown)[0]
        return bool(scores[placed.category] > scores[new.category])


def back_to_front(network: Sims) -> dict[int, int]:
    """Return the layer of every class: by the Config, then by statistics."""
    shares = network.bank.behind.tolist()
    listed = list(network.config.layers)
    others = [label for label in range(network.num_classes) if label not in listed]
    others.sort(key=lambda label: (-shares[label], label))
    return {label: layer for layer, label in enumerate([*listed, *others])}
