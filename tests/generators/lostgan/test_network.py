"""LostGAN against the recorded outputs of the published networks, and its own promises."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import torch
from torch import nn

from synthaug.generators import lostgan as lostgan_system
from synthaug.generators.base import Layouts, SamplerOptions, TrainingBatch
from synthaug.generators.lostgan import network as lostgan
from tests import paths
from tests.parity.weights import recorded_weights

PARITY = paths.FIXTURES / "lostgan"
TINY = lostgan.Config(resolution=64, width=4, z_image=8, z_object=8, embedding=8, mask_hidden=8)


def layouts_of(file: np.lib.npyio.NpzFile) -> Layouts:
    """The recorded xywh boxes as a batch of layouts."""
    xywh = torch.from_numpy(file["boxes_xywh"])
    boxes = torch.cat([xywh[..., :2], xywh[..., :2] + xywh[..., 2:]], -1)
    labels = torch.from_numpy(file["labels"]).view(boxes.shape[:2])
    return Layouts(labels, boxes, torch.ones(labels.shape))


@pytest.mark.parametrize("name", ["g_v1_64", "g_v2_128"])
@pytest.mark.parametrize("align_corners", [True, False])
def test_generator_equals_the_published_models(name: str, align_corners: bool) -> None:
    file = np.load(PARITY / f"{name}.npz")
    sizes = {"version": 1, "resolution": 64, "embedding": 128} if name == "g_v1_64" else {}
    network = lostgan.LostGanGenerator(
        lostgan.Config(align_corners=align_corners, **sizes), 184
    ).eval()
    network.load_state_dict(recorded_weights(PARITY, name), strict=True)
    with torch.inference_mode():
        z_image, z_objects = torch.from_numpy(file["z_img"]), torch.from_numpy(file["z_obj"])
        images, _ = network(layouts_of(file), z_image, z_objects)
    expected = file["out_ac1" if align_corners else "out_ac0"]
    np.testing.assert_allclose(images.numpy(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("side", [64, 128])
def test_discriminator_equals_the_published_ones(side: int) -> None:
    file = np.load(PARITY / f"d_{side}.npz")
    network = lostgan.Discriminator(side, 64, 184).eval()
    network.load_state_dict(recorded_weights(PARITY, f"d_{side}", "obD."), strict=True)
    r = np.random.default_rng(zlib.crc32(f"image:{side}".encode()))
    coarse, noise = r.uniform(-1, 1, (2, 3, 8, 8)), r.uniform(-1, 1, (2, 3, side, side))
    image = 0.75 * coarse.repeat(side // 8, 2).repeat(side // 8, 3) + 0.25 * noise
    image[1] *= 0.5
    with torch.inference_mode():
        scores, objects = network(torch.tensor(image, dtype=torch.float32), layouts_of(file))
    np.testing.assert_allclose(scores.numpy(), file["out_img"][:, 0], rtol=0, atol=1e-5)
    np.testing.assert_allclose(
        objects.numpy(), file["out_obj_input_order"][:, 0], rtol=0, atol=1e-5
    )


def some_layouts(scores: tuple[float, ...] = (1.0, 1.0, 1.0)) -> Layouts:
    boxes = [[0.1, 0.1, 0.5, 0.6], [0.4, 0.3, 0.9, 0.9], [0.0, 0.5, 1.0, 1.0]]
    return Layouts.collate(
        [np.array([1, 2, 3]), np.array([2])],
        [np.array(boxes, np.float32), np.array(boxes[:1], np.float32)],
        [np.array(scores, np.float32), np.ones(1, np.float32)],
    )


def produce(config: lostgan.Config, layouts: Layouts, seeds: list[int]) -> np.ndarray:
    torch.manual_seed(0)
    network = lostgan_system.build(config, 5)
    network.train()
    with torch.no_grad():  # one training pass, so that the spectral norms know their weights
        network(layouts, torch.randn(len(layouts), 8), torch.randn(*layouts.labels.shape, 8))
    return lostgan_system.sampler(network, SamplerOptions()).sample(layouts, seeds).images


@pytest.mark.parametrize("background", [False, True])
def test_an_image_depends_on_its_layout_and_seed_only(background: bool) -> None:
    config = lostgan.Config(**{**vars(TINY), "background": background})
    torch.manual_seed(0)
    sampler = lostgan_system.sampler(lostgan_system.build(config, 5), SamplerOptions())
    both = some_layouts()
    alone = Layouts(both.labels[1:, :1], both.boxes[1:, :1], both.scores[1:, :1])
    together = sampler.sample(both, [7, 8]).images[1].astype(int)
    single = sampler.sample(alone, [8]).images[0].astype(int)
    assert np.abs(together - single).max() <= 1
    assert (sampler.sample(alone, [9]).images[0] != single).any()


def test_padded_slots_have_no_mask_and_objects_do() -> None:
    sampler = lostgan_system.sampler(lostgan_system.build(TINY, 5), SamplerOptions())
    masks = sampler.sample(some_layouts(), [1, 2]).masks
    assert masks is not None
    assert masks.shape == (2, 3, 64, 64)
    assert masks[1, 1:].max() == 0
    assert masks[0].max(axis=(1, 2)).min() > 0


def test_scores_weigh_the_discriminators_object_terms() -> None:
    """Eq. 15: with all scores zero the object terms vanish; halving them halves the terms; images terms do not move."""
    torch.manual_seed(0)
    objective = lostgan.LostGanObjective(TINY, 6)
    objective.networks["D"].eval()
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    full = some_layouts()

    def losses(factor: float) -> dict[str, float]:
        batch = TrainingBatch(images, Layouts(full.labels, full.boxes, full.scores * factor))
        terms = objective.discriminator_losses(batch, -images)
        return {name: loss.value.item() for name, loss in terms.items()}

    one, half, none = losses(1.0), losses(0.5), losses(0.0)
    assert none["d_object"] == 0
    assert half["d_object"] == pytest.approx(one["d_object"] / 2)
    assert half["d_image"] == pytest.approx(one["d_image"])


def test_images_without_objects_train() -> None:
    torch.manual_seed(0)
    objective = lostgan.LostGanObjective(TINY, 6)
    empty = Layouts.collate(
        [np.zeros(0, np.int64)] * 2,
        [np.zeros((0, 4), np.float32)] * 2,
        [np.zeros(0, np.float32)] * 2,
    )
    batch = TrainingBatch(torch.zeros(2, 3, 64, 64), empty)
    fake = objective.generate(batch, torch.Generator().manual_seed(0)).images
    terms = [
        *objective.generator_losses(batch, fake).values(),
        *objective.discriminator_losses(batch, fake.detach()).values(),
    ]
    total = torch.stack([loss.value for loss in terms]).sum()
    total.backward()
    assert torch.isfinite(total)


@pytest.mark.parametrize("resolution", [64, 128, 256, 512])
def test_every_resolution_is_the_same_code(resolution: int) -> None:
    config = lostgan.Config(**{**vars(TINY), "resolution": resolution, "width": 2})
    sampler = lostgan_system.sampler(lostgan_system.build(config, 5), SamplerOptions())
    made = sampler.sample(some_layouts(), [1, 2])
    assert made.images.shape == (2, resolution, resolution, 3)
    disc: nn.Module = lostgan.Discriminator(resolution, 2, 6)
    image, objects = disc(torch.zeros(2, 3, resolution, resolution), some_layouts())
    assert image.shape == (2,)
    assert objects.shape == (4,)


@pytest.mark.parametrize(("key", "value"), [("resolution", 100), ("width", 0), ("lambda_l1", -1.0)])
def test_impossible_settings_name_their_key(key: str, value: float) -> None:
    with pytest.raises(ValueError, match=key):
        lostgan.Config(**{key: value})


def test_per_image_weights_turn_a_mean_over_objects_into_the_mean_of_the_images_means() -> None:
    weights = lostgan.per_image_weights(some_layouts())  # three objects, then one
    terms = torch.tensor([1.0, 2.0, 6.0, 5.0])
    assert (terms * weights).mean().item() == pytest.approx((3.0 + 5.0) / 2)


@pytest.mark.parametrize("orthogonal", [False, True])
def test_a_larger_discriminator_starts_orthogonal_only_when_asked(orthogonal: bool) -> None:
    config = lostgan.Config(**{**vars(TINY), "resolution": 128, "orthogonal_d": orthogonal})
    d = lostgan.LostGanObjective(config, 6).networks["D"]
    rows = d.state_dict()["block2.conv1.weight_orig"].flatten(1)
    assert torch.allclose(rows @ rows.t(), torch.eye(len(rows)), atol=1e-5) == orthogonal
