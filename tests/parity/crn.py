"""CRN against the recorded outputs of the authors' functions, through the import of published
variables.

Values are on the scale of colors, 0 to 255, and errors relative to the largest of them.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from synthaug.generators.base import MapBatch, Maps
from synthaug.generators.crn.config import Config
from synthaug.generators.crn.fast import FastCascade
from synthaug.generators.crn.losses import RegressionLoss, nearest_image
from synthaug.generators.crn.network import SLOPE, CascadedRefinement, CrnObjective
from synthaug.generators.crn.official import our_name
from synthaug.generators.spade.semantics import semantics
from synthaug.generators.training.regression import Config as Loop
from synthaug.generators.training.regression import RegressionTraining
from tests.parity.baselines import (
    KNOWN,
    Fixture,
    magnitude,
    recorded_rows,
    run_fixtures,
    sample,
    strided,
    sums_of,
)
from tests.parity.comparison import Array, Row, compare, compare_each
from tests.parity.lostgan_fixtures import through_a_file
from tests.parity.weights import Keys, read_keys

INPUTS = {"classes", "height", "width", "label", "stride", "tensorflow_version", "fakes"}
VGG_CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30)
VGG_WIDTHS = (64, 64, 128, 128, 256, 256, 256, 256, 512, 512, 512, 512, 512, 512)
STAGES = ("input", "conv1_2", "conv2_2", "conv3_2", "conv4_2", "conv5_2")
RATE = 1e-4
GRADIENT_FACTOR = 10  # rounding gathers on the way back: relative to each norm
KINKS = 5e-3  # allowed of per-pixel gradients, whose signs are those of differences
# TensorFlow 1 adds Adam's epsilon before the bias correction; this share of a step may differ
TURNED = 0.02


def run(folder: Path, tolerance: float) -> Iterator[Row]:
    """Yield the rows of every CRN fixture of a folder.

    ValueError, one line, for a file that is broken.
    """
    kinds = {"generator": generator_rows, "loss": loss_rows, "step": step_rows}
    yield from run_fixtures(folder, "crn", kinds, tolerance)


# ---- What the fixtures hold ----


def rebuild(keys: Keys) -> dict[str, Tensor]:
    """Return the TensorFlow variables by the rule of their names."""
    state = {}
    for key, shape, _ in keys:
        drawn = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape)
        if key.endswith("/gamma"):
            value = 1 + 0.1 * drawn
        elif key.endswith("/weights"):
            height, width, before, behind = shape
            value = np.sqrt(2 / (max(before, behind) * height * width)) * drawn
        else:
            value = 0.05 * drawn
        state[key] = torch.from_numpy(value.astype(np.float32))
    return state


def variables(fixture: Fixture) -> dict[str, Tensor]:
    """Return the generator's variables in their order, with what the file overrides."""
    path = fixture.folder / f"{fixture.name}.keys.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path.name} is missing, so its weights cannot be rebuilt")
    keys = [row for row in read_keys(path) if not row[0].startswith("features.")]
    state = rebuild(keys)
    for name, value in fixture.arrays.items():
        key = name.removeprefix("override/")
        if name.startswith("override/"):
            state[key] = torch.from_numpy(value)
    return state


def vgg19(folder: Path) -> Path:
    """Write VGG-19's convolutions by the rule of torchvision's names; return the file."""
    state = {}
    before = 3
    for place, width in zip(VGG_CONVOLUTIONS, VGG_WIDTHS, strict=True):
        shape = (width, before, 3, 3)
        scale = np.sqrt(2 / (max(width, before) * 9))
        for kind, gain, sides in (("weight", scale, shape), ("bias", 0.05, (width,))):
            name = f"features.{place}.{kind}"
            drawn = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(sides)
            state[name] = torch.from_numpy((gain * drawn).astype(np.float32))
        before = width
    path = folder / "vgg19.pth"
    torch.save(state, path)
    return path


def maps_of(fixture: Fixture) -> Maps:
    """Return the recorded map; its last channel is don't care."""
    labels = fixture.tensor("label").long()
    labels = labels.reshape(-1, *labels.shape[-2:])
    return Maps(labels, torch.zeros_like(labels), fixture.number("classes") - 1)


