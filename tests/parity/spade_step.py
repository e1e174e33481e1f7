"""Recorded iterations of the official training loop, repeated by our loop.

Losses, gradients and what is left behind.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from synthaug.generators.base import MapBatch
from synthaug.generators.spade import network as spade
from synthaug.generators.training.adversarial import AdversarialTraining
from synthaug.generators.training.adversarial import Config as TrainingConfig
from tests.parity.comparison import Array, Row, compare, compare_each
from tests.parity.lostgan_fixtures import through_a_file
from tests.parity.spade import ROUNDS, Fixture, rest
from tests.parity.weights import read_keys, rebuild

TERMS = ("g_image", "g_features", "d_fake", "d_real")  # ours, in the order of the recorded columns
# rounding gathers on the way back through both networks: times the tolerance, relative to the norm
GRADIENT_FACTOR = 10
ZERO = 1e-6  # of the largest norm: gradients that are rounding
# Without momentum Adam moves every entry by about the rate, whatever its gradient: where that is
# rounding, also the other way, and what follows (statistics, power iterations) moves with it. This
# share of the entries of parameters that have a gradient may be a step apart, and no entry by more
# than this many steps.
TURNED, MOST_STEPS = 0.005, 10
LATER = 1e-4  # allowed of losses from the second iteration on


def step_rows(fixture: Fixture, tolerance: float) -> Iterator[Row]:
    """Repeat the iterations and compare everything recorded."""
    meta, arrays = fixture.meta, fixture.arrays
    objective = spade.SpadeObjective(fixture.config(), meta["opt"]["label_nc"])
    keys = read_keys(fixture.folder / f"{fixture.name}.keys.json")
    for name, network in objective.networks.items():
        own = [
            (key.removeprefix(f"{name}/"), shape, dtype)
            for key, shape, dtype in keys
            if key.startswith(f"{name}/")
        ]
        imported = through_a_file(rebuild(own, ROUNDS[meta["sn"]]))
        network.load_state_dict(imported.network.state_dict())
        yield Row(fixture.name, f"weights of {name}", detail=f"imported as {imported}")
    config = TrainingConfig(
        lr_g=meta["lrG"], lr_d=meta["lrD"], beta1=meta["betas"][0], beta2=meta["betas"][1]
    )
    training = AdversarialTraining(objective, config, meta["iters"], seed=0, generator_first=True)
    images = torch.from_numpy(
        ((arrays["image_u8"].astype(np.float64) / 255 - 0.5) / 0.5).astype(np.float32)
    )
    batch = MapBatch(images, fixture.maps())

    fakes: list[Tensor] = []
    handle = objective.networks["G"].register_forward_hook(
        lambda _m, _i, out: fakes.append(out.detach())
    )
    told = []
    for index in range(meta["iters"]):
        told.append(training.step(index, batch))
        if index == 0:
            yield compare(
                fixture.name,
                "it0/fake",
                arrays["it0/fake"],
                fakes[0][..., ::2, ::2].numpy(),
                tolerance,
            )
            for name in ("G", "D"):
                yield gradient_row(fixture, name, objective, tolerance)
    handle.remove()
    losses = np.array([[float(terms[name]) for name in TERMS] for terms in told])
    yield compare(fixture.name, "losses of the first", arrays["losses"][0], losses[0], tolerance)
    yield compare(fixture.name, "losses", arrays["losses"], losses, max(tolerance, LATER))
    for name, rate in (("G", meta["lrG"]), ("D", meta["lrD"])):
        yield from end_rows(fixture, name, objective.networks[name].state_dict(), rate)
    known = ("it0/", "end/")
    done = {"label", "inst", "image_u8", "losses"} | {
        name for name in arrays if name.startswith(known)
    }
    yield from rest(fixture, done)


def gradient_row(
    fixture: Fixture, network: str, objective: spade.SpadeObjective, tolerance: float
) -> Row:
    """Compare norm and samples of each parameter's gradient after the first iteration, relative to
    its norm.

    A gradient is analytically zero where rounding is all there is of it, e.g. of a bias before a
    batch norm: here too then.
    """
    prefix = f"it0/grad{network}/"
    recorded = {
        name.removeprefix(prefix): x
        for name, x in fixture.arrays.items()
        if name.startswith(prefix)
    }
    ours = {
        name: summary(p.grad, 32)
        for name, p in objective.networks[network].named_parameters()
        if p.grad is not None
    }
    if unlike := recorded.keys() ^ ours.keys():
        return Row(
            fixture.name,
            prefix,
            detail=f"'{min(unlike)}' has a gradient on one side only",
            fault=True,
        )
    least = ZERO * max(float(x[0]) for x in recorded.values())
    parts: list[tuple[str, Array, Array]] = []
    for name, theirs in recorded.items():
        scale = max(float(theirs[0]), float(ours[name][0]))
        parts.append(
            (name, theirs / scale, ours[name] / scale)
            if scale > least
            else (name, theirs, ours[name])
        )
    return compare_each(fixture.name, prefix.rstrip("/"), parts, GRADIENT_FACTOR * tolerance)


def end_rows(
    fixture: Fixture, network: str, state: dict[str, Tensor], rate: float
) -> Iterator[Row]:
    """Compare norm and samples of every tensor after the last iteration.

    Parameters, statistics, power iterations.
    """
    prefix = f"end/{network}/"
    norms = {
        n: float(x[0]) for n, x in fixture.arrays.items() if n.startswith(f"it0/grad{network}/")
    }
    moved = {
        name.split("/", 2)[2] for name, norm in norms.items() if norm > ZERO * max(norms.values())
    }
    counters, parts, apart = [], [], []
    for key, recorded in fixture.arrays.items():
        if not key.startswith(prefix):
            continue
        name = key.removeprefix(prefix)
        if not state[name].is_floating_point():
            counters.append((name, recorded, state[name].numpy()))
            continue
        ours = summary(state[name], 16)
        parts.append((name, recorded, ours))
        if name in moved:
            apart.append(np.abs(recorded[1:] - ours[1:]) > rate)
    if counters:
        yield compare_each(fixture.name, f"{prefix}num_batches_tracked", counters, 0)
    share = float(np.concatenate(apart).mean())
    detail = f"share of entries further than {rate:g} apart: one step of Adam"
    yield Row(fixture.name, f"{prefix}turned", share, TURNED, detail)
    yield compare_each(
        fixture.name, prefix.rstrip("/"), parts, MOST_STEPS * rate, "what Adam's steps may turn"
    )


def summary(tensor: Tensor, count: int) -> Array:
    """L2 norm, and `count` values at even distances."""
    flat = tensor.detach().double().reshape(-1).numpy()
    return np.concatenate([[np.linalg.norm(flat)], flat[:: max(1, flat.size // count)][:count]])
