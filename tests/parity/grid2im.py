"""Grid2Im against the recorded outputs of the official networks."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.generators.base import Layouts, TrainingBatch
from synthaug.generators.grid2im.appearance import AppearancePool
from synthaug.generators.grid2im.config import Config
from synthaug.generators.grid2im.discriminator import Features
from synthaug.generators.grid2im.losses import feature_matching, squared_error
from synthaug.generators.grid2im.network import Grid2ImGenerator, Placed
from synthaug.generators.grid2im.objective import (
    Discriminators,
    Draw,
    Grid2ImObjective,
    Grid2ImTraining,
    Loop,
    Pass,
)
from synthaug.generators.nn.crops import crop_boxes, sum_masks
from synthaug.generators.nn.layers import place_masks
from synthaug.generators.sg2im.discriminator import CROP
from synthaug.generators.sg2im.graphs import SceneGraphs
from synthaug.generators.training.losses import Loss, class_loss
from tests.parity.baselines import (
    Fixture,
    StepOf,
    magnitude,
    recorded_rows,
    rest,
    run_fixtures,
    sample,
    step_rows,
    trace_rows,
    traced,
)
from tests.parity.comparison import Array, Row, compare
from tests.parity.lostgan_fixtures import through_a_file
from tests.parity.sg2im import stats, told_losses, weights_of

INPUTS = {"objs", "boxes", "masks", "masks_big", "triples", "obj_to_img", "attributes", "labels"}
INPUTS |= {"side", "mask_size", "image_tag", "image_scale", "noise_tag", "appearance_tag"}
# an instance norm of nearly constant maps amplifies rounding
IMAGES = 4e-4
CROPS = 1e-4
GRADIENTS = 5e-4  # the official gradients are met to ten times this
TERMS = {  # recorded -> ours; terms of one name are summed
    "bbox_pred": "g_box",
    "ac_loss": "g_class",
    "g_gan_obj_loss": "g_object",
    "g_gan_mask_obj_loss": "g_mask",
    "g_mask_features_loss": "g_mask_features",
    "g_gan_img_loss": "g_image",
    "g_gan_features_loss_img": "g_image_features",
    "d_mask fake": "d_mask_fake",
    "d_mask real": "d_mask_real",
    "d_obj_gan_loss": "d_object",
    "d_ac_loss_real": "d_class",
    "d_ac_loss_fake": "d_class",
    "d_img fake": "d_image_fake",
    "d_img wrong_texture": "d_image_wrong",
    "d_img real": "d_image_real",
}
LAMBDAS = {
    "bbox_pred": "lambda_box",
    "ac_loss": "lambda_class",
    "g_gan_obj_loss": "lambda_object",
    "g_gan_mask_obj_loss": "lambda_mask",
    "g_mask_features_loss": "lambda_mask_features",
    "g_gan_img_loss": "lambda_image",
    "g_gan_features_loss_img": "lambda_image_features",
}
RATES = {"g": 1e-4, "o": 1e-4, "i": 1e-4, "m": 1e-5}


def run(folder: Path, tolerance: float) -> Iterator[Row]:
    """Yield the rows of every Grid2Im fixture of a folder."""
    kinds = {"generator": generator_rows, "discriminators": discriminator_rows, "step": steps}
    yield from run_fixtures(folder, "grid2im", kinds, tolerance)


def graphs_of(fixture: Fixture) -> SceneGraphs:
    """Return the recorded objects and relations."""
    counts = torch.bincount(fixture.tensor("obj_to_img"))
    is_row = torch.arange(int(counts.max())) < counts[:, None]
    labels = fixture.tensor("objs")
    return SceneGraphs(
        labels,
        fixture.tensor("boxes"),
        fixture.tensor("masks").float(),
        torch.ones(len(labels)),
        fixture.tensor("triples"),
        is_row,
    )


def large_masks(fixture: Fixture, masks: Tensor) -> Tensor:
    """Return the masks that are painted where they are given: at image size if recorded."""
    if "masks_big" not in fixture.arrays:
        return masks
    unpacked = np.unpackbits(fixture.arrays["masks_big"], axis=-1)
    side = fixture.arrays["masks_big"].shape[1]
    return torch.from_numpy(unpacked[..., :side].astype(np.float32))


def generator_of(fixture: Fixture, network: str = "") -> tuple[Grid2ImGenerator, str]:
    """Return the generator with the recorded weights, and a line on its import."""
    imported = through_a_file(fixture.weights(network))
    generator = imported.network
    assert isinstance(generator, Grid2ImGenerator)
    generator.config = replace(generator.config, resolution=fixture.number("side"))
    return generator, f"imported as {imported}"


def noise_of(fixture: Fixture, generator: Grid2ImGenerator) -> Tensor:
    """Return the recorded noise [1, N]."""
    return fixture.noise("noise_tag", (1, generator.config.mask_noise))


def given_features(
    fixture: Fixture, generator: Grid2ImGenerator, placed: Placed, noise: Tensor
) -> Tensor:
    """Return the appearance codes of the case in which most are given."""
    codes = generator.invent_appearance(placed.vectors, noise).clone()
    for row in range(len(codes)):
        if row % 3:
            seed = zlib.crc32(f"grid2im:{fixture.name}:feature:{row}".encode())
            values = np.random.default_rng(seed).standard_normal(codes.shape[1])
            codes[row] = torch.from_numpy(np.abs(values).astype(np.float32))
    return codes


def generator_rows(fixture: Fixture, tolerance: float) -> Iterator[Row]:
    """Layouts, appearance and images of all cases, and the trace of the first."""
    yield from fixture.weight_sums(fixture.weights())
    generator, told = generator_of(fixture)
    yield Row(fixture.name, "weights", detail=told)
    generator.eval()
    graphs, side = graphs_of(fixture), fixture.number("side")
    images = fixture.image("image_tag", len(graphs.is_row), side, side)
    attributes, noise = fixture.tensor("attributes"), noise_of(fixture, generator)
    masks = graphs.masks
    assert masks is not None
    big = large_masks(fixture, masks)
    made: dict[str, Array | Tensor] = {"image_sum": np.array(images.double().sum().item())}
    with torch.inference_mode():
        with traced(generator, fixture) as trace:
            placed = generator.place(graphs, attributes, noise)
            codes = generator.read_appearance(images, graphs)
            layout = generator.layout(graphs, codes, graphs.boxes, masks)
            painted = generator.layout_to_image(layout)
        yield from trace_rows(fixture, trace, max(tolerance, IMAGES))
        given = given_features(fixture, generator, placed, noise)
        layouts = {
            "train": (codes, layout),
            "test_gt": (codes, generator.layout(graphs, codes, graphs.boxes, big, True)),
            "test_features": (given, generator.layout(graphs, given, graphs.boxes, big, True)),
            "test_pred": (codes, generator.layout(graphs, codes, placed.boxes, placed.masks, True)),
        }
        for case, (appearance, canvas) in layouts.items():
            if f"out_{case}" not in fixture.arrays:
                continue
            image = painted if case == "train" else generator.layout_to_image(canvas)
            made |= {
                f"out_{case}": image,
                f"out_{case}_abs": magnitude(image),
                f"layout_{case}": sample(canvas),
                f"layout_{case}_stats": stats(canvas),
                f"appearance_{case}": appearance,
            }
        made |= {"boxes_pred": placed.boxes, "masks_pred": placed.masks}
        wrong_from, wrong = wrong_codes(graphs, codes)
        made["wrong_from"] = wrong_from
        made["layout_wrong"] = sample(generator.layout(graphs, wrong, graphs.boxes, masks), 2048)
        predicted = generator.layout(graphs, codes, graphs.boxes, placed.masks)
        made["layout_pred"] = sample(predicted, 2048)
    yield from recorded_rows(fixture, made, tolerance, {"out_": IMAGES})
    yield from rest(fixture, {*INPUTS, *made, "parameters_resg"})


def wrong_codes(graphs: SceneGraphs, codes: Tensor) -> tuple[Array, Tensor]:
    """Return whose appearance each object gets of an empty pool, and the codes."""
    rows = torch.arange(len(codes), dtype=codes.dtype)[:, None]
    pool = AppearancePool(int(graphs.labels.max()) + 1, 1)
    from_row = pool.exchange(graphs.labels, rows, published_choice())
    numbers = from_row[:, 0].long()
    return numbers.numpy(), codes[numbers]


def published_choice() -> Callable[[int], int]:
    """Return the recorded choices among earlier codes."""
    rng = random.Random(0)
    return lambda count: rng.randint(0, count - 1)


def discriminators_of(fixture: Fixture) -> tuple[list[str], Discriminators]:
    """Return all three with the recorded weights, and lines on their import."""
    told, networks = [], {}
    for name in ("img", "mask", "obj"):
        imported = through_a_file(fixture.weights(name))
        told.append(f"{name} imported as {imported}")
        networks[name] = imported.network
    labels = fixture.number("labels")
    state = networks["img"].state_dict()
    width, channels = state["scale0_layer0.0.weight"].shape[:2]
    config = Config(width_d=width, appearance=channels - 3 - labels)
    all_three = Discriminators(config, labels)
    all_three.image.load_state_dict(state)
    all_three.mask.load_state_dict(networks["mask"].state_dict())
    all_three.object.load_state_dict(networks["obj"].state_dict())
    return told, all_three


def discriminator_rows(fixture: Fixture, tolerance: float) -> Iterator[Row]:
    """Features of all layers and scales, their losses, and the scores of crops."""
    for name in ("img", "mask", "obj"):
        yield from fixture.weight_sums(fixture.weights(name), name)
    told, discriminators = discriminators_of(fixture)
    yield Row(fixture.name, "weights", detail="; ".join(told))
    graphs, side = graphs_of(fixture), fixture.number("side")
    images = fixture.image("image_tag", len(graphs.is_row), side, side)
    assert graphs.masks is not None
    labels = fixture.number("labels")
    length = discriminators.image.scale0_layer0[0].in_channels - 3 - labels  # type: ignore[index,union-attr]
    codes = fixture.noise("appearance_tag", (len(graphs.labels), int(length))).abs()  # type: ignore[arg-type]
    classes = F.one_hot(graphs.labels, labels).float()
    placed = place_masks(graphs.masks[None], graphs.boxes[None], side, True)[0]
    layout = sum_masks(torch.cat([classes, codes], 1), placed, graphs.is_row)
    made: dict[str, Array | Tensor] = {
        "image_sum": np.array(images.double().sum().item()),
        "layout": sample(layout, 2048),
        "layout_abs": magnitude(layout),
    }
    discriminators.eval()
    with torch.inference_mode():
        of_image = discriminators.image(layout, images)
        of_negative = discriminators.image(layout, -images)
        of_masks = discriminators.mask(graphs.masks, graphs.labels)
        for name, features in (("img", of_image), ("mask", of_masks)):
            made |= feature_arrays(name, features)
            made[f"{name}/gan_true"] = squared_error(features, 1)
            made[f"{name}/gan_false"] = squared_error(features, 0)
        made["img/feature_matching_minus_image"] = feature_matching(of_image, of_negative)
        for mode in ("eval", "train"):
            discriminators.train(mode == "train")
            scores, logits = discriminators.object(images, graphs)
            made |= {
                f"obj_real_{mode}": scores[:, None],
                f"obj_scores_{mode}": logits,
                f"obj_ac_loss_{mode}": class_loss(logits, graphs.labels),
            }
    made["crops"] = crop_boxes(images, graphs.boxes, graphs.image_of, CROP)
    loose = dict.fromkeys(("crops", "obj_", "img/", "mask/"), CROPS)
    yield from recorded_rows(fixture, made, tolerance, loose)
    yield from rest(fixture, {*INPUTS, *made})


def feature_arrays(name: str, features: Features) -> dict[str, Array]:
    """Return what is recorded of features: samples, shapes and sums of absolutes."""
    made: dict[str, Array] = {}
    for scale, maps in enumerate(features):
        for layer, values in enumerate(maps):
            key = f"{name}/{scale}/{layer}"
            made[key] = sample(values, min(1024, values.numel()))
            made[f"{key}/shape"] = np.array(values.shape)
            made[f"{key}/abs"] = magnitude(values)
    return made


class RecordedObjective(Grid2ImObjective):
    """The objective with recorded graphs, attributes, noise and choices."""

    def __init__(self, fixture: Fixture, networks: dict[str, nn.Module], config: Config) -> None:
        self.config = config
        self.networks = networks
        self.perceptual = None
        self.passes = []
        self.seen: list[Pass] = []
        self.fixture = fixture

    def draw(self, layouts: Layouts, rng: torch.Generator) -> Draw:
        """Return the recorded ones."""
        fixture, generator = self.fixture, self.networks["G"]
        assert isinstance(generator, Grid2ImGenerator)
        told = bool(fixture.arrays["use_gt"].ravel()[0])
        attributes = fixture.tensor("attributes")
        if not told:
            attributes = torch.zeros_like(attributes)
        noise = noise_of(fixture, generator)
        return Draw(graphs_of(fixture), attributes, told, noise, published_choice())

    def discriminator_losses(self, batch: TrainingBatch, fake: Tensor) -> dict[str, Loss]:
        """Keep the pass for the report."""
        self.seen.append(self.passes[0])
        return super().discriminator_losses(batch, fake)


def steps(fixture: Fixture, tolerance: float) -> Iterator[Row]:
    """Repeat the step through the training itself and compare everything recorded."""
    generator, told_of_generator = generator_of(fixture, "g")
    told, discriminators = discriminators_of(fixture)
    yield Row(fixture.name, "weights", detail=f"{told_of_generator}; {'; '.join(told)}")
    graphs, side = graphs_of(fixture), fixture.number("side")
    config = replace(generator.config, **weights_of(fixture, LAMBDAS))
    pool = AppearancePool(fixture.number("labels"), config.appearance)
    networks = {"G": generator, "D": discriminators, "pool": pool}
    objective = RecordedObjective(fixture, networks, config)
    loop = Loop()
    training = Grid2ImTraining(objective, loop, 1, seed=0)
    images = fixture.image("image_tag", len(graphs.is_row), side, side)
    boxes = torch.zeros(*graphs.is_row.shape, 4)
    layouts = Layouts(graphs.is_row.long(), boxes, graphs.is_row * 1.0)
    placed: list[Tensor] = []
    handle = generator.box_net.register_forward_hook(lambda _m, _i, out: placed.append(out))
    codes: list[Tensor] = []
    second = generator.repr_net.register_forward_hook(lambda _m, _i, out: codes.append(out))
    terms = training.step(0, TrainingBatch(images, layouts))
    handle.remove()
    second.remove()
    (made_pass,) = objective.seen
    made: dict[str, Array | Tensor] = {
        "image_sum": np.array(images.double().sum().item()),
        "fake": made_pass.images,
        "fake_abs": magnitude(made_pass.images),
        "boxes_pred": placed[0],
        "masks_pred_abs": magnitude(made_pass.masks),
        "appearance": codes[0],
        "wrong_from": wrong_codes(graphs, codes[0].detach())[0],
    }
    yield from recorded_rows(fixture, made, tolerance, {"fake": IMAGES})
    recorded, ours = told_losses(fixture, terms, TERMS)
    detail = "D's losses of crops: real + fake"
    yield compare(fixture.name, "losses", recorded, ours, max(tolerance, 1e-4), detail)
    for name, network, prefix in (
        ("g", generator, ""),
        ("o", discriminators.object, "discriminator."),
        ("i", discriminators.image, ""),
        ("m", discriminators.mask, ""),
    ):
        of = StepOf(name, network, RATES[name], prefix)
        yield from step_rows(fixture, of, max(tolerance, GRADIENTS))
    ended = ("_params", "_grad_norm", "_grad_samples", "_after", "_keys")
    of_steps = {f"{name}{end}" for name in "goim" for end in ended}
    yield from rest(fixture, {*INPUTS, *made, *of_steps, "losses", "loss_names", "use_gt"})
