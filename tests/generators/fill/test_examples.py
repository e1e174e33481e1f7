"""Examples: real objects that are shown to the network, and that it paints after."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from synthaug.generators.base import Edit, Example, Painting, Photo, PhotoBatch
from synthaug.generators.fill.config import Config
from synthaug.generators.fill.drawing import draw_windows, own_example
from synthaug.generators.fill.edits import brought_to, task_of
from synthaug.generators.fill.flow import fill, noise_for
from synthaug.generators.fill.geometry import object_region, outline_region
from synthaug.generators.fill.network import FillNetwork
from synthaug.generators.fill.training import FlowTraining
from synthaug.generators.fill.windows import Windows
from tests.generators.fill.fill_windows import CLASSES, LOOP, SMALL

RED, GREEN = (255, 0, 0), (0, 255, 0)


def plain(color: tuple[int, int, int], height: int = 4, width: int = 6) -> Example:
    """Return an example of one color whose left half alone is the object."""
    pixels = np.zeros((height, width, 3), np.uint8) + np.array(color, np.uint8)
    mask = np.zeros((height, width), np.float32)
    mask[:, : width // 2] = 1
    return Example(pixels, mask)


def box(*edges: float) -> np.ndarray:
    return np.array(edges, np.float32)


def one_object(label: int = 1) -> Photo:
    """Return a gray photo with a red object that covers the upper half of its box."""
    image = np.full((32, 48, 3), 128, np.uint8)
    image[8:12, 10:26] = RED
    mask = np.zeros((32, 48), bool)
    mask[8:12, 10:26] = True
    boxes = box(10, 8, 26, 16)[None]
    return Photo(image, np.array([label]), boxes, mask_of=lambda number: mask)


def test_an_example_is_brought_to_its_box() -> None:
    shown = brought_to(plain(RED), box(2, 4, 14, 12), 16)
    colors, mask = shown[:3], shown[3]
    inner = mask[4:12, 2:7]
    assert float(inner.amin()) > 0.9
    assert float(mask.sum()) == pytest.approx(8 * 6, abs=0.5)  # half of 8 rows of 12 pixels
    torch.testing.assert_close(colors[0][4:12, 2:7], inner)  # red in [-1, 1]
    torch.testing.assert_close(colors[1][4:12, 2:7], -inner)
    assert not shown[:, :, 10:].any()  # where the object is not, nothing is shown
    assert not shown[:, :4].any()


def test_a_mirrored_example_is_shown_mirrored() -> None:
    example = plain(RED)
    mirrored = Example(example.pixels[:, ::-1], example.mask[:, ::-1])
    shown = brought_to(mirrored, box(2, 4, 14, 12), 16)
    assert torch.equal(
        shown[3, :, 2:14], brought_to(example, box(2, 4, 14, 12), 16)[3, :, 2:14].flip(1)
    )


def test_what_lies_outside_the_window_is_cut_off() -> None:
    shown = brought_to(plain(RED), box(-8, -4, 4, 4), 16)
    assert not shown.any()  # its left half is out of sight
    shown = brought_to(plain(RED), box(12, 12, 24, 20), 16)
    assert shown[3].nonzero().amin(0).tolist() == [12, 12]
    assert not brought_to(plain(RED), box(20, 20, 30, 30), 16).any()


def test_added_colors_change_the_object_alone() -> None:
    green = brought_to(plain(GREEN), box(2, 4, 14, 12), 16)
    darker = brought_to(plain(GREEN), box(2, 4, 14, 12), 16, (0.0, -0.5, 0.0))
    difference = green - darker
    torch.testing.assert_close(difference[1], 0.5 * green[3], atol=0.05, rtol=0)
    assert not difference[[0, 2, 3]].any()


def test_an_object_is_the_example_of_itself() -> None:
    example = own_example(one_object(), 0)
    assert example.pixels.shape == (8, 16, 3)
    assert example.mask.tolist() == [[1] * 16] * 4 + [[0] * 16] * 4
    assert bool((example.pixels[:4] == RED).all())
    without_mask = replace(one_object(), mask_of=lambda number: None)
    assert own_example(without_mask, 0).mask is None


def test_an_example_of_an_object_cut_by_the_border_has_pixels() -> None:
    outside = replace(one_object(), boxes=box(-4, 30, 0.2, 40)[None])
    assert own_example(outside, 0).pixels.shape == (2, 1, 3)


def drawn(config: Config, **changes: float) -> Windows:
    loop = replace(LOOP, **changes)
    windows = draw_windows([one_object()] * 100, config, loop, CLASSES, 0)
    return windows[0]


def is_shown(windows: Windows) -> Tensor:
    return windows.example[:, 3].amax((1, 2)) > 0


def test_objects_are_shown_and_neither_seams_nor_background() -> None:
    windows = drawn(SMALL, shown=1.0, background=0.3, ring=0.3)
    assert torch.equal(is_shown(windows), windows.labels == 1)
    assert 20 < int(is_shown(windows).sum()) < 70
    some = drawn(SMALL, shown=0.5, background=0.0, ring=0.0)
    assert 30 < int(is_shown(some).sum()) < 70
    assert not is_shown(drawn(SMALL, shown=0.0)).any()
    assert not is_shown(drawn(replace(SMALL, examples=False), shown=1.0)).any()


def test_a_shown_object_lies_near_its_place_and_never_quite_there() -> None:
    """Or the network would learn to copy pixels, and not where they go."""
    windows = drawn(SMALL, shown=1.0, background=0.0, ring=0.0)
    masks = windows.example[:, 3] > 0.5
    boxes = windows.box[:, 0] > 0
    inside = (masks & boxes).sum((1, 2)) / masks.sum((1, 2))
    assert float(inside.mean()) > 0.85
    places = {tuple(mask.nonzero().flatten().tolist()) for mask in masks if mask.any()}
    assert len(places) > 20
    # the mask is the upper half of the box
    rows = torch.arange(masks.shape[-1])[None, :, None]
    middle_of_mask = (masks * rows).sum((1, 2)) / masks.sum((1, 2))
    middle_of_box = (boxes * rows).sum((1, 2)) / boxes.sum((1, 2))
    assert bool((middle_of_mask < middle_of_box).all())


def test_a_turned_window_turns_its_example() -> None:
    windows = drawn(SMALL, shown=1.0, background=0.0, ring=0.0, turns=True)
    for row in range(len(windows)):
        seen = windows.example[row, 3] > 0.5
        is_red = windows.pixels[row, 0] - windows.pixels[row, 1] > 1
        overlap = (seen & is_red).sum() / (seen | is_red).sum()
        assert float(overlap) > 0.5


def test_only_objects_are_painted_after_examples() -> None:
    there = one_object()
    for shows in ("object", "background", "seam"):
        painting = Painting(2, box(28, 8, 40, 20), shows, example=plain(RED))  # type: ignore[arg-type]
        task = task_of(Edit(there, [painting]), 0, there.image, SMALL, CLASSES)
        assert bool(task.content.example.any()) == (shows == "object")
    without = Painting(2, box(28, 8, 40, 20))
    task = task_of(Edit(there, [without]), 0, there.image, SMALL, CLASSES)
    assert not task.content.example.any()


def colored(row: int) -> Photo:
    """Return a photo with an object that is red or green, which its class does not tell."""
    photo = one_object()
    image = photo.image.copy()
    image[8:16, 10:26] = (RED, GREEN)[row % 2]
    return replace(photo, image=image, mask_of=None)


def test_what_is_painted_has_the_colors_of_the_example() -> None:
    config = replace(SMALL, resolutions=(16,))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = FillNetwork(config, CLASSES)
    loop = replace(LOOP, shown=1.0, background=0.0, ring=0.0, class_dropout=0.0, lr=1e-2)
    run = FlowTraining(network, loop, 60, 0)
    batch = PhotoBatch([colored(row) for row in range(6)])
    for index in range(60):
        run.step(index, batch)
    there = replace(
        one_object(), categories=np.zeros(0, np.int64), boxes=np.zeros((0, 4), np.float32)
    )
    redness = []
    for color in (RED, GREEN):
        example = replace(plain(color), mask=None)
        painting = Painting(1, box(28, 18, 44, 26), example=example)
        task = task_of(Edit(there, [painting]), 0, there.image, config, CLASSES)
        painted = fill(run.averaged, task.content, noise_for([3], 16), 4, 1.0)
        inside = task.content.box[0, 0] > 0
        redness.append(float((painted[0, 0] - painted[0, 1])[inside].mean()))
    of_red, of_green = redness
    assert of_red > 0.3
    assert of_green < -0.3


def test_a_network_without_examples_has_no_channels_for_them() -> None:
    plain_network = FillNetwork(replace(SMALL, examples=False), CLASSES)
    shown = FillNetwork(SMALL, CLASSES)
    assert shown.conv_in.in_channels - plain_network.conv_in.in_channels == 4
    assert (plain_network.conv_out.out_channels, shown.conv_out.out_channels) == (3, 4)


def test_a_network_that_copies_ends_at_the_example() -> None:
    """The gate alone, wide open: the flow leads every pixel that is shown to its color.

    All but a little: in the last tenth of the time the gate asks for less than the whole way.
    """
    config = replace(SMALL, resolutions=(16,))
    network = FillNetwork(config, CLASSES).eval()
    there = one_object()
    example = replace(plain(RED), mask=np.ones((4, 6), np.float32))
    painting = Painting(1, box(28, 18, 44, 26), example=example)
    task = task_of(Edit(there, [painting]), 0, there.image, config, CLASSES)
    with torch.no_grad():
        assert network.conv_out.bias is not None
        network.conv_out.bias[3] = 1.0  # all other weights of the last layer are 0
    noise = noise_for([3], 16)
    painted = fill(network, task.content, noise, 10, 1.0)
    is_shown_there = task.content.example[:, 3:] > 0.99
    example = task.content.example[:, :3]
    difference = (painted - example).abs() * is_shown_there
    at_first = (noise - example).abs() * is_shown_there
    assert float(difference.max()) < 0.05 * float(at_first.max())


def inner_box(region: Tensor) -> list[int]:
    """Return first row, first column, last row and last column of a region [S, S]."""
    places = region.nonzero()
    return [*places.amin(0).tolist(), *places.amax(0).tolist()]


def test_of_an_object_without_a_mask_the_middle_of_its_box_is_shown() -> None:
    shown = brought_to(replace(plain(RED), mask=None), box(2, 4, 14, 12), 16)
    mask = shown[3]
    assert float(mask[7:9, 7:9].min()) > 0.9
    corners = mask[[4, 4, 11, 11], [2, 13, 2, 13]]
    assert float(corners.max()) < 0.2
    assert torch.equal(shown[0], mask)  # red is 1 in [-1, 1]
    # mirrored both ways it is the same
    assert torch.allclose(mask[4:12, 2:14], mask[4:12, 2:14].flip(0, 1), atol=1e-6)


def test_an_object_without_a_mask_is_painted_in_its_whole_box() -> None:
    place = box(28, 8, 44, 20)
    by_box = replace(plain(RED), mask=None)
    assert torch.equal(region_of(Painting(2, place, example=by_box)), region_of(Painting(2, place)))
    photo = replace(one_object(), mask_of=None)
    loop = replace(LOOP, shown=1.0, background=0.0, ring=0.0, outlines=1.0)
    windows = draw_windows([photo] * 20, SMALL, loop, CLASSES, 0)[0]
    whole = draw_windows([photo] * 20, SMALL, replace(loop, shown=0.0), CLASSES, 0)[0]
    assert float(windows.region.sum((1, 2, 3)).min()) > 0.8 * float(
        whole.region.sum((1, 2, 3)).min()
    )


def test_an_outline_has_a_margin_and_stays_in_the_region_of_its_box() -> None:
    mask = torch.zeros(32, 32)
    mask[12:14, 10:12] = 1
    of_box = object_region(box(8, 8, 24, 20), 0.1, 32)
    region = outline_region(mask, box(8, 8, 24, 20), 0.1)
    assert inner_box(region) == [9, 7, 16, 14]  # 0.1 of 16 pixels and one: three
    assert bool((region <= of_box).all())
    corner = torch.zeros(32, 32)
    corner[8:20, 8:24] = 1
    assert torch.equal(outline_region(corner, box(8, 8, 24, 20), 0.1), of_box)
    nothing = torch.zeros(32, 32)
    assert torch.equal(outline_region(nothing, box(8, 8, 24, 20), 0.1), of_box)


def region_of(painting: Painting) -> Tensor:
    there = one_object()
    return task_of(Edit(there, [painting]), 0, there.image, SMALL, CLASSES).content.region[0, 0]


def test_an_object_that_replaces_nothing_is_painted_in_its_outline() -> None:
    place = box(28, 8, 44, 20)
    whole = region_of(Painting(2, place))
    outline = region_of(Painting(2, place, example=plain(RED)))
    assert bool((outline <= whole).all())
    assert 0.4 < float(outline.sum() / whole.sum()) < 0.8  # the example is the left half


def test_what_is_replaced_is_painted_over_whole() -> None:
    place = one_object().boxes[0]
    example = plain(GREEN)
    whole = region_of(Painting(2, place, replaces=0))
    assert torch.equal(region_of(Painting(2, place, replaces=0, example=example)), whole)
    right_half = np.zeros((32, 48), bool)
    right_half[8:16, 18:26] = True
    both = Painting(2, place, replaces=0, mask=right_half, example=example)
    assert torch.equal(region_of(both), whole)  # left half: the new one, right half: the old one
    left_half = np.roll(right_half, -8, axis=1)
    half = region_of(Painting(2, place, replaces=0, mask=left_half, example=example))
    assert float(half.sum()) < 0.8 * float(whole.sum())


def kept_of(painting: Painting) -> Tensor:
    there = one_object()
    return task_of(Edit(there, [painting]), 0, there.image, SMALL, CLASSES).kept


def test_of_an_object_with_an_outline_no_margin_comes_into_the_photo() -> None:
    place = box(12, 8, 28, 24)  # a window at the photo's own scale
    square = Example(np.full((16, 16, 3), 255, np.uint8), np.ones((16, 16), np.float32))
    painting = Painting(2, place, example=square)
    region, kept = region_of(painting), kept_of(painting)
    assert inner_box(kept)[2] - inner_box(kept)[0] == 16 + 2 - 1  # a pixel on both sides
    assert float(kept.sum()) < float(region.sum())
    assert bool((kept <= region).all())
    without = replace(square, mask=None)
    by_box = Painting(2, place, example=without)
    assert torch.equal(kept_of(by_box), region_of(by_box))
    alone = Painting(2, place)
    assert torch.equal(kept_of(alone), region_of(alone))


def test_what_has_to_go_comes_into_the_photo_painted_over() -> None:
    place = box(20, 12, 28, 20)
    left = np.zeros((8, 8), np.float32)
    left[:, :4] = 1
    example = Example(np.full((8, 8, 3), 255, np.uint8), left)
    there = np.zeros((32, 48), bool)
    there[12:20, 20:28] = True
    new = kept_of(Painting(2, place, example=example))
    over = kept_of(Painting(2, place, replaces=0, mask=there, example=example))
    assert float(over.sum()) > 1.5 * float(new.sum())
    assert bool((new <= over).all())
    # of which only the box is known: all of it
    box_only = Painting(2, place, replaces=0, example=example)
    assert torch.equal(kept_of(box_only), region_of(box_only))


def test_an_example_of_the_size_of_its_place_is_shown_as_it_is() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (8, 12, 3), dtype=np.uint8)
    example = Example(pixels, np.ones((8, 12), np.float32))
    shown = brought_to(example, box(2, 4, 14, 12), 16)
    as_planes = torch.from_numpy(pixels).permute(2, 0, 1).float() / 127.5 - 1
    torch.testing.assert_close(shown[:3, 4:12, 2:14], as_planes, atol=1e-5, rtol=0)
    larger = brought_to(example, box(0, 0, 16, 16), 16)
    assert float(larger[3].amax()) <= 1
    assert bool((larger[:3].abs() <= larger[3]).all())  # nothing is brighter than white


def test_some_objects_are_learned_in_their_outlines() -> None:
    sizes = {}
    for share in (0.0, 0.5, 1.0):
        windows = drawn(SMALL, shown=1.0, background=0.0, ring=0.0, outlines=share)
        sizes[share] = windows.region.sum((1, 2, 3))
    is_smaller = sizes[0.5] < 0.9 * sizes[0.0].amin()
    assert 25 < int(is_smaller.sum()) < 75
    assert bool((sizes[1.0] < 0.9 * sizes[0.0].amin()).all())
