"""pix2pix against the recorded outputs of the published networks, through the import of official
checkpoints.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from synthaug.generators.base import MapBatch, Maps
from synthaug.generators.pix2pix.config import Config, Loop
from synthaug.generators.pix2pix.fast import FastUNet
from synthaug.generators.pix2pix.network import (
    Norm,
    PatchDiscriminator,
    Pix2PixObjective,
    UNet,
)
from synthaug.generators.pix2pix.sampler import first_weight
from synthaug.generators.training.adversarial import AdversarialTraining
from tests.parity.baselines import (
    Fixture,
    StepOf,
    magnitude,
    recorded_rows,
    rest,
    run_fixtures,
    step_rows,
    trace_rows,
    traced,
)
from tests.parity.comparison import Array, Row, compare
from tests.parity.lostgan_fixtures import through_a_file

RATE = 2e-4
KEEP = 0.5
GENERATOR = {"channels", "downs", "side", "images", "rects", "stride"}
DISCRIMINATOR = {"channels", "layers", "side", "images", "rects", "image_tag"}
STEP = {"channels", "downs", "layers", "side", "images", "rects", "image_tag", "loss_names"}


def run(folder: Path, tolerance: float) -> Iterator[Row]:
    """Yield the rows of every pix2pix fixture of a folder.

    ValueError, one line, for a file that is broken.
    """
    kinds = {"generator": generator_rows, "discriminator": discriminator_rows, "step": both_steps}
    yield from run_fixtures(folder, "pix2pix", kinds, tolerance)


def raster(fixture: Fixture) -> Tensor:
    """Return the recorded condition [B, C, H, W]: 1 inside every rectangle of a channel."""
    side, images, channels = (fixture.number(name) for name in ("side", "images", "channels"))
    condition = torch.zeros(images, channels, side, side)
    for image, channel, y0, y1, x0, x1 in fixture.arrays["rects"].tolist():
        condition[image, channel, y0:y1, x0:x1] = 1
    return condition


def photographs(fixture: Fixture) -> Tensor:
    """Return the recorded images [B, 3, H, W]."""
    side = fixture.number("side")
    return fixture.image("image_tag", fixture.number("images"), side, side)


def set_statistics(network: nn.Module, per_image: bool) -> None:
    """Let every norm take each image's own statistics, or the batch's and running ones."""
    for layer in network.modules():
        if isinstance(layer, Norm):
            layer.per_image = per_image


def count_row(fixture: Fixture, network: nn.Module) -> Row:
    """Compare the number of parameters."""
    count = sum(p.numel() for p in network.parameters())
    return compare(fixture.name, "parameters", fixture.arrays["parameters"], np.array(count), 0)


def generator_rows(fixture: Fixture, tolerance: float) -> Iterator[Row]:
    """Images by running statistics and by each image's own, of the network and of production."""
    state = fixture.weights()
    yield from fixture.weight_sums(state)
    imported = through_a_file(state)
    yield Row(fixture.name, "weights", detail=f"imported as {imported}")
    network = imported.network
    assert isinstance(network, UNet)
    yield count_row(fixture, network)
    condition = raster(fixture)
    made: dict[str, Array | Tensor] = {}
    fast: dict[str, Tensor] = {}
    for name, own in (("out_eval", False), ("out_alone", True)):
        set_statistics(network, own)
        network.eval()
        with torch.inference_mode(), traced(network, fixture) as trace:
            image = network(condition)
        if not own:
            yield from trace_rows(fixture, trace, tolerance)
            made["out_eval_sum"] = np.array(image.double().sum().item())
        made |= {name: image, f"{name}_abs": magnitude(image)}
        with torch.inference_mode():
            first = nn.functional.conv2d(condition, first_weight(network), stride=2, padding=1)
            fast[name] = FastUNet(network)(first)
    yield from recorded_rows(fixture, made, tolerance)
    for name, image in fast.items():
        for row in recorded_rows(fixture, {name: image}, tolerance):
            yield replace(row, array=f"{name} in production")
    yield from rest(fixture, GENERATOR | made.keys())


