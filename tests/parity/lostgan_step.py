"""One recorded iteration of the published training loop.

Losses, scores, gradients and what the step leaves behind.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from synthaug.generators.base import Layouts, TrainingBatch
from synthaug.generators.lostgan import network as lostgan
from synthaug.generators.training.losses import hinge_fake, hinge_real
from tests.parity.comparison import Array, Row, compare, compare_each, difference, read_arrays
from tests.parity.lostgan_discriminator import PREFIX, recorded_image
from tests.parity.lostgan_fixtures import RULES, Fixture, through_a_file
from tests.parity.weights import Keys, read_keys, rebuild

LR = 1e-4
# Rounding gathers on the way back through both networks: the norm of each parameter's gradient is
# compared relative to itself, at this many times the tolerance.
GRADIENT_FACTOR = 10
# A gradient is analytically zero where rounding is all there is of it, e.g. of a bias right before
# a batch norm.
ZERO = 1e-6  # of the largest norm
# Adam's first step moves every entry by lr, up or down: entries whose gradient is rounding may go
# the other way. Of each tensor one entry and this share may, net.
TURNED = 0.001


def step_rows(fixture: Fixture, tolerance: float) -> Iterator[Row]:
    """Repeat the step through the objective's own losses and compare everything recorded."""
    size = fixture.name.removeprefix("step_")
    inputs = fixture.folder / f"g_{size}.npz"
    if not inputs.is_file():
        raise FileNotFoundError(f"{inputs.name}, which holds the inputs of this step, is missing")
    inputs = Fixture(fixture.folder, inputs.stem, read_arrays(inputs))
    side = fixture.arrays["fake"].shape[-1]
    networks: dict[str, Any] = {}
    for name, partner in (("G", f"g_{size}"), ("D", f"d_{side}")):
        keys, source = recorded_keys(fixture, partner, name)
        imported = through_a_file(rebuild(keys, RULES["B"]))
        networks[name] = imported.network
        yield Row(
            fixture.name, f"weights of {name}", detail=f"imported as {imported}; keys from {source}"
        )
    made = step(networks, inputs)
    yield from rows(fixture, made, networks, tolerance)


def recorded_keys(fixture: Fixture, partner: str, network: str) -> tuple[Keys, str]:
    """Keys of the partner's file.

    Without one, of our own modules if they have exactly the keys the step recorded.
    """
    path = fixture.folder / f"{partner}.keys.json"
    if path.is_file():
        return read_keys(path), path.name
    module = own_module(partner, len(fixture.arrays[f"after/D/{PREFIX}l_y.weight_u"]))
    prefix = "" if network == "G" else PREFIX
    state = {f"{prefix}{key}": value for key, value in module.state_dict().items()}
    told = {key for key in state if not key.endswith("num_batches_tracked")}
    if told != {
        k
        for k in fixture.arrays[f"after/{network}/keys"].tolist()
        if not k.endswith("num_batches_tracked")
    }:
        raise FileNotFoundError(
            f"{path.name} is missing, and its keys cannot be told from the step alone"
        )
    keys = [
        (key, tuple(value.shape), str(value.dtype).removeprefix("torch."))
        for key, value in state.items()
    ]
    return keys, f"our own modules, as {path.name} is missing"


def own_module(partner: str, labels: int) -> nn.Module:
    """The published network that a fixture's name means, without numbers."""
    with torch.device("meta"):
        if match := re.fullmatch(r"g_v([12])_(\d+)", partner):
            version, side = int(match[1]), int(match[2])
            embedding = 128 if (version, side) == (1, 64) else 180
            return lostgan.LostGanGenerator(
                lostgan.Config(version, side, embedding=embedding), labels
            )
        if match := re.fullmatch(r"d_(\d+)", partner):
            return lostgan.Discriminator(int(match[1]), 64, labels)
    raise FileNotFoundError(
        f"{partner}.keys.json is missing, and no published network has this name"
    )


def step(networks: dict[str, Any], inputs: Fixture) -> dict[str, Tensor]:
    """One iteration in the published order.

    D(real), G, D(fake), D's update, D(fake), G's update.
    """
    g, d = networks["G"].train(), networks["D"].train()
    with torch.device("meta"):
        objective = lostgan.LostGanObjective(g.config, g.label_embedding.num_embeddings)
    objective.networks = networks
    layouts: Layouts = inputs.layouts()
    batch = TrainingBatch(recorded_image(g.config.resolution), layouts)
    adams = {
        n: torch.optim.Adam(m.parameters(), lr=LR, betas=(0.0, 0.999)) for n, m in networks.items()
    }
    scores: list[tuple[Tensor, Tensor]] = []
    handle = d.register_forward_hook(lambda _m, _i, out: scores.append(out))

    z_image, z_objects = (torch.from_numpy(inputs.arrays[name]) for name in ("z_img", "z_obj"))
    fake = g(layouts, z_image, z_objects)[0]
    d_terms = objective.discriminator_losses(batch, fake.detach())
    d_loss = torch.stack([loss.value for loss in d_terms.values()]).sum()
    d_loss.backward()
    made = {f"D {name}": p.grad.norm() for name, p in d.named_parameters()}
    adams["D"].step()
    terms = objective.generator_losses(batch, fake)
    g_loss = torch.stack([loss.value for loss in terms.values()]).sum()
    g_loss.backward()
    made |= {f"G {name}": p.grad.norm() for name, p in g.named_parameters()}
    adams["G"].step()
    handle.remove()
    (real_image, real_object), (fake_image, fake_object), (new_image, new_object) = scores
    made |= {"d_img_real": hinge_real(real_image), "d_obj_real": hinge_real(real_object)}
    made |= {"d_img_fake": hinge_fake(fake_image), "d_obj_fake": hinge_fake(fake_object)}
    made |= {"d_loss": d_loss, "g_loss": g_loss, "l1": terms["g_l1"].value, "fake": fake}
    made |= {"g_img": -new_image.mean(), "g_obj": -new_object.mean()}
    made |= {"out_img_real": real_image[:, None], "out_obj_real": real_object[:, None]}
    return made | {
        "out_img_fake_after_D_step": new_image[:, None],
        "out_obj_fake_after_D_step": new_object[:, None],
    }