def photographs(fixture: Fixture, name: str, count: int) -> Tensor:
    """Return images [count, 3, H, W] in [-1, 1] of the tag in an array."""
    return fixture.image(name, count, fixture.number("height"), fixture.number("width"))


def colors(images: Tensor) -> Tensor:
    """Return images in [-1, 1] on the scale of colors."""
    return (images + 1) * 127.5


def rest(fixture: Fixture, done: set[str]) -> Iterator[Row]:
    """Name every array that was not compared."""
    for name in sorted(fixture.arrays.keys() - done - KNOWN - INPUTS):
        if not name.startswith(("trace_", "override/", "w_sums")):
            yield Row(fixture.name, name, detail="not compared: unknown array")


def relative(name: str, fixture: Fixture, actual: Tensor | Array, allowed: float) -> Row:
    """Compare an array relative to its largest value, however small that is."""
    recorded = fixture.arrays[name].astype(np.float64)
    scale = max(float(np.abs(recorded).max(initial=0)), 1e-30)
    if isinstance(actual, Tensor):
        actual = strided(actual, recorded)
    return compare(fixture.name, name, recorded / scale, np.asarray(actual) / scale, allowed)


class Seen:
    """What passes through the levels of a network, by the names of the fixtures."""

    def __init__(self, network: CascadedRefinement, channels: int) -> None:
        self.values: dict[str, Tensor] = {}
        self.channels = channels
        for number, level in enumerate(network.levels):
            rows = 4 << number
            level.register_forward_pre_hook(self._inputs(rows))
            for which in (1, 2):
                norm = level.get_submodule(f"norm{which}")
                norm.register_forward_hook(self._outputs(f"g_{rows}_conv{which}"))

    def _inputs(self, rows: int) -> Callable[..., None]:
        def hook(_module: Any, inputs: tuple[Tensor]) -> None:
            self.values[f"resize_area_{rows}"] = inputs[0][:, -self.channels :]
            self.values[f"resize_bilinear_{rows}"] = inputs[0][:, : -self.channels]

        return hook

    def _outputs(self, name: str) -> Callable[..., None]:
        def hook(_module: Any, _inputs: Any, output: Tensor) -> None:
            self.values[name] = F.leaky_relu(output, SLOPE)

        return hook


def trace_rows(fixture: Fixture, values: dict[str, Tensor], tolerance: float) -> Iterator[Row]:
    """Compare the summaries of tensors, each relative to its largest value."""
    parts: dict[str, list[tuple[str, Array, Array]]] = {"trace_stats": [], "trace_samples": []}
    absent = []
    for place, name in enumerate(fixture.arrays["trace_names"].tolist()):
        if name not in values:
            absent.append(name)
            continue
        flat = values[name].detach().reshape(-1).double().numpy()
        stats = np.array([flat.mean(), flat.std(), np.abs(flat).max()])
        scale = float(fixture.arrays["trace_stats"][place][2])
        samples = sample(values[name])
        for kind, made in (("trace_stats", stats), ("trace_samples", samples)):
            recorded = fixture.arrays[kind][place].astype(np.float64)
            parts[kind].append((name, recorded / scale, made / scale))
    left = ""
    if absent:
        left = f"not compared, no such tensor here: {', '.join(absent)}"
    for kind, compared in parts.items():
        if compared:
            yield compare_each(fixture.name, kind, compared, tolerance, left)


# ---- Generator ----


def generator_rows(fixture: Fixture, tolerance: float) -> Iterator[Row]:
    """All images of a map and every level, of the network; of production the first image."""
    state = variables(fixture)
    yield compare(fixture.name, "w_sums", fixture.arrays["w_sums"], sums_of(state.values()), 1e-6)
    imported = through_a_file(state)
    yield Row(fixture.name, "weights", detail=f"imported as {imported}")
    network = imported.network.eval()
    assert isinstance(network, CascadedRefinement)
    count = np.array(sum(p.numel() for p in network.parameters()))
    yield compare(fixture.name, "parameters", fixture.arrays["parameters"], count, 0)
    dense = semantics(maps_of(fixture), True, False).dense
    seen = Seen(network, dense.shape[1])
    with torch.inference_mode():
        images = colors(network(dense)[0])  # [K, 3, H, W]
    yield from trace_rows(fixture, seen.values, tolerance)
    yield from image_rows(fixture, images, tolerance)
    with torch.inference_mode():
        fast = colors(FastCascade(network)(dense, [0]))
    first = {"out_stride": fixture.arrays["out_stride"][:1]}
    one = Fixture(fixture.folder, fixture.name, first)
    row = relative("out_stride", one, fast, tolerance)
    yield Row(row.fixture, "out_stride in production", row.error, row.allowed, row.detail)
    yield from rest(fixture, {"out_stride", "out_abs", "out_crop"})