def discriminator_rows(fixture: Fixture, tolerance: float) -> Iterator[Row]:
    """Scores by running statistics and by those of the batch."""
    state = fixture.weights()
    yield from fixture.weight_sums(state)
    imported = through_a_file(state)
    yield Row(fixture.name, "weights", detail=f"imported as {imported}")
    network = imported.network
    assert isinstance(network, PatchDiscriminator)
    yield count_row(fixture, network)
    set_statistics(network, False)
    condition, images = raster(fixture), photographs(fixture)
    made: dict[str, Array | Tensor] = {"image_sum": np.array(images.double().sum().item())}
    network.eval()
    with torch.inference_mode(), traced(network, fixture) as trace:
        made["out_eval"] = network(condition, images)
    yield from trace_rows(fixture, trace, tolerance)
    network.train()
    with torch.no_grad():
        made["out_train"] = network(condition, images)
    yield from recorded_rows(fixture, made, tolerance)
    yield from rest(fixture, DISCRIMINATOR | made.keys())


def both_steps(fixture: Fixture, tolerance: float) -> Iterator[Row]:
    """One step without dropout and one with recorded masks."""
    done = set(STEP)
    for form in ("off", "masks"):
        prefix = f"{form}/"
        names = {name for name in fixture.arrays if name.startswith(prefix)}
        if not names:
            continue
        done |= names
        arrays = dict(fixture.arrays)
        arrays |= {name.removeprefix(prefix): fixture.arrays[name] for name in names}
        one = Fixture(fixture.folder, fixture.name, arrays)
        for row in training_step(one, form == "masks", tolerance):
            yield replace(row, array=f"{prefix}{row.array}")
    known = {f"{net}_{what}" for net in "gd" for what in ("params", "keys")}
    yield from rest(fixture, done | known)


class RecordedDropout(nn.Module):
    """Dropout whose masks are the recorded ones, numbered over all layers of a step."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        """Leave out what the mask of this call leaves out."""
        tag = f"pix2pix:dropout:{RecordedDropout.calls}"
        RecordedDropout.calls += 1
        drawn = np.random.default_rng(zlib.crc32(tag.encode())).random(tuple(x.shape))
        return x * torch.from_numpy(drawn >= KEEP).to(x.dtype) / (1 - KEEP)


def with_recorded_dropout(network: nn.Module) -> None:
    """Put recorded masks in the place of every dropout."""
    RecordedDropout.calls = 0
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Dropout):
                parent.register_module(name, RecordedDropout())


def keep(outputs: list[Tensor], _module: nn.Module, _inputs: object, output: Tensor) -> None:
    """Remember what a network returned."""
    outputs.append(output.detach())


def training_step(fixture: Fixture, dropout: bool, tolerance: float) -> Iterator[Row]:
    """Repeat a step by our training and compare what it leaves."""
    states = {name: fixture.weights(name) for name in ("g", "d")}
    for name, state in states.items():
        yield from fixture.weight_sums(state, name)
    config = Config(
        resolution=fixture.number("side"),
        width=len(states["g"]["model.model.0.weight"]),
        width_d=len(states["d"]["model.0.weight"]),
        downs=fixture.number("downs"),
        num_layers=fixture.number("layers"),
        statistics="batch",
        dropout=KEEP if dropout else 0.0,
    )
    channels = fixture.number("channels")
    condition, images = raster(fixture), photographs(fixture)
    objective: Pix2PixObjective[MapBatch] = Pix2PixObjective(
        config, channels, channels, lambda _batch: condition, lambda _batch: None
    )
    networks = {name: objective.networks[name.upper()] for name in states}
    for name, network in networks.items():
        network.load_state_dict(through_a_file(states[name]).network.state_dict())
    with_recorded_dropout(networks["g"])
    training = AdversarialTraining(objective, Loop(decay_from=1.0), 1, seed=0)
    kept: dict[str, list[Tensor]] = {}
    for name, network in networks.items():
        outputs = kept.setdefault(name, [])
        network.register_forward_hook(partial(keep, outputs))
    labels = torch.zeros(images.shape[0], *images.shape[2:], dtype=torch.int64)
    losses = training.step(0, MapBatch(images, Maps(labels, labels, channels)))
    fake = kept["g"][0]
    on_fake, on_real, on_fake_again = kept["d"]
    terms = [2 * losses["d_fake"], 2 * losses["d_real"], losses["g_image"], losses["g_l1"]]
    made: dict[str, Array | Tensor] = {
        "losses": np.array([float(term) for term in terms]),
        "fake": fake,
        "fake_abs": magnitude(fake),
        "pred_fake_d": on_fake,
        "pred_real_d": on_real,
        "pred_fake_g": on_fake_again,
        "dropout_calls": np.array(RecordedDropout.calls),
    }
    yield from recorded_rows(fixture, made, tolerance)
    for name, network in networks.items():
        yield from step_rows(fixture, StepOf(name, network, RATE), tolerance)
