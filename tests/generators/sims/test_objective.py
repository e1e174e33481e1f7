"""What the networks learn from: canvases of own pixels, distorted segments, other colors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from synthaug.generators import sims
from synthaug.generators.base import MapBatch
from synthaug.generators.sims.bank import Real
from synthaug.generators.sims.network import move
from synthaug.generators.sims.objective import (
    SCALE,
    SHIFT,
    Labelled,
    distortion,
    images_to_search,
    recolor,
    training_canvas,
    uncertain,
)
from synthaug.generators.sims.segments import segments_of
from synthaug.generators.sims.training import Loop
from tests.generators.sims.test_training import CLASSES, CONFIG, batch_of, training


def test_an_image_learns_from_the_segments_of_others_only() -> None:
    made = training()
    rng = np.random.default_rng(0)
    for source in range(6):
        allowed = images_to_search(made.bank, CONFIG, source, rng)
        assert not allowed[source] and allowed.sum() == 5
    few = images_to_search(made.bank, replace(CONFIG, among=3), -1, rng)
    assert few.sum() == 3
    # without the others nothing is covered
    alone = sims.training(CONFIG, Loop(), CLASSES, 1, seed=1)
    alone.remember([batch_of(0)])
    image = Labelled.of(batch_of(0), 0, CONFIG, CLASSES)
    assert len(image.large) == 2
    canvas, _ = training_canvas(image, alone.bank, CONFIG, CLASSES, rng)
    assert not canvas.any()
    stranger = batch_of(0)
    known = MapBatch(stranger.images, stranger.maps, None, torch.tensor([5]))
    image = Labelled.of(known, 0, CONFIG, CLASSES)
    canvas, labels = training_canvas(image, alone.bank, CONFIG, CLASSES, rng)
    own = ((stranger.images[0] + 1) / 2).permute(1, 2, 0).numpy()
    covered = (canvas > 0).all(2) & (canvas < 1).any(2)
    assert covered.mean() > 0.3
    assert np.isclose(canvas[covered], own[covered], atol=1e-3).all(1).mean() > 0.5
    np.testing.assert_array_equal(labels, stranger.maps.labels[0].numpy())


def test_labels_are_uncertain_beside_segments_where_the_map_follows() -> None:
    made = training()
    follows = replace(CONFIG, follow="canvas")
    image = Labelled.of(batch_of(0), 0, CONFIG, CLASSES)
    rng = np.random.default_rng(0)
    _, labels = training_canvas(image, made.bank, follows, CLASSES, rng)
    assert (labels == CLASSES).any()
    mask = np.zeros((64, 64), bool)
    mask[20:40, 20:40] = True
    real = Real(np.zeros((64, 64, 3), np.float32), np.roll(mask, 5, 1), mask, mask)
    parts = [uncertain(mask, real, np.random.default_rng(seed)) for seed in range(6)]
    assert not any((part & mask).any() for part in parts)
    assert len({int(part.sum()) for part in parts}) > 1


def test_a_distorted_segment_stays_near_its_place() -> None:
    segment = segments_of(batch_of(0).maps.labels[0].numpy(), CLASSES)[1]
    frame = torch.from_numpy(segment.in_frame((64, 64))).float()[None, None]
    theta = torch.tensor([distortion(segment, (64, 64), np.random.default_rng(3))])
    moved = move(frame, theta) > 0.5
    there = frame > 0.5
    iou = (moved & there).sum() / (moved | there).sum()
    assert 0.7 < float(iou) < 1


def test_a_segment_is_scaled_a_little_and_shifted_by_shares_of_its_own_sides() -> None:
    labels = np.zeros((32, 128), np.int64)
    labels[4:8, 20:116] = 1
    segment = segments_of(labels, 2)[1]
    row, column = 6 - 16, 68 - 64  # its middle, seen from that of the image
    rng = np.random.default_rng(0)
    changes = []
    for _ in range(50):
        inverse, _, across, _, same, down = distortion(segment, (32, 128), rng)
        assert same == inverse
        shifts = (row - down) / inverse - row, (column - across) / inverse - column
        changes.append((1 / inverse - 1, shifts[0] / 4, shifts[1] / 96))
    most = np.abs(changes).max(0)
    limits = np.array([SCALE, SHIFT, SHIFT])
    assert (most <= limits + 1e-6).all() and (most > 0.8 * limits).all()


def test_colors_are_spread_as_the_other_segments() -> None:
    rng = np.random.default_rng(0)
    own = rng.uniform(0.3, 0.5, (32, 32, 3)).astype(np.float32)
    mask = np.ones((32, 32), bool)
    mask[:, 16:] = False
    colors = rng.normal(0.5, (0.02, 0.05, 0.08), (32, 32, 3)).astype(np.float32)
    real = Real(colors, mask, mask, mask)
    changed = recolor(own, mask, real)
    np.testing.assert_allclose(changed[mask].mean(0), colors[mask].mean(0), atol=1e-3)
    np.testing.assert_allclose(changed[mask].std(0), colors[mask].std(0), atol=5e-3)
    np.testing.assert_array_equal(changed[~mask], own[~mask])
    nothing = Real(colors, mask & False, mask, mask)
    assert recolor(own, mask, nothing) is own
