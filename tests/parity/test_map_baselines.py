"""Recordings of pix2pix and CRN are compared at any size, and damaged ones are noticed.

The recordings are our own networks' at small sizes, in the form of the published ones'.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from synthaug.generators.base import Maps
from synthaug.generators.crn.config import DIVERSE, Config
from synthaug.generators.crn.losses import RegressionLoss, nearest_image
from synthaug.generators.crn.network import CascadedRefinement
from synthaug.generators.crn.official import with_our_names
from synthaug.generators.pix2pix.network import PatchDiscriminator
from synthaug.generators.spade.semantics import semantics
from tests.parity import crn, pix2pix
from tests.parity.baselines import Fixture, sums_of
from tests.parity.weights import Keys, read_keys, rebuild

Arrays = dict[str, Any]
TOLERANCE = 1e-4


def write(folder: Path, name: str, arrays: Mapping[str, Any]) -> None:
    kept = {key: np.asarray(value) for key, value in arrays.items()}
    np.savez(folder / f"{name}.npz", **kept)


def texts(system: str, what: str) -> Arrays:
    return {"system": [system], "what": [what], "rule": ["F"]}


def write_keys(folder: Path, name: str, keys: Keys) -> None:
    (folder / f"{name}.keys.json").write_text(json.dumps(keys))


def failures(rows: Any) -> list[str]:
    return [str(row) for row in rows if row.failed]


# ---- pix2pix ----


def discriminator(folder: Path) -> Arrays:
    """A discriminator of two strided layers at 32 pixels, for nine channels."""
    network = PatchDiscriminator(9, 4, 2, per_image=False)
    state = network.state_dict()
    keys = [
        (key, tuple(value.shape), str(value.dtype).removeprefix("torch."))
        for key, value in state.items()
    ]
    write_keys(folder, "d_32", keys)
    network.load_state_dict(rebuild(read_keys(folder / "d_32.keys.json"), rule="F"))
    arrays = texts("pix2pix", "discriminator")
    arrays |= {"channels": 9, "layers": 2, "side": 32, "images": 2, "image_tag": ["x"]}
    arrays["rects"] = [[0, 3, 2, 9, 4, 30], [1, 8, 0, 1, 0, 1]]
    arrays["parameters"] = sum(p.numel() for p in network.parameters())
    arrays["w_sums"] = sums_of(network.state_dict().values())
    arrays["trace_names"] = ["model.0.out"]
    fixture = Fixture(folder, "d_32", {key: np.asarray(value) for key, value in arrays.items()})
    condition, images = pix2pix.raster(fixture), pix2pix.photographs(fixture)
    arrays["image_sum"] = images.double().sum().item()
    with torch.no_grad():
        first = network.model[0](torch.cat([condition, images], 1)).double().flatten()
        arrays["out_eval"] = network.eval()(condition, images)
        arrays["out_train"] = network.train()(condition, images)
    places = np.floor(np.linspace(0, first.numel() - 1, 64)).astype(int)
    arrays["trace_stats"] = [[first.mean(), first.std(correction=0), first.abs().max()]]
    arrays["trace_samples"] = [first[places].tolist()]
    write(folder, "d_32", arrays)
    return arrays


def test_a_small_discriminator_is_met_and_damage_is_noticed(tmp_path: Path) -> None:
    arrays = discriminator(tmp_path)
    rows = list(pix2pix.run(tmp_path, TOLERANCE))
    assert failures(rows) == []
    assert {"parameters", "image_sum", "out_eval", "out_train"} <= {row.array for row in rows}
    assert not [row for row in rows if "not compared" in row.detail]
    arrays["out_train"][1, 0, 2, 2] += 0.1
    write(tmp_path, "d_32", arrays)
    assert ["out_train"] == [row.array for row in pix2pix.run(tmp_path, TOLERANCE) if row.failed]
    (tmp_path / "d_32.keys.json").unlink()
    assert "is missing" in failures(pix2pix.run(tmp_path, TOLERANCE))[0]


# ---- CRN ----

CONFIG = Config(resolution=32, width=8, widths=(8, 8, 6), images=2)
CLASSES = 4  # without don't care


def crn_keys(config: Config) -> Keys:
    """The TensorFlow variables of a network, in the order of their creation."""
    keys: Keys = []
    before = 0
    for level, width in enumerate(config.level_widths):
        inputs = CLASSES + 1 + before
        for which, channels in ((1, inputs), (2, width)):
            scope = f"g_{4 << level}_conv{which}"
            keys.append((f"{scope}/weights", (3, 3, channels, width), "float32"))
            keys.append((f"{scope}/LayerNorm/beta", (width,), "float32"))
            keys.append((f"{scope}/LayerNorm/gamma", (width,), "float32"))
        before = width
    scope = f"g_{config.size[0]}_conv100"
    colors = 3 * config.images
    keys.append((f"{scope}/weights", (1, 1, before, colors), "float32"))
    keys.append((f"{scope}/biases", (colors,), "float32"))
    return keys


def cascade(folder: Path, name: str) -> tuple[CascadedRefinement, Arrays, Tensor]:
    """A network with weights by the rule, what all its files hold, and its map as channels."""
    keys = crn_keys(CONFIG)
    write_keys(folder, name, keys)
    state = crn.rebuild(keys)
    network = CascadedRefinement(CONFIG, CLASSES)
    network.load_state_dict(with_our_names(state))
    height, width = CONFIG.size
    label = np.random.default_rng(0).integers(0, CLASSES + 1, (height, width)).astype(np.uint8)
    arrays = {"classes": CLASSES + 1, "height": height, "width": width, "label": label}
    arrays["w_sums"] = sums_of(state.values())
    labels = torch.from_numpy(label.astype(np.int64))[None]
    dense = semantics(Maps(labels, labels, CLASSES), True, False).dense
    return network, arrays, dense


def summary(value: Tensor) -> tuple[list[float], list[float]]:
    flat = value.detach().double().flatten().numpy()
    places = np.floor(np.linspace(0, flat.size - 1, 64)).astype(int)
    stats = [float(flat.mean()), float(flat.std()), float(np.abs(flat).max())]
    return stats, flat[places].tolist()


def recorded_images(images: Tensor) -> Arrays:
    colors = (images + 1) * 127.5
    return {
        "stride": 2,
        "out_stride": colors[..., ::2, ::2],
        "out_abs": [float(image.double().abs().sum()) for image in colors],
    }


def test_a_small_cascade_is_met_and_damage_is_noticed(tmp_path: Path) -> None:
    network, arrays, dense = cascade(tmp_path, "g_16")
    arrays |= texts("crn", "generator")
    arrays["parameters"] = sum(p.numel() for p in network.parameters())
    with torch.no_grad():
        images = network(dense)[0]
        first = network.levels[0]
        seen = F.avg_pool2d(dense, 4)
        inner = F.leaky_relu(first.norm1(first.conv1(seen)), 0.2)  # type: ignore[operator]
    arrays |= recorded_images(images)
    arrays["out_crop"] = (images[0, :, 4:12, 12:20] + 1) * 127.5
    stats, samples = zip(summary(seen), summary(inner), strict=True)
    arrays |= {"trace_names": ["resize_area_4", "g_4_conv1"]}
    arrays |= {"trace_stats": stats, "trace_samples": samples}
    write(tmp_path, "g_16", arrays)
    rows = list(crn.run(tmp_path, TOLERANCE))
    assert failures(rows) == []
    names = {row.array for row in rows}
    assert {"out_stride", "out_crop", "out_abs", "out_stride in production"} <= names
    assert {"trace_stats", "trace_samples", "parameters"} <= names
    arrays["trace_samples"] = [samples[0], [-x for x in samples[1]]]
    write(tmp_path, "g_16", arrays)
    assert ["trace_samples"] == [row.array for row in crn.run(tmp_path, TOLERANCE) if row.failed]


@pytest.mark.slow
def test_a_step_and_its_loss_are_met(tmp_path: Path) -> None:
    network, arrays, dense = cascade(tmp_path, "step_16")
    arrays |= texts("crn", "step") | {"weights": DIVERSE, "real_tag": ["r"]}
    height, width = CONFIG.size
    fixture = Fixture(tmp_path, "", {"real_tag": np.array(["r"])})
    real = fixture.image("real_tag", 1, height, width)
    arrays["real_sum"] = ((real + 1) * 127.5).double().sum().item()
    loss = RegressionLoss(DIVERSE, True, str(crn.vgg19(tmp_path)))
    images = network(dense)
    errors = loss.class_errors(images, real, dense)
    total = nearest_image(errors.sum(0))
    torch.autograd.backward(total)
    arrays |= recorded_images(images[0].detach()) | {"stride": 2}
    arrays |= {"terms": errors[:, 0].detach(), "loss": total.detach()}
    keys = [key for key, _, _ in crn_keys(CONFIG)]
    named = dict(network.named_parameters())
    parameters = [named[crn.our_name(key)] for key in keys]
    gradients = [p.grad for p in parameters if p.grad is not None]
    arrays["g_params"] = keys
    arrays["g_grad_norm"] = [float(gradient.norm()) for gradient in gradients]
    samples = np.zeros((len(keys), 8), np.float32)
    for place, gradient in enumerate(gradients):
        count = min(8, gradient.numel())
        samples[place, :count] = crn.sample(gradient, count)
    arrays["g_grad_samples"] = samples
    torch.optim.Adam(network.parameters(), 1e-4).step()
    arrays["g_after"] = sums_of(parameters)
    write(tmp_path, "step_16", arrays)
    rows = list(crn.run(tmp_path, TOLERANCE))
    assert failures(rows) == []
    assert {"terms", "loss", "g_grad_norm", "g_after"} <= {row.array for row in rows}
