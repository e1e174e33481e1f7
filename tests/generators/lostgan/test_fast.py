"""Fast inference against the network and the published equations.

The network against the equations, in training too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from synthaug.generators import lostgan as lostgan_system
from synthaug.generators.base import PAD_BOX, Layouts, TrainingBatch
from synthaug.generators.lostgan import network as lostgan
from synthaug.generators.lostgan.discriminator import Discriminator
from synthaug.generators.lostgan.fast import FastGenerator, visible_slots
from synthaug.generators.lostgan.fast_masks import FastHead
from synthaug.generators.nn.upsample_conv import DoublingConv
from synthaug.generators.nn.winograd import SameConv
from synthaug.generators.training.adversarial import AdversarialTraining
from synthaug.generators.training.adversarial import Config as TrainingConfig
from tests import direct_lostgan
from tests.parity.lostgan_discriminator import recorded_image
from tests.parity.weights import recorded_weights

TINY: dict[str, Any] = {
    "resolution": 64,
    "width": 3,
    "z_image": 6,
    "z_object": 5,
    "embedding": 4,
    "mask_hidden": 7,
}
CLASSES = 5
COUNTS = {"ragged": (4, 2, 1), "one": (1, 1, 1), "empty": (0, 0, 0), "one_empty": (3, 0, 2)}


def layouts_of(counts: tuple[int, ...], slots: int = 5, seed: int = 0) -> Layouts:
    """Random objects first, then padding.

    Box corners on a lattice, so that no reading of them rounds.
    """
    rng = np.random.default_rng(seed)
    labels = torch.zeros(len(counts), slots, dtype=torch.int64)
    boxes = torch.tensor(PAD_BOX).repeat(len(counts), slots, 1)
    for i, count in enumerate(counts):
        low = rng.integers(0, 40, (count, 2))
        corners = (
            np.concatenate([low, low + rng.integers(12, 40, (count, 2))], 1) / 64
        )  # some reach over the border
        boxes[i, :count] = torch.from_numpy(corners.astype(np.float32))
        labels[i, :count] = torch.from_numpy(rng.integers(1, CLASSES + 1, count))
    return Layouts(labels, boxes, torch.ones(labels.shape))


def network_of(**settings: Any) -> lostgan.LostGanGenerator:
    """Random weights whose norms are all at work.

    Statistics off their defaults, spectral norms converged.
    """
    torch.manual_seed(0)
    network = lostgan_system.build(lostgan.Config(**{**TINY, **settings}), CLASSES)
    state = network.state_dict()
    for key, value in state.items():
        if key.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif key.endswith(("running_mean", "bias")):
            value.normal_(std=0.2)
    network.load_state_dict(direct_lostgan.power_iterated(state))
    return network.eval()


def inputs_of(
    network: lostgan.LostGanGenerator, counts: tuple[int, ...]
) -> tuple[Layouts, Tensor, Tensor]:
    config, layouts = network.config, layouts_of(counts)
    layouts = lostgan.with_background(layouts) if config.background else layouts
    rng = torch.Generator().manual_seed(1)
    z_objects = torch.randn(*layouts.labels.shape, config.z_object, generator=rng)
    return layouts, torch.randn(len(layouts), config.z_image, generator=rng), z_objects


def xywh(layouts: Layouts) -> Tensor:
    return torch.cat([layouts.boxes[..., :2], layouts.boxes[..., 2:] - layouts.boxes[..., :2]], -1)


def directly(
    network: lostgan.LostGanGenerator, layouts: Layouts, z_image: Tensor, z_objects: Tensor
) -> Tensor:
    config = network.config
    return direct_lostgan.generator(
        network.state_dict(),
        config.version,
        config.resolution,
        layouts.labels,
        xywh(layouts),
        z_image,
        z_objects,
        config.align_corners,
    )


SETTINGS: list[dict[str, Any]] = [
    {"version": 1},
    {"version": 1, "resolution": 128, "width": 2},
    {"version": 2},
    {"resolution": 128, "width": 2},  # with the pyramid
    {"resolution": 256, "width": 1},
    {"width": 32},  # wide enough for the forms with sums
    {"background": True},
    {"align_corners": False},
    {"mask_labels": CLASSES + 4},
]
ABLATIONS: list[dict[str, Any]] = [
    {"clip_masks": True},
    {"layout_to_mask": False},
    {"refine_stages": 0},
    {"refine_stages": 2},
]


def named(settings: dict[str, Any]) -> str:
    return "-".join(f"{key}={value}" for key, value in settings.items())


@pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS)
@pytest.mark.parametrize("settings", SETTINGS, ids=named)
@torch.inference_mode()
def test_network_and_fast_form_are_the_published_equations(
    settings: dict[str, Any], counts: tuple[int, ...]
) -> None:
    network = network_of(**settings)
    inputs = inputs_of(network, counts)
    expected = directly(network, *inputs)
    assert expected.std() > 0.01
    torch.testing.assert_close(network(*inputs)[0], expected, rtol=0, atol=1e-5)
    # two ways of rounding apart, with one thread and with many
    torch.testing.assert_close(FastGenerator(network)(*inputs)[0], expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS)
@pytest.mark.parametrize("settings", [*SETTINGS, *ABLATIONS], ids=named)
@torch.inference_mode()
def test_fast_form_gives_the_images_and_masks_of_the_network(
    settings: dict[str, Any], counts: tuple[int, ...]
) -> None:
    network = network_of(**settings)
    inputs = inputs_of(network, counts)
    images, stacks = network(*inputs)
    fast_images, fast_stacks = FastGenerator(network)(*inputs)
    # float32 sums in another order: 1e-5 with AVX-512, twice that on CPUs without
    torch.testing.assert_close(fast_images, images, rtol=0, atol=3e-5)
    torch.testing.assert_close(fast_stacks, stacks, rtol=0, atol=3e-5)


@pytest.mark.parametrize("settings", SETTINGS, ids=named)
@torch.inference_mode()
def test_bfloat16_is_close(settings: dict[str, Any]) -> None:
    network = network_of(**settings)
    inputs = inputs_of(network, COUNTS["ragged"])
    images, stacks = network(*inputs)
    fast_images, fast_stacks = FastGenerator(network, torch.bfloat16)(*inputs)
    assert fast_images.dtype == torch.float32
    # so few channels average out little rounding; the published widths stay within 4e-2 at every
    # pixel (below)
    assert (fast_images - images).square().mean().sqrt() < 0.015
    assert (fast_stacks[-1] - stacks[-1]).abs().max() < 4e-2


@torch.inference_mode()
def test_an_image_does_not_depend_on_padding_or_on_its_batch() -> None:
    network = network_of(width=32)
    fast = FastGenerator(network)
    layouts, z_image, z_objects = inputs_of(network, (4, 2, 1))
    together = fast(layouts, z_image, z_objects)[0]
    alone = Layouts(layouts.labels[1:2, :2], layouts.boxes[1:2, :2], layouts.scores[1:2, :2])
    single = fast(alone, z_image[1:2], z_objects[1:2, :2])[0]
    torch.testing.assert_close(single[0], together[1], rtol=0, atol=1e-5)
    z_objects[1, 2:] += 3  # of slots that are padding
    torch.testing.assert_close(fast(layouts, z_image, z_objects)[0], together, rtol=0, atol=0)
    z_objects[1, 0] += 3
    assert (fast(layouts, z_image, z_objects)[0][1] - together[1]).abs().max() > 1e-3


@torch.inference_mode()
def test_slots_that_show_are_found_wherever_they_are() -> None:
    """Padding before and between objects, as a background after padding makes it."""
    network = network_of()
    layouts, z_image, z_objects = inputs_of(network, (4, 2, 1))
    shuffled = torch.tensor([[4, 0, 3, 1, 2], [2, 1, 3, 4, 0], [3, 2, 1, 0, 4]])
    moved = Layouts(
        layouts.labels.gather(1, shuffled),
        layouts.boxes.gather(1, shuffled[..., None].expand(-1, -1, 4)),
        layouts.scores,
    )
    z_moved = z_objects.gather(1, shuffled[..., None].expand_as(z_objects))
    order, shown = visible_slots(moved.boxes)
    assert order.shape == (3, 4)
    assert shown.sum(1).tolist() == [4, 2, 1]
    images, stacks = FastGenerator(network)(layouts, z_image, z_objects)
    images_moved, stacks_moved = FastGenerator(network)(moved, z_image, z_moved)
    torch.testing.assert_close(images_moved, images, rtol=0, atol=1e-5)
    expected = stacks[-1].gather(1, shuffled[..., None, None].expand_as(stacks[-1]))
    torch.testing.assert_close(stacks_moved[-1], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("side", [1, 2, 4, 6])
@torch.inference_mode()
def test_every_form_of_a_convolution_is_the_convolution(side: int) -> None:
    torch.manual_seed(side)
    weight, bias = torch.randn(5, 3, 3, 3), torch.randn(5)
    x, shortcut = torch.randn(2, 2 * side, side * 2, 3), torch.randn(5, 4, 1, 1)
    low = torch.randn(2, side, side, 4)
    expected = torch.nn.functional.conv2d(x.permute(0, 3, 1, 2), weight, bias, padding=1).permute(
        0, 2, 3, 1
    )
    added = (low @ shortcut[:, :, 0, 0].t()).repeat_interleave(2, 1).repeat_interleave(2, 2)
    for tile in (1, 2, 4) if side % 2 == 0 else (1, 2):
        torch.testing.assert_close(
            SameConv(weight, bias, None, tile)(x), expected, rtol=0, atol=1e-4
        )
        torch.testing.assert_close(
            SameConv(weight, bias, shortcut, tile)(x, low), expected + added, rtol=0, atol=1e-4
        )
    doubled = x.repeat_interleave(2, 1).repeat_interleave(2, 2).permute(0, 3, 1, 2)
    expected = torch.nn.functional.conv2d(doubled, weight, bias, padding=1).permute(0, 2, 3, 1)
    for form in ("pairs", "steps", "transposed"):
        torch.testing.assert_close(DoublingConv(weight, bias, form)(x), expected, rtol=0, atol=1e-4)


def test_all_fast_forms_are_at_work_in_these_tests() -> None:
    wide, pyramid = (
        FastGenerator(network_of(width=32)),
        FastGenerator(network_of(resolution=128, width=2)),
    )
    assert {"pairs", "steps", "transposed"} == {
        module.form for module in wide.modules() if isinstance(module, DoublingConv)
    }
    assert {1, 2, 4} == {module.tile for module in wide.modules() if isinstance(module, SameConv)}
    assert any(
        module.pooled is not None for module in pyramid.modules() if isinstance(module, FastHead)
    )


@pytest.mark.parametrize("resolution", [64, 128, 256])
def test_discriminator_is_the_published_equations(resolution: int) -> None:
    torch.manual_seed(0)
    network = Discriminator(resolution, 3, CLASSES + 1)
    network.load_state_dict(direct_lostgan.power_iterated(network.state_dict()))
    layouts = layouts_of((4, 2, 1))
    images = torch.randn(3, 3, resolution, resolution)
    with torch.inference_mode():
        scores, objects = network.eval()(images, layouts)
        direct = direct_lostgan.discriminator(
            network.state_dict(), resolution, images, layouts.labels, xywh(layouts)
        )
    torch.testing.assert_close(
        (scores, objects), (direct[0][:, 0], direct[1][:, 0]), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(("version", "resolution"), [(1, 64), (2, 128)])
def test_a_training_step_is_the_published_one(version: int, resolution: int) -> None:
    settings = {**TINY, "version": version, "resolution": resolution}
    torch.manual_seed(0)
    objective = lostgan.LostGanObjective(lostgan.Config(**settings), CLASSES + 1)
    g, d = objective.networks["G"], objective.networks["D"]
    for network in (g, d):
        network.load_state_dict(direct_lostgan.power_iterated(network.state_dict()))
    training = direct_lostgan.Training.of(version, resolution, g.state_dict(), d.state_dict())
    layouts = layouts_of((4, 2, 3))
    batch = TrainingBatch(torch.rand(3, 3, resolution, resolution) * 2 - 1, layouts)
    _leave_out_dropout(g)
    drawn: list[tuple[Tensor, Tensor]] = []
    g.register_forward_pre_hook(lambda _, given: drawn.append(given[1:]))
    ours = AdversarialTraining(objective, TrainingConfig(), steps=10, seed=0).step(0, batch)
    theirs = training.step(batch.images, layouts.labels, xywh(layouts), *drawn[0], dropout=0.0)

    assert ours["d_object"].item() == pytest.approx(
        (theirs["d_obj_real"] + theirs["d_obj_fake"]).item(), abs=1e-5
    )
    assert ours["d_image"].item() == pytest.approx(
        0.1 * (theirs["d_img_real"] + theirs["d_img_fake"]).item(), abs=1e-5
    )
    assert ours["g_object"].item() == pytest.approx(theirs["g_obj"].item(), abs=1e-4)
    assert ours["g_image"].item() == pytest.approx(0.1 * theirs["g_img"].item(), abs=1e-4)
    assert ours["g_l1"].item() == pytest.approx(theirs["l1"].item(), abs=1e-5)
    for network, state in ((g, training.g), (d, training.d)):
        for key, value in network.state_dict().items():
            if value.is_floating_point():
                # Adam's first step is the learning rate times the sign of a gradient, which
                # rounding may turn
                assert (value - state[key].detach()).abs().max() < 3e-4, key
                assert (value - state[key].detach()).abs().mean() < 5e-5 or key.endswith("bias"), (
                    key
                )


def _leave_out_dropout(network: torch.nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout2d):
            module.p = 0.0


@pytest.mark.parametrize(("name", "align_corners"), [("g_v1_64", False), ("g_v2_128", True)])
@torch.inference_mode()
def test_fast_form_equals_the_published_models(name: str, align_corners: bool) -> None:
    file = np.load(direct_lostgan.PARITY / f"{name}.npz")
    state = recorded_weights(direct_lostgan.PARITY, name)
    boxes, labels = torch.from_numpy(file["boxes_xywh"]), torch.from_numpy(file["labels"])
    latents = torch.from_numpy(file["z_img"]), torch.from_numpy(file["z_obj"])
    expected = torch.from_numpy(file[f"out_ac{int(align_corners)}"])
    sizes: dict[str, Any] = (
        {"version": 1, "resolution": 64, "embedding": 128} if name == "g_v1_64" else {}
    )
    network = lostgan.LostGanGenerator(
        lostgan.Config(align_corners=align_corners, **sizes), 184
    ).eval()
    network.load_state_dict(state)
    layouts = Layouts(
        labels,
        torch.cat([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], -1),
        torch.ones(labels.shape),
    )
    version, resolution = network.config.version, network.config.resolution
    direct = direct_lostgan.generator(
        state, version, resolution, labels, boxes, *latents, align_corners
    )
    torch.testing.assert_close(direct, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(
        FastGenerator(network)(layouts, *latents)[0], expected, rtol=0, atol=1e-5
    )
    bfloat16 = FastGenerator(network, torch.bfloat16)(layouts, *latents)[0]
    torch.testing.assert_close(bfloat16, expected, rtol=0, atol=4e-2)


@pytest.mark.parametrize("side", [64, 128])
@torch.inference_mode()
def test_direct_discriminator_equals_the_published_ones(side: int) -> None:
    file = np.load(direct_lostgan.PARITY / f"d_{side}.npz")
    boxes, labels = torch.from_numpy(file["boxes_xywh"]), torch.from_numpy(file["labels"])
    state = recorded_weights(direct_lostgan.PARITY, f"d_{side}", "obD.")
    image, objects = direct_lostgan.discriminator(state, side, recorded_image(side), labels, boxes)
    np.testing.assert_allclose(image.numpy(), file["out_img"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(objects.numpy(), file["out_obj_input_order"], rtol=0, atol=1e-5)


def test_direct_training_step_equals_the_recorded_one() -> None:
    file, given = (
        np.load(direct_lostgan.PARITY / "step_v1_64.npz"),
        np.load(direct_lostgan.PARITY / "g_v1_64.npz"),
    )
    weights = (
        recorded_weights(direct_lostgan.PARITY, name, p)
        for name, p in (("g_v1_64", ""), ("d_64", "obD."))
    )
    training = direct_lostgan.Training.of(1, 64, *weights)
    inputs = (torch.from_numpy(given[key]) for key in ("labels", "boxes_xywh", "z_img", "z_obj"))
    terms = training.step(recorded_image(64), *inputs)
    for name in terms:  # recorded on a CPU with AVX-512, where the bound of 1e-5 holds
        np.testing.assert_allclose(terms[name].numpy(), file[name], rtol=0, atol=3e-5, err_msg=name)
    for key in ("fc.weight_u", "mask_regress.conv1.1.running_var", "final.0.running_mean"):
        np.testing.assert_allclose(
            training.g[key].numpy(), file[f"after/G/{key}"], rtol=0, atol=1e-6, err_msg=key
        )
