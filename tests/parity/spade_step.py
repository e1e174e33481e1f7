"""Recorded iterations of the official training loop, repeated by our loop: losses, gradients and what is left behind."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from generators import spade
from generators.base import MapBatch
from generators.train import AdversarialTraining
from generators.train import Config as TrainingConfig
from tests.parity.comparison import Array, Row, compare, compare_each
from tests.parity.lostgan_fixtures import through_a_file
from tests.parity.spade import ROUNDS, Fixture, rest
from tests.parity.weights import read_keys, rebuild

TERMS = ("g_image", "g_features", "d_fake", "d_real")  # ours, in the order of the recorded columns
GRADIENT_FACTOR = (
    10  # rounding gathers on the way back through both networks: times the tolerance, relative to the norm
)
ADAM = 1e-4  # without momentum Adam moves every entry by the rate, whatever its gradient: rounding alone decides some signs


def step_rows(fixture: Fixture, tolerance: float) -> Iterator[Row]:
    """Repeat the iterations and compare everything recorded."""
    meta, arrays = fixture.meta, fixture.arrays
    trainee = spade.trainee(fixture.config(), meta["opt"]["label_nc"])
    keys = read_keys(fixture.folder / f"{fixture.name}.keys.json")
    for name, network in trainee.networks.items():
        own = [(key.removeprefix(f"{name}/"), shape, dtype) for key, shape, dtype in keys if key.startswith(f"{name}/")]
        imported = through_a_file(rebuild(own, ROUNDS[meta["sn"]]))
        network.load_state_dict(imported.network.state_dict())
        yield Row(fixture.name, f"weights of {name}", detail=f"imported as {imported}")
    config = TrainingConfig(lr_g=meta["lrG"], lr_d=meta["lrD"], beta1=meta["betas"][0], beta2=meta["betas"][1])
    training = AdversarialTraining(trainee, config, meta["iters"], seed=0)
    images = torch.from_numpy(((arrays["image_u8"].astype(np.float64) / 255 - 0.5) / 0.5).astype(np.float32))
    batch = MapBatch(images, fixture.maps())

    fakes: list[Tensor] = []
    handle = trainee.networks["G"].register_forward_hook(lambda _m, _i, out: fakes.append(out.detach()))
    told = []
    for index in range(meta["iters"]):
        told.append(training.step(index, batch))
        if index == 0:
            yield compare(fixture.name, "it0/fake", arrays["it0/fake"], fakes[0][..., ::2, ::2].numpy(), tolerance)
            for name in ("G", "D"):
                yield gradient_row(fixture, name, trainee, tolerance)
    handle.remove()
    losses = np.array([[float(terms[name]) for name in TERMS] for terms in told])
    yield compare(fixture.name, "losses of the first", arrays["losses"][0], losses[0], tolerance)
    yield compare(fixture.name, "losses", arrays["losses"], losses, max(tolerance, ADAM))
    for name in ("G", "D"):
        yield from end_rows(fixture, name, trainee.networks[name].state_dict(), tolerance)
    known = ("it0/", "end/")
    done = {"label", "inst", "image_u8", "losses"} | {name for name in arrays if name.startswith(known)}
    yield from rest(fixture, done)


def gradient_row(fixture: Fixture, network: str, trainee: spade.SpadeTrainee, tolerance: float) -> Row:
    """Compare norm and samples of each parameter's gradient after the first iteration, relative to its norm."""
    parts: list[tuple[str, Array, Array]] = []
    for name, parameter in trainee.networks[network].named_parameters():
        recorded = fixture.arrays[f"it0/grad{network}/{name}"]
        gradient = parameter.grad
        assert gradient is not None, f"'{name}' has no gradient"
        ours = summary(gradient, 32)
        scale = max(float(recorded[0]), 1e-6)
        parts.append((name, recorded / scale, ours / scale))
    told = {f"it0/grad{network}/{name}" for name, _, _ in parts}
    left = [n for n in fixture.arrays if n.startswith(f"it0/grad{network}/") and n not in told]
    if left:
        return Row(fixture.name, f"it0/grad{network}", detail=f"'{left[0]}' is no parameter here", fault=True)
    return compare_each(fixture.name, f"it0/grad{network}", parts, GRADIENT_FACTOR * tolerance)


def end_rows(fixture: Fixture, network: str, state: dict[str, Tensor], tolerance: float) -> Iterator[Row]:
    """Compare norm and samples of every tensor after the last iteration: parameters, statistics, power iterations."""
    prefix = f"end/{network}/"
    parts: list[tuple[str, Array, Array]] = []
    for name, recorded in fixture.arrays.items():
        if name.startswith(prefix):
            parts.append((name.removeprefix(prefix), recorded, summary(state[name.removeprefix(prefix)], 16)))
    yield compare_each(fixture.name, prefix.rstrip("/"), parts, max(tolerance, ADAM), "Adam's steps are of one size")


def summary(tensor: Tensor, count: int) -> Array:
    """L2 norm, and `count` values at even distances."""
    flat = tensor.detach().double().reshape(-1).numpy()
    return np.concatenate([[np.linalg.norm(flat)], flat[:: max(1, flat.size // count)][:count]])
