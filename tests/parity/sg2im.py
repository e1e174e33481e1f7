"""sg2im against the recorded outputs of the official networks, through the official import."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from synthaug.generators.base import Layouts, TrainingBatch
from synthaug.generators.nn.crops import crop_boxes
from synthaug.generators.nn.imagenet import from_imagenet
from synthaug.generators.sg2im.discriminator import (
    CROP,
    Discriminators,
    ImageDiscriminator,
    ObjectDiscriminator,
)
from synthaug.generators.sg2im.fast import FastGenerator
from synthaug.generators.sg2im.graphs import SceneGraphs
from synthaug.generators.sg2im.network import Painted, Sg2ImGenerator
from synthaug.generators.sg2im.objective import Loop, Sg2ImObjective, Sg2ImTraining
from synthaug.generators.training.losses import class_loss
from tests.parity.baselines import (
    Fixture,
    StepOf,
    magnitude,
    recorded_rows,
    rest,
    run_fixtures,
    sample,
    step_rows,
    strided,
    trace_rows,
    traced,
)
from tests.parity.comparison import Array, Row, compare
from tests.parity.lostgan_fixtures import through_a_file

INPUTS = {"objs", "boxes", "masks", "triples", "obj_to_img", "labels", "predicates", "side"}
INPUTS |= {"mask_size", "gconv_layers", "noise_dim", "noise_tag", "image_tag", "image_scale"}
MODES = {  # of boxes and masks: whether the given ones are painted
    "gt_gt": (True, True),
    "gt_pred": (True, False),
    "pred_pred": (False, False),
}
TERMS = {  # recorded -> ours; terms of one name are summed
    "L1_pixel_loss": "g_l1",
    "bbox_pred": "g_box",
    "mask_loss": "g_mask",
    "ac_loss": "g_class",
    "g_gan_obj_loss": "g_object",
    "g_gan_img_loss": "g_image",
    "d_obj_gan_loss": "d_object",
    "d_ac_loss_real": "d_class",
    "d_ac_loss_fake": "d_class",
    "d_img_gan_loss": "d_image",
}
LAMBDAS = {
    "L1_pixel_loss": "lambda_l1",
    "bbox_pred": "lambda_box",
    "mask_loss": "lambda_mask",
    "ac_loss": "lambda_class",
    "g_gan_obj_loss": "lambda_object",
    "g_gan_img_loss": "lambda_image",
}
CROPS = 1e-4  # the order of the coordinate arithmetic moves crops by more than other arrays


def run(folder: Path, tolerance: float) -> Iterator[Row]:
    """Yield the rows of every sg2im fixture of a folder."""
    kinds = {"generator": generator_rows, "discriminators": discriminator_rows, "step": steps}
    yield from run_fixtures(folder, "sg2im", kinds, tolerance)


def graphs_of(fixture: Fixture) -> SceneGraphs:
    """Return the recorded objects and relations."""
    image_of = fixture.tensor("obj_to_img")
    counts = torch.bincount(image_of)
    is_row = torch.arange(int(counts.max())) < counts[:, None]
    masks = None
    if "masks" in fixture.arrays and fixture.arrays.get("mask_size", np.array(1)) > 0:
        masks = fixture.tensor("masks").float()
    triples = torch.zeros(0, 3, dtype=torch.int64)
    if "triples" in fixture.arrays:
        triples = fixture.tensor("triples")
    labels, boxes = fixture.tensor("objs"), fixture.tensor("boxes")
    return SceneGraphs(labels, boxes, masks, torch.ones(len(labels)), triples, is_row)


def noise_of(fixture: Fixture, images: int, side: int) -> Tensor:
    """Return the recorded noise of the layout."""
    return fixture.noise("noise_tag", (images, fixture.number("noise_dim"), side, side))


def generator_rows(fixture: Fixture, tolerance: float) -> Iterator[Row]:
    """Images and layouts of every mode, predicted boxes and masks, and the trace of the first."""
    state = fixture.weights()
    yield from fixture.weight_sums(state)
    imported = through_a_file(state)
    yield Row(fixture.name, "weights", detail=f"imported as {imported}")
    network = imported.network.eval()
    assert isinstance(network, Sg2ImGenerator)
    graphs = graphs_of(fixture)
    side = network.config.resolution
    noise = noise_of(fixture, len(graphs.is_row), side)
    done = {*INPUTS, "boxes_pred", "masks_pred"}
    modes = [mode for mode in MODES if f"out_{mode}" in fixture.arrays]
    for number, mode in enumerate(modes):
        given_boxes, given_masks = MODES[mode]
        boxes = graphs.boxes if given_boxes else None
        masks = graphs.masks if given_masks else None
        layouts: list[Tensor] = []
        handle = network.refinement_net.register_forward_pre_hook(
            lambda _m, inputs, seen=layouts: seen.append(inputs[0])
        )
        with torch.inference_mode(), traced(network, fixture) as trace:
            painted: Painted = network(graphs, noise, boxes, masks)
        handle.remove()
        made: dict[str, Array | Tensor] = {
            f"out_{mode}": painted.images,
            f"out_{mode}_abs": magnitude(painted.images),
            f"layout_{mode}": sample(layouts[0]),
            f"layout_{mode}_stats": stats(layouts[0]),
        }
        done |= set(made)
        if number == 0:
            made["boxes_pred"] = painted.boxes
            if painted.mask_logits is not None and "masks_pred" in fixture.arrays:
                made["masks_pred"] = torch.sigmoid(painted.mask_logits)
            yield from trace_rows(fixture, trace, tolerance)
        yield from recorded_rows(fixture, made, tolerance)
        with torch.inference_mode():
            fast = FastGenerator(network)(graphs, noise, boxes, masks).images
        recorded = fixture.arrays[f"out_{mode}"]
        name = f"out_{mode} in production"
        yield compare(fixture.name, name, recorded, strided(fast, recorded), tolerance)
    yield from rest(fixture, done)


def stats(value: Tensor) -> Array:
    """Return mean, spread and largest magnitude."""
    flat = value.detach().double()
    return np.array([flat.mean(), flat.std(correction=0), flat.abs().max()])


class Both(nn.Module):
    """The two discriminators under the names of the recorded trace."""

    def __init__(self, img: ImageDiscriminator, obj: ObjectDiscriminator) -> None:
        super().__init__()
        self.img = img
        self.obj = nn.ModuleDict({"discriminator": obj})


def discriminators_of(fixture: Fixture) -> tuple[list[str], Discriminators]:
    """Return both with the recorded weights, and lines on their import."""
    told, networks = [], {}
    for name in ("img", "obj"):
        imported = through_a_file(fixture.weights(name))
        told.append(f"{name} imported as {imported}")
        networks[name] = imported.network
    labels = networks["obj"].obj_classifier.out_features  # type: ignore[union-attr]
    width = networks["obj"].cnn[0][0].out_channels  # type: ignore[index,union-attr]
    both = Discriminators(width, labels)  # type: ignore[arg-type]
    both.image.load_state_dict(networks["img"].state_dict())
    both.object.load_state_dict(networks["obj"].state_dict())
    return told, both


def discriminator_rows(fixture: Fixture, tolerance: float) -> Iterator[Row]:
    """Scores, classes and crops, in evaluation and by batch statistics."""
    for name in ("img", "obj"):
        yield from fixture.weight_sums(fixture.weights(name), name)
    told, both = discriminators_of(fixture)
    yield Row(fixture.name, "weights", detail="; ".join(told))
    graphs = graphs_of(fixture)
    side = fixture.number("side")
    images = fixture.image("image_tag", len(graphs.is_row), side, side)
    crops = crop_boxes(images, graphs.boxes, graphs.image_of, CROP)
    made: dict[str, Array | Tensor] = {
        "image_sum": np.array(images.double().sum().item()),
        "crops": crops,
        "crops_abs": magnitude(crops),
    }
    for mode in ("eval", "train"):
        both.train(mode == "train")
        view = Both(both.image, both.object)
        with torch.inference_mode(), traced(view, fixture) as trace:
            scores = both.image(images)
            objects, logits = both.object(images, graphs)
        made |= {
            f"img_{mode}": sample(scores, 4096),
            f"img_{mode}_shape": np.array(scores.shape),
            f"img_{mode}_abs": magnitude(scores),
            f"obj_real_{mode}": objects[:, None],
            f"obj_scores_{mode}": logits,
            f"obj_ac_loss_{mode}": class_loss(logits, graphs.labels),
        }
        if mode == "eval":
            yield from trace_rows(fixture, trace, max(tolerance, CROPS))
    loose = dict.fromkeys(("crops", "obj_"), CROPS)
    yield from recorded_rows(fixture, made, tolerance, loose)
    yield from rest(fixture, {*INPUTS, *made, "keys_img", "keys_obj"})


class RecordedObjective(Sg2ImObjective):
    """The objective with recorded scene graphs and noise."""

    def __init__(self, fixture: Fixture, networks: dict[str, nn.Module], config: Any) -> None:
        self.config = config
        self.networks = networks
        self.graphs = graphs_of(fixture)
        self.noise = noise_of(fixture, len(self.graphs.is_row), config.resolution)

    def draw(self, layouts: Layouts, rng: torch.Generator) -> tuple[SceneGraphs, Tensor]:
        """Return the recorded ones."""
        return self.graphs, self.noise


def weights_of(fixture: Fixture, lambdas: Mapping[str, str]) -> dict[str, float]:
    """Return the weights that the names of the losses tell, by our settings."""
    weights = {}
    for told in fixture.arrays["loss_names"].tolist():
        name, _, weight = str(told).partition(" x ")
        if weight and name in lambdas:
            weights[lambdas[name]] = float(weight)
    return weights


def told_losses(
    fixture: Fixture, terms: Mapping[str, Tensor], names: Mapping[str, str]
) -> tuple[Array, Array]:
    """Return the recorded losses by our terms, and ours in that order."""
    recorded: dict[str, float] = {}
    losses = fixture.arrays["losses"].tolist()
    for told, value in zip(fixture.arrays["loss_names"].tolist(), losses, strict=True):
        term = names[str(told).partition(" x ")[0]]
        recorded[term] = recorded.get(term, 0.0) + value
    ours = [float(terms[term]) for term in recorded]
    return np.array(list(recorded.values())), np.array(ours)


def steps(fixture: Fixture, tolerance: float) -> Iterator[Row]:
    """Repeat the step through the training itself and compare everything recorded."""
    imported = through_a_file(fixture.weights("g"))
    told, both = discriminators_of(fixture)
    yield Row(fixture.name, "weights", detail=f"imported as {imported}; {'; '.join(told)}")
    generator = imported.network
    assert isinstance(generator, Sg2ImGenerator)
    config = replace(generator.config, **weights_of(fixture, LAMBDAS))
    objective = RecordedObjective(fixture, {"G": generator, "D": both}, config)
    graphs = objective.graphs
    freeze_from = 0 if fixture.text("g_mode") == "eval" else -1
    loop = Loop(freeze_from=freeze_from)
    training = Sg2ImTraining(objective, loop, 1, seed=0)
    images = fixture.image("image_tag", len(graphs.is_row), config.resolution, config.resolution)
    made: dict[str, Array | Tensor] = {"image_sum": np.array(images.double().sum().item())}
    layouts = Layouts(
        graphs.is_row.long(), torch.zeros(*graphs.is_row.shape, 4), graphs.is_row * 1.0
    )
    batch = TrainingBatch(from_imagenet(images), layouts)
    painted: list[Painted] = []
    handle = generator.register_forward_hook(lambda _m, _i, out: painted.append(out))
    with mock.patch("synthaug.generators.sg2im.objective.scene_graphs", return_value=graphs):
        terms = training.step(0, batch)
    handle.remove()
    (first,) = painted  # D learns on the fakes that G learned from
    made["fake"] = first.images
    made["fake_abs"] = magnitude(first.images)
    made["boxes_pred"] = first.boxes
    if first.mask_logits is not None and graphs.masks is not None:
        made["mask_loss_value"] = torch.nn.functional.binary_cross_entropy_with_logits(
            first.mask_logits, graphs.masks
        )
    yield from recorded_rows(fixture, made, tolerance)
    recorded, ours = told_losses(fixture, terms, TERMS)
    yield compare(fixture.name, "losses", recorded, ours, tolerance, "d_ac_loss: real + fake")
    for name, network, prefix in (
        ("g", generator, ""),
        ("o", both.object, "discriminator."),
        ("i", both.image, ""),
    ):
        yield from step_rows(fixture, StepOf(name, network, loop.lr_g, prefix), tolerance)
    ended = ("_params", "_grad_norm", "_grad_samples", "_after", "_keys")
    of_steps = {f"{name}{end}" for name in "goi" for end in ended}
    yield from rest(fixture, {*INPUTS, *made, *of_steps, "losses", "loss_names", "g_mode"})