def image_rows(fixture: Fixture, images: Tensor, tolerance: float) -> Iterator[Row]:
    """Compare images [K, 3, H, W] by every k-th pixel, a crop and their sums."""
    yield relative("out_stride", fixture, images, tolerance)
    sums = np.array([float(magnitude(image)) for image in images])
    yield relative("out_abs", fixture, sums, tolerance)
    if "out_crop" in fixture.arrays:
        height, width = images.shape[2] // 2, images.shape[3] // 2
        half_rows, half_columns = (side // 2 for side in fixture.arrays["out_crop"].shape[1:])
        rows = slice(height - half_rows, height + half_rows)
        columns = slice(width - half_columns, width + half_columns)
        yield relative("out_crop", fixture, images[0, :, rows, columns], tolerance)


# ---- Loss ----


def loss_rows(fixture: Fixture, tolerance: float) -> Iterator[Row]:
    """Both forms of the loss, their terms and the gradients of the fakes."""
    fakes = photographs(fixture, "fake_tag", fixture.number("fakes"))
    real = photographs(fixture, "real_tag", 1)
    sums = {
        "real_sum": np.array(colors(real).double().sum().item()),
        "fake_sum": np.array(colors(fakes).double().sum().item()),
    }
    yield from recorded_rows(fixture, sums, tolerance)
    labels = semantics(maps_of(fixture), True, False).dense
    done = {"real_tag", "fake_tag", *sums}
    with tempfile.TemporaryDirectory() as folder:
        path = str(vgg19(Path(folder)))
        for form, diverse in (("diverse", True), ("plain", False)):
            names = {name for name in fixture.arrays if name.startswith(f"{form}/")}
            if not names:
                continue
            done |= names
            weights = tuple(fixture.arrays[f"{form}/weights"].tolist())
            loss = RegressionLoss(weights, diverse, path)
            images = fakes if diverse else fakes[:1]
            yield from form_rows(fixture, form, loss, images, real, labels, tolerance)
        assert loss.features is not None
        inputs = loss._inputs(real)
        with torch.inference_mode():
            layers = [inputs, *loss.features.outputs(inputs)]
    values = {f"vgg_{name}": value for name, value in zip(STAGES, layers, strict=True)}
    yield from trace_rows(fixture, values, tolerance)
    yield from rest(fixture, done)


def form_rows(
    fixture: Fixture,
    form: str,
    loss: RegressionLoss,
    fakes: Tensor,
    real: Tensor,
    labels: Tensor,
    tolerance: float,
) -> Iterator[Row]:
    """One form of the loss of given images [K, 3, H, W]."""
    images = fakes.clone()[None].requires_grad_()
    if loss.diverse:
        errors = loss.class_errors(images, real, labels)
        terms, total = errors[:, 0], nearest_image(errors.sum(0))
    else:
        terms = loss.errors(images[:, 0], real)
        total = terms.sum()
    torch.autograd.backward(total)
    assert images.grad is not None
    gradient = images.grad[0] / 127.5  # by colors, not by [-1, 1]
    yield relative(f"{form}/terms", fixture, terms, tolerance)
    yield relative(f"{form}/loss", fixture, total.detach().numpy(), tolerance)
    yield relative(f"{form}/grad", fixture, gradient, max(tolerance, KINKS))
    recorded = fixture.arrays[f"{form}/grad_norm"].astype(np.float64)
    norms = gradient.double().flatten(1).norm(dim=1).numpy()
    ones = np.ones_like(recorded)
    allowed = GRADIENT_FACTOR * tolerance
    yield compare(fixture.name, f"{form}/grad_norm", ones, norms / recorded, allowed)


# ---- Step ----


def step_rows(fixture: Fixture, tolerance: float) -> Iterator[Row]:
    """Repeat a training step by our training; compare images, terms, gradients and weights."""
    state = variables(fixture)
    yield compare(fixture.name, "w_sums", fixture.arrays["w_sums"], sums_of(state.values()), 1e-6)
    imported = through_a_file(state)
    yield Row(fixture.name, "weights", detail=f"imported as {imported}")
    real = photographs(fixture, "real_tag", 1)
    total = np.array(colors(real).double().sum().item())
    yield compare(fixture.name, "real_sum", fixture.arrays["real_sum"], total, tolerance)
    maps = maps_of(fixture)
    weights = tuple(fixture.arrays["weights"].tolist())
    kept: dict[str, Tensor] = {}
    with tempfile.TemporaryDirectory() as folder:
        published: Config = imported.found.config
        settings = {**vars(published), "lambdas": weights}
        config = Config(**{**settings, "perceptual_weights": str(vgg19(Path(folder)))})
        objective = CrnObjective(config, maps.classes)
    network = objective.networks["G"]
    network.load_state_dict(imported.network.state_dict())

    def keep_images(_module: Any, _inputs: Any, output: Tensor) -> None:
        kept["images"] = output.detach()

    network.register_forward_hook(keep_images)
    name = "class_errors" if config.images > 1 else "errors"
    own_errors = vars(RegressionLoss)[name]

    def keep_terms(*given: Any) -> Tensor:
        errors: Tensor = own_errors(objective.loss, *given)
        kept["terms"] = errors.detach()
        return errors

    objective.loss.__dict__[name] = keep_terms
    training = RegressionTraining(objective, Loop(lr=RATE), 1, seed=0)
    losses = training.step(0, MapBatch(real, maps))
    yield from image_rows(fixture, colors(kept["images"][0]), tolerance)
    terms = kept["terms"]
    if config.images > 1:
        terms = terms[:, 0]
    yield relative("terms", fixture, terms, tolerance)
    yield relative("loss", fixture, losses["regression"].numpy(), tolerance)
    yield from variable_rows(fixture, network, tolerance)
    done = {"out_stride", "out_abs", "out_crop", "terms", "loss", "weights", "real_tag"}
    done |= {
        "real_sum",
        *(f"g_{what}" for what in ("params", "grad_norm", "grad_samples", "after")),
    }
    yield from rest(fixture, done)


def variable_rows(fixture: Fixture, network: torch.nn.Module, tolerance: float) -> Iterator[Row]:
    """Compare gradients and what the step left of every variable, as [out, in, height, width]."""
    parameters = dict(network.named_parameters())
    arrays = fixture.arrays
    norms: list[tuple[str, Array, Array]] = []
    samples: list[tuple[str, Array, Array]] = []
    after: list[tuple[str, Array, Array]] = []
    least = 1e-5 * float(arrays["g_grad_norm"].max())
    for place, name in enumerate(arrays["g_params"].tolist()):
        parameter = parameters[our_name(name)]
        gradient = parameter.grad
        assert gradient is not None
        norm = float(arrays["g_grad_norm"][place])
        if norm > least:
            ours = float(gradient.double().norm()) / norm
            norms.append((name, np.array(1.0), np.array(ours)))
            few = arrays["g_grad_samples"][place]
            count = min(few.size, gradient.numel())
            samples.append((name, few[:count] / norm, sample(gradient, count) / norm))
        sums = sums_of([parameter])[0]
        off = np.abs(arrays["g_after"][place] - sums) - tolerance * np.maximum(1, np.abs(sums))
        share = np.maximum(0, off) / (2 * RATE * parameter.numel())
        after.append((name, np.zeros(2), share))
    allowed = GRADIENT_FACTOR * tolerance
    yield compare_each(fixture.name, "g_grad_norm", norms, allowed)
    yield compare_each(fixture.name, "g_grad_samples", samples, allowed)
    told = "share of steps that went elsewhere"
    yield compare_each(fixture.name, "g_after", after, TURNED, told)
