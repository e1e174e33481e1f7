"""Layout2Im against the recorded outputs of the official networks, through the official import."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from synthaug.generators.base import Layouts, TrainingBatch
from synthaug.generators.layout2im.discriminator import (
    Discriminators,
    ImageDiscriminator,
    ObjectDiscriminator,
)
from synthaug.generators.layout2im.fast import FastGenerator
from synthaug.generators.layout2im.network import CROP, Layout2ImGenerator
from synthaug.generators.layout2im.objective import Draw, Layout2ImObjective, Loop
from synthaug.generators.layout2im.rows import ObjectRows, rasters
from synthaug.generators.nn.crops import crop_boxes
from synthaug.generators.nn.imagenet import from_imagenet
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

INPUTS = {"objs", "boxes", "rects", "obj_to_img", "labels", "z_dim", "clstm_layers"}
INPUTS |= {"image_tag", "image_scale", "z_tag", "eps_tag", "crops_tag", "images", "crops"}
BATCHED = "clstm.cell_list"  # the official LSTM walks over one image after the other
CROPS = 1e-4  # the order of the coordinate arithmetic moves crops by more than other arrays
D_TERMS = {
    "D/image_adv_loss": "d_image",
    "D/object_adv_loss": "d_object",
    "D/object_cls_loss_real": "d_class",
}
G_TERMS = {  # recorded without their weights
    "G/rec_img": ("g_l1", "lambda_l1"),
    "G/rec_z": ("g_z", "lambda_z"),
    "G/kl": ("g_kl", "lambda_kl"),
    "G/image_adv_loss": ("g_image", "lambda_image"),
    "G/object_adv_loss": ("g_object", "lambda_object"),
    "G/object_cls_loss": ("g_class", "lambda_class"),
}


def run(folder: Path, tolerance: float) -> Iterator[Row]:
    """Yield the rows of every Layout2Im fixture of a folder."""
    kinds = {"generator": generator_rows, "discriminators": discriminator_rows, "step": steps}
    yield from run_fixtures(folder, "layout2im", kinds, tolerance)


def rows_of(fixture: Fixture) -> ObjectRows:
    """Return the recorded objects."""
    counts = torch.bincount(fixture.tensor("obj_to_img"))
    is_row = torch.arange(int(counts.max())) < counts[:, None]
    labels = fixture.tensor("objs")
    return ObjectRows(labels, fixture.tensor("boxes"), torch.ones(len(labels)), is_row)


def pixels_of(fixture: Fixture, side: int) -> Tensor:
    """Return the recorded rasters of the objects [n, S, S]."""
    rects = fixture.arrays["rects"]
    pixels = torch.zeros(len(rects), side, side)
    for plane, (top, bottom, left, right) in zip(pixels, rects.tolist(), strict=True):
        plane[top:bottom, left:right] = 1
    return pixels


def noise_of_call(fixture: Fixture, call: int) -> Tensor:
    """Return the noise of a call of the crop encoder."""
    shape = (len(fixture.arrays["objs"]), fixture.number("z_dim"))
    seed = zlib.crc32(f"{fixture.text('eps_tag')}{call}".encode())
    noise = np.random.default_rng(seed).standard_normal(shape)
    return torch.from_numpy(noise.astype(np.float32))


def generator_rows(fixture: Fixture, tolerance: float) -> Iterator[Row]:
    """Both ways from objects to images, what is read back, and the trace of the random way."""
    state = fixture.weights()
    yield from fixture.weight_sums(state)
    imported = through_a_file(state)
    yield Row(fixture.name, "weights", detail=f"imported as {imported}")
    network = imported.network.eval()
    assert isinstance(network, Layout2ImGenerator)
    rows, side = rows_of(fixture), network.config.resolution
    pixels = pixels_of(fixture, side)
    yield raster_row(fixture, rows, pixels, side)
    images = fixture.image("image_tag", len(rows.is_row), side, side)
    z = fixture.noise("z_tag", (len(rows.labels), network.config.z_object))
    with torch.inference_mode():
        with traced(network, fixture) as trace:
            mean, log_variance = network.read(images, rows)
            random = network(rows, z, pixels).images
        z_of_real = mean + noise_of_call(fixture, 0) * torch.exp(0.5 * log_variance)
        rebuilt = network(rows, z_of_real, pixels).images
        read_back, _ = network.read(random, rows)
        crops = [crop_boxes(x, rows.boxes, rows.image_of, CROP) for x in (images, rebuilt, random)]
        fast = FastGenerator(network)
        in_production = fast(rows, z).images
    made: dict[str, Array | Tensor] = {
        "image_sum": np.array(images.double().sum().item()),
        "img_rand": random,
        "img_rec": rebuilt,
        "mu": mean,
        "logvar": log_variance,
        "z_rand_rec": read_back,
        "crops_input": crops[0],
        "crops_rec": crops[1],
        "crops_rand": crops[2],
    }
    for name in list(made):
        if isinstance(made[name], Tensor):
            made[f"{name}_abs"] = magnitude(made[name])  # type: ignore[arg-type]
    yield from trace_rows(fixture, trace, max(tolerance, CROPS), skipped=BATCHED)
    yield from recorded_rows(fixture, made, tolerance, {"crops": CROPS, "z_rand_rec": CROPS})
    if torch.equal(pixels, rasters(rows.boxes, side)):
        yield compare(
            fixture.name,
            "img_rand in production",
            fixture.arrays["img_rand"],
            in_production.numpy(),
            tolerance,
        )
    yield from rest(fixture, {*INPUTS, *made})


def raster_row(fixture: Fixture, rows: ObjectRows, pixels: Tensor, side: int) -> Row:
    """Compare our pixels of boxes with the recorded ones, of objects that have any."""
    there = pixels.flatten(1).any(1)
    ours = rasters(rows.boxes, side)[there]
    return compare(fixture.name, "rects", pixels[there].numpy(), ours.numpy(), 0)


class Both(nn.Module):
    """The two discriminators under the names of the recorded trace."""

    def __init__(self, img: ImageDiscriminator, obj: ObjectDiscriminator) -> None:
        super().__init__()
        self.img = img
        self.obj = obj


def discriminators_of(fixture: Fixture) -> tuple[list[str], Discriminators]:
    """Return both with the recorded weights, and lines on their import."""
    told, networks = [], {}
    for name in ("img", "obj"):
        imported = through_a_file(fixture.weights(name))
        told.append(f"{name} imported as {imported}")
        networks[name] = imported
    found = networks["obj"].found
    both = Discriminators(found.config.width_d, found.labels)
    both.image.load_state_dict(networks["img"].network.state_dict())
    both.object.load_state_dict(networks["obj"].network.state_dict())
    return told, both


def discriminator_rows(fixture: Fixture, tolerance: float) -> Iterator[Row]:
    """Scores and classes in evaluation, and of three calls in training one after the other."""
    for name in ("img", "obj"):
        state = fixture.weights(name)
        yield from fixture.weight_sums(state, name)
        yield sigma_row(fixture, state, name, tolerance)
    told, both = discriminators_of(fixture)
    yield Row(fixture.name, "weights", detail="; ".join(told))
    side = 64
    images = fixture.image("image_tag", fixture.number("images"), side, side)
    crops = fixture.image("crops_tag", fixture.number("crops"), CROP, CROP)
    both.eval()
    view = Both(both.image, both.object)
    with torch.inference_mode(), traced(view, fixture) as trace:
        scores = both.image(images)
        objects, logits = both.object(crops)
    yield from trace_rows(fixture, trace, tolerance)
    both.train()
    calls, object_calls = [], []
    with torch.no_grad():
        for _ in range(len(fixture.arrays["img_train_calls"])):
            calls.append(both.image(images))
            object_calls.append(both.object(crops)[0])
    made: dict[str, Array | Tensor] = {
        "image_sum": np.array(images.double().sum().item()),
        "crops_sum": np.array(crops.double().sum().item()),
        "img_eval": scores,
        "obj_src_eval": objects,
        "obj_cls_eval": logits,
        "img_train_calls": torch.stack(calls),
        "obj_src_train_calls": torch.stack(object_calls),
    }
    yield from recorded_rows(fixture, made, tolerance)
    sigmas = {f"sn_{kind}_{name}" for kind in ("keys", "sigma") for name in ("img", "obj")}
    yield from rest(fixture, {*INPUTS, *made, *sigmas})


def sigma_row(fixture: Fixture, state: dict[str, Tensor], name: str, tolerance: float) -> Row:
    """Compare the spectral norms of the rebuilt weights: a check of the fill itself."""
    sigmas = []
    for key in fixture.arrays[f"sn_keys_{name}"].tolist():
        stem = str(key).removesuffix("weight_orig").removesuffix(".")
        weight, u, v = (state[f"{stem}.weight_{part}"].double() for part in ("orig", "u", "v"))
        sigmas.append(float(u @ (weight.flatten(1) @ v)))
    recorded = fixture.arrays[f"sn_sigma_{name}"]
    return compare(fixture.name, f"sn_sigma_{name}", recorded, np.array(sigmas), tolerance)


class RecordedObjective(Layout2ImObjective):
    """The objective with recorded objects, pixels and noise."""

    def __init__(self, fixture: Fixture, networks: dict[str, nn.Module], config: Any) -> None:
        self.config = config
        self.networks = networks
        self.fixture = fixture
        self.passes = 0

    def draw(self, layouts: Layouts, rng: torch.Generator) -> Draw:
        """Return those of the next pass: the crop encoder is called twice in each."""
        fixture = self.fixture
        rows = rows_of(fixture)
        noise = noise_of_call(fixture, 2 * self.passes)
        self.passes += 1
        z = fixture.noise("z_tag", tuple(noise.shape))
        return Draw(rows, noise, z, pixels_of(fixture, self.config.resolution))


def steps(fixture: Fixture, tolerance: float) -> Iterator[Row]:
    """Repeat the step through the training itself and compare everything recorded."""
    imported = through_a_file(fixture.weights("g"))
    told, both = discriminators_of(fixture)
    yield Row(fixture.name, "weights", detail=f"imported as {imported}; {'; '.join(told)}")
    generator = imported.network
    assert isinstance(generator, Layout2ImGenerator)
    config, rows = generator.config, rows_of(fixture)
    objective = RecordedObjective(fixture, {"G": generator, "D": both}, config)
    loop = Loop()
    training = AdversarialTraining(objective, loop, 1, seed=0, same_fakes=False)
    images = fixture.image("image_tag", len(rows.is_row), config.resolution, config.resolution)
    boxes = torch.zeros(*rows.is_row.shape, 4)
    boxes[rows.is_row] = rows.boxes
    labels = torch.zeros(rows.is_row.shape, dtype=torch.int64)
    labels[rows.is_row] = rows.labels
    batch = TrainingBatch(from_imagenet(images), Layouts(labels, boxes, rows.is_row * 1.0))
    painted: list[Tensor] = []
    handle = generator.register_forward_hook(lambda _m, _i, out: painted.append(out.images))
    terms = training.step(0, batch)
    handle.remove()
    _, first_random, second_rebuilt, second_random = painted
    made: dict[str, Array | Tensor] = {
        "image_sum": np.array(images.double().sum().item()),
        "img_rand_first": first_random,
        "img_rand_second": second_random,
        "img_rec_second": second_rebuilt,
    }
    yield from recorded_rows(fixture, made, tolerance)
    yield from loss_rows(fixture, terms, config, tolerance)
    for name, network in (("g", generator), ("o", both.object), ("i", both.image)):
        yield from step_rows(fixture, StepOf(name, network, loop.lr_g), tolerance)
    ended = ("_params", "_grad_norm", "_grad_samples", "_after", "_keys")
    of_steps = {f"{name}{end}" for name in "goi" for end in ended}
    yield from rest(fixture, {*INPUTS, *made, *of_steps, "losses", "loss_names"})


def loss_rows(
    fixture: Fixture, terms: dict[str, Tensor], config: Any, tolerance: float
) -> Iterator[Row]:
    """Compare the losses of D, whose fake and real parts are one term here, and those of G."""
    names = [str(name) for name in fixture.arrays["loss_names"]]
    recorded = dict(zip(names, fixture.arrays["losses"].tolist(), strict=True))
    for prefix, term in D_TERMS.items():
        value = sum(loss for name, loss in recorded.items() if name.startswith(prefix))
        ours = np.array(float(terms[term]))
        yield compare(fixture.name, prefix, np.array(value), ours, tolerance)
    for name, (term, weight) in G_TERMS.items():
        ours = np.array(float(terms[term]) / vars(config)[weight])
        yield compare(fixture.name, name, np.array(recorded[name]), ours, tolerance)
    for side in ("D", "G"):
        total = sum(float(term) for name, term in terms.items() if name[0].upper() == side)
        expected = np.array(recorded[f"{side}/loss"])
        yield compare(fixture.name, f"{side}/loss", expected, np.array(total), tolerance)