def rows(
    fixture: Fixture, made: dict[str, Tensor], networks: dict[str, Any], tolerance: float
) -> Iterator[Row]:
    """Compare what the step made and left behind."""
    states = {n: m.state_dict() for n, m in networks.items()}
    gradients: dict[str, set[str]] = {}
    for name in ("d_grad", "g_grad"):
        gradients[name[0].upper()], row = gradient_row(fixture, name, made, tolerance)
        yield row
    for name, recorded in sorted(fixture.arrays.items()):
        if re.fullmatch(r"[dg]_grad_(keys|norms)|after/[GD]/keys|rule|torch_version", name):
            continue
        if name in made:
            yield compare(fixture.name, name, recorded, made[name].detach().numpy(), tolerance)
        elif name.endswith("num_batches_tracked"):
            yield Row(
                fixture.name,
                name,
                detail="not compared: the published batch norm never counts, ours does",
            )
        elif match := re.fullmatch(r"after/([GD])/sums", name):
            yield sums_row(fixture, name, states[match[1]], gradients[match[1]], tolerance)
        elif match := re.fullmatch(r"after/([GD])/(.*)", name):
            key = match[2].removeprefix(PREFIX)
            yield compare(fixture.name, name, recorded, states[match[1]][key].numpy(), tolerance)
        else:
            yield Row(fixture.name, name, detail="not compared: unknown array")


def gradient_row(
    fixture: Fixture, name: str, made: dict[str, Tensor], tolerance: float
) -> tuple[set[str], Row]:
    """Compare the gradient norm of each parameter relative to itself.

    Also returns the keys whose gradient is zero.
    """
    keys, norms = fixture.arrays[f"{name}_keys"].tolist(), fixture.arrays[f"{name}_norms"]
    ours = np.array([float(made[f"{name[0].upper()} {key.removeprefix(PREFIX)}"]) for key in keys])
    least = ZERO * norms.max()
    zero = {key for key, norm in zip(keys, norms, strict=True) if norm <= least}
    there = np.array([key not in zero for key in keys])
    spurious = [key for key, norm in zip(keys, ours, strict=True) if key in zero and norm > least]
    if spurious:
        return zero, Row(
            fixture.name, f"{name}_norms", detail=f"'{spurious[0]}' has a gradient here", fault=True
        )
    off = np.abs(ours[there] - norms[there]) / norms[there]
    worst = [key for key in keys if key not in zero][int(off.argmax())]
    detail = (
        f"{there.sum()} norms, each relative to itself, worst {worst}; {len(zero)} analytically "
        "zero, here too"
    )
    return zero, Row(
        fixture.name, f"{name}_norms", float(off.max()), GRADIENT_FACTOR * tolerance, detail
    )


def sums_row(
    fixture: Fixture, name: str, state: dict[str, Tensor], zero: set[str], tolerance: float
) -> Row:
    """Compare the sums of all tensors after the step.

    Buffers closely, parameters by the share that Adam moved elsewhere.
    """
    buffers: list[tuple[str, Array, Array]] = []
    turned: dict[str, float] = {}
    gradients = set(fixture.arrays[f"{name[6].lower()}_grad_keys"].tolist())
    for key, total in zip(
        fixture.arrays[f"{name[:-4]}keys"].tolist(), fixture.arrays[name], strict=True
    ):
        tensor = state[key.removeprefix(PREFIX)]
        ours = np.array(tensor.double().sum().item())
        if key in gradients - zero:
            slack = tolerance * max(1.0, abs(float(total))) + 2 * LR
            turned[key] = max(0.0, abs(float(total) - float(ours)) - slack) / (
                2 * LR * tensor.numel()
            )
        elif key not in zero and tensor.is_floating_point():
            buffers.append((key, total, ours))
    worst = max(turned, key=lambda key: turned[key])
    far = [(key, error) for key, a, b in buffers if (error := difference(a, b)[0]) > tolerance]
    if far:
        return compare_each(
            fixture.name, name, buffers, tolerance, f"sums of {len(buffers)} buffers"
        )
    detail = (
        f"share of entries that Adam moved the other way, worst {worst}; {len(buffers)} sums of "
        "buffers within tolerance"
    )
    return Row(fixture.name, name, turned[worst], TURNED, detail)
