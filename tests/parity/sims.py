"""SIMS against the recorded outputs of the authors' functions: its three networks.

Segments, retrieval and canvas are in tests/parity/sims_canvas.py. Errors are relative to the
largest recorded value.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.generators.crn.config import PLAIN
from synthaug.generators.crn.network import SLOPE
from synthaug.generators.sims.losses import SynthesisLoss, placement_loss
from synthaug.generators.sims.network import (
    CANVAS_CHANNELS,
    SEGMENT_CHANNELS,
    OrderNetwork,
    SynthesisNetwork,
    TransformNetwork,
    move,
    paint_pairs,
)
from tests.parity import sims_canvas
from tests.parity.baselines import Fixture, run_fixtures, sums_of
from tests.parity.comparison import Row, compare, compare_each
from tests.parity.crn import colors, magnitude, photographs, relative, rest, trace_rows, variables
from tests.parity.crn import vgg19 as vgg19_file
from tests.parity.weights import read_keys

SLOTS = 10  # segments of an image that the transform network sees
GRADIENT_FACTOR = 10  # rounding gathers on the way back: relative to each norm
MOVED = 5e-4  # interpolation weighs the rounding of places by the contrast of the photograph
PREFIXES = {
    "g_selection": "trunk",
    "g_transform": "trunk",
    "g_transfrom": "trunk",  # so written in the published code
    "g_encoder": "encoder",
}
CONVOLUTION = re.compile(r"(g_\w+?)_conv(\d)/\1_conv\2_(\d)/(weights|LayerNorm/\w+)")
DECODER = re.compile(r"g_decoder_(conv(\d)|final)/g_decoder_\w+?_(\d)/(weights|LayerNorm/\w+)")
PLAIN_NAMES = {
    "g_selection_conv6/weights": "hidden.weight",
    "g_selection_conv6/LayerNorm/gamma": "norm.weight",
    "g_selection_conv6/LayerNorm/beta": "norm.bias",
    "g_selection_classify/weights": "scores.weight",
    "g_selection_classify/biases": "scores.bias",
    "g_transform_param": "head.weight",
    "g_b_fc1": "head.bias",
}
HEAD = re.compile(r"g_(semantic_)?\d+_conv100/(weights|biases)")
PARTS = {"weights": ("conv", "weight"), "gamma": ("norm", "weight"), "beta": ("norm", "bias")}
STAGES = 6  # of the synthesis network


def run(folder: Path, tolerance: float) -> Iterator[Row]:
    """Yield the rows of every SIMS fixture of a folder.

    ValueError, one line, for a file that is broken.
    """
    kinds = {
        "order": order_rows,
        "transform": transform_rows,
        "synthesis": synthesis_rows,
        "canvas": sims_canvas.canvas_rows,
    }
    yield from run_fixtures(folder, "sims", kinds, tolerance)


# ---- Names and weights ----


def our_name(name: str) -> str:
    """Return our name of a TensorFlow variable."""
    if name in PLAIN_NAMES:
        return PLAIN_NAMES[name]
    match = CONVOLUTION.fullmatch(name)
    if match is not None and match[1] in PREFIXES:
        layer, kind = PARTS[match[4].rpartition("/")[2]]
        stage, place = int(match[2]) - 1, int(match[3]) - 1
        return f"{PREFIXES[match[1]]}.stages.{stage}.{layer}s.{place}.{kind}"
    match = HEAD.fullmatch(name)
    if match is not None:
        head = "logits" if match[1] else "colors"
        return f"{head}.{match[2].removesuffix('s').replace('biase', 'bias')}"
    match = DECODER.fullmatch(name)
    if match is None:
        return name
    layer, kind = PARTS[match[4].rpartition("/")[2]]
    level = "full"
    if match[2]:
        level = f"levels.{STAGES - int(match[2])}"
    return f"{level}.{layer}{match[3]}.{kind}"


def our_names(names: list[str]) -> dict[str, str]:
    """Return our names of a network's variables.

    Scopes of no other name are those of the finer level of 512 rows, in their order.
    """
    ours = {name: our_name(name) for name in names}
    finer = [name for name in names if ours[name] == name]
    scopes = list(dict.fromkeys(re.sub(r"/(weights|LayerNorm/\w+)$", "", name) for name in finer))
    for name in finer:
        scope, _, part = name.replace("/LayerNorm", "").rpartition("/")
        if part in PARTS:
            layer, kind = PARTS[part]
            ours[name] = f"finer.0.{layer}{scopes.index(scope) + 1}.{kind}"
    return ours


def sizes(fixture: Fixture) -> tuple[int, int]:
    """Return the channels of a network's input and its width, by the first variable."""
    _, shape, _ = read_keys(fixture.folder / f"{fixture.name}.keys.json")[0]
    return shape[2], shape[3]


def our_shape(name: str, value: Tensor) -> Tensor:
    """Return a kernel [height, width, in, out] or a matrix [in, out] in our order."""
    if value.ndim == 4:
        return value.permute(3, 2, 0, 1)
    if name == "g_transform_param":
        return value.T
    return value


def load(network: nn.Module, fixture: Fixture) -> Iterator[Row]:
    """Give a network the recorded weights; compare their sums and their number."""
    state = variables(fixture)
    yield compare(fixture.name, "w_sums", fixture.arrays["w_sums"], sums_of(state.values()), 1e-6)
    names = our_names(list(state))
    ours = {names[name]: our_shape(name, value).float() for name, value in state.items()}
    network.load_state_dict(ours)
    count = np.array(sum(p.numel() for p in network.parameters()))
    yield compare(fixture.name, "parameters", fixture.arrays["parameters"], count, 0)


class Seen:
    """What passes through a network's stages, by the names of the fixtures."""

    def __init__(self) -> None:
        self.values: dict[str, Tensor] = {}

    def watch(self, trunk: nn.Module, names: Any, prefix: str) -> None:
        """Keep what the stages of a trunk and the poolings behind them make."""
        for name in names.tolist():
            match = re.fullmatch(r"(g_\w+?)_conv(\d)/\1_conv\2_(\d)/Maximum", name)
            if match is None or PREFIXES.get(match[1]) != prefix:
                continue
            norm = trunk.get_submodule(f"stages.{int(match[2]) - 1}.norms.{int(match[3]) - 1}")
            norm.register_forward_hook(self.keep(name, leaky=True))

        def poolings(_module: nn.Module, _inputs: Any, outputs: list[Tensor]) -> None:
            for name in names.tolist():
                match = re.fullmatch(r"g_\w+_pool(\d)/(Avg|Max)Pool", name)
                if match is not None and int(match[1]) <= len(outputs):
                    self.values[name] = outputs[int(match[1]) - 1].detach()

        trunk.register_forward_hook(poolings)

    def keep(self, name: str, leaky: bool = False) -> Callable[..., None]:
        """Return a hook that keeps a module's output."""

        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            value = F.leaky_relu(output, SLOPE) if leaky else output
            self.values[name] = value.detach()

        return hook


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Return labels [H, W] as channels [1, classes, H, W]."""
    return F.one_hot(labels, classes).permute(2, 0, 1)[None].float()


def gradient_rows(fixture: Fixture, network: nn.Module, tolerance: float) -> Iterator[Row]:
    """Compare the gradients of a recorded loss, relative to their norms."""
    parameters = dict(network.named_parameters())
    norms = []
    samples = []
    recorded = fixture.arrays["grad_norm"]
    least = 1e-5 * float(recorded.max())
    names = our_names(fixture.arrays["grad_params"].tolist())
    for place, (name, own) in enumerate(names.items()):
        gradient = parameters[own].grad
        norm = float(recorded[place])
        assert gradient is not None
        if norm <= least:
            continue
        ours = float(gradient.double().norm()) / norm
        norms.append((name, np.array(1.0), np.array(ours)))
        if "grad_samples" in fixture.arrays:
            few = fixture.arrays["grad_samples"][place]
            count = min(few.size, gradient.numel())
            flat = gradient.detach().reshape(-1).double().numpy()
            places = np.floor(np.linspace(0, flat.size - 1, count)).astype(np.int64)
            samples.append((name, few[:count] / norm, flat[places] / norm))
    allowed = GRADIENT_FACTOR * tolerance
    yield compare_each(fixture.name, "grad_norm", norms, allowed)
    if samples:
        yield compare_each(fixture.name, "grad_samples", samples, allowed)


# ---- Order ----


def order_rows(fixture: Fixture, tolerance: float) -> Iterator[Row]:
    """Scores of pairs of segments."""
    _, width = sizes(fixture)
    network = OrderNetwork(len(fixture.arrays["palette"]), width).eval()
    yield from load(network, fixture)
    labels = fixture.tensor("label").long()
    classes = fixture.arrays["segment_classes"]
    masks = []
    for first, second in fixture.arrays["pairs"].tolist():
        masks.append((labels == int(classes[first])) | (labels == int(classes[second])))
    pairs = paint_pairs(labels, torch.stack(masks), fixture.tensor("palette"))
    seen = Seen()
    seen.watch(network.trunk, fixture.arrays["trace_names"], "trunk")
    network.hidden.register_forward_pre_hook(
        lambda _module, inputs: seen.values.update({"g_selection_pool6/AvgPool": inputs[0]})
    )
    network.norm.register_forward_hook(seen.keep("g_selection_conv6/Maximum", leaky=True))
    with torch.inference_mode():
        scores = network(pairs)
    yield relative("scores", fixture, scores.numpy(), tolerance)
    yield from trace_rows(fixture, seen.values, tolerance)
    done = {"label", "palette", "segment_classes", "pairs", "scores"}
    yield from rest(fixture, done)


# ---- Transform ----


def transform_rows(fixture: Fixture, tolerance: float) -> Iterator[Row]:
    """Affine maps of segments, segments moved by them, the loss and its gradients."""
    inputs, width = sizes(fixture)
    channels = inputs - SEGMENT_CHANNELS
    network = TransformNetwork(channels, width)
    yield from load(network, fixture)
    labels = fixture.tensor("label").long()
    photo = photographs(fixture, "photo_tag", 1)
    values = colors(photo)
    total = np.array((values.double() / 255).sum().item())
    yield relative("photo_sum", fixture, total, tolerance)
    count = fixture.number("segments")
    classes, areas = np.unique(labels.numpy(), return_counts=True)
    largest = classes[np.lexsort((classes, -areas))][:count]
    slots = min(SLOTS, count + 1)  # the slots behind are as the first empty one
    targets = torch.zeros(slots, 1, *labels.shape)
    segments = torch.zeros(slots, 3, *labels.shape)
    for slot, label in enumerate(largest.tolist()):
        targets[slot, 0] = labels == label
        shift = tuple(fixture.arrays["shifts"][slot].tolist())
        there = torch.roll(targets[slot], shift, (1, 2))
        segments[slot] = values[0] / 255 * there
    maps = one_hot(labels, channels).expand(slots, -1, -1, -1)
    seen = Seen()
    first_only = fixture.arrays["trace_names"]
    seen.watch(network.trunk, first_only, "trunk")
    theta = network(segments, targets, maps)
    seen.values = {name: value[:count] for name, value in seen.values.items()}
    last = [name for name in first_only.tolist() if name.endswith("pool6/AvgPool")]
    for name in last:
        seen.values[name] = seen.values["g_transform_pool5/MaxPool"].mean((2, 3))
    yield from trace_rows(fixture, seen.values, tolerance)
    for kind in ("train", "test"):
        free = theta
        if kind == "test":
            free = theta.detach().round()
        moved = move(segments, free)
        merged = (moved * targets).sum(0)
        loss = placement_loss(moved, targets, values[0])
        all_theta = free[[*range(slots), *[count] * (SLOTS - slots)]].detach()
        unrounded = theta[[*range(slots), *[count] * (SLOTS - slots)]].detach()
        yield relative(f"{kind}/theta_before_rounding", fixture, unrounded, tolerance)
        yield relative(f"{kind}/theta", fixture, all_theta, tolerance)
        allowed = max(MOVED, tolerance)
        yield relative(f"{kind}/moved", fixture, moved[:count].detach(), allowed)
        sums = np.zeros(SLOTS)
        sums[:slots] = moved.detach().double().abs().sum((1, 2, 3)).numpy()
        yield relative(f"{kind}/moved_abs", fixture, sums, tolerance)
        yield relative(f"{kind}/merged_abs", fixture, magnitude(merged), tolerance)
        yield relative(f"{kind}/loss", fixture, loss.detach().numpy(), tolerance)
        if kind == "train":
            torch.autograd.backward(loss)
    yield from gradient_rows(fixture, network, tolerance)
    done = {"photo_tag", "photo_sum", "segments", "shifts", "grad_params", "grad_norm"}
    done |= {name for name in fixture.arrays if name.startswith(("train/", "test/"))}
    yield from rest(fixture, done)


# ---- Synthesis ----


def synthesis_rows(fixture: Fixture, tolerance: float) -> Iterator[Row]:
    """Image and logits of a map and a canvas with holes, the loss and its gradients."""
    labels = fixture.tensor("label").long()
    height, width = labels.shape
    inputs, base_width = sizes(fixture)
    classes = inputs - CANVAS_CHANNELS
    network = SynthesisNetwork(classes, base_width, (height, width))
    yield from load(network, fixture)
    photo = photographs(fixture, "photo_tag", 1)
    values = colors(photo)
    total = np.array(values.double().sum().item())
    yield relative("photo_sum", fixture, total, tolerance)
    holes = np.unpackbits(fixture.arrays["holes"])[: height // 16 * (width // 16)]
    cells = torch.from_numpy(holes.reshape(height // 16, width // 16)).bool()
    blank = cells.repeat_interleave(16, 0).repeat_interleave(16, 1)
    canvas = values / 255 * ~blank
    covered = (canvas.sum(1) > 0).float().mean().numpy()
    yield relative("coverage", fixture, covered, tolerance)
    seen = Seen()
    seen.watch(network.encoder, fixture.arrays["trace_names"], "encoder")
    resized = watch_decoder(network, seen, inputs)
    made = network(one_hot(labels, classes), canvas)
    for place, value in enumerate(resized):
        suffix = f"_{place}" if place else ""
        seen.values[f"ResizeBilinear{suffix}"] = value
    of_shapes(fixture, seen)
    images = colors(made.images)
    yield from trace_rows(fixture, seen.values, tolerance)
    yield relative("image", fixture, images, tolerance)
    yield relative("image_abs", fixture, magnitude(images), tolerance)
    yield relative("logits", fixture, made.logits, tolerance)
    yield relative("logits_abs", fixture, magnitude(made.logits), tolerance)
    middle = np.s_[height // 2 - 16 : height // 2 + 16, width // 2 - 16 : width // 2 + 16]
    crop = images[0, :, middle[0], middle[1]].detach().numpy()
    yield relative("image_crop", fixture, crop, tolerance)
    done = {"photo_tag", "photo_sum", "holes", "coverage", "image", "image_abs", "logits"}
    done |= {"logits_abs", "image_crop", "truth", "loss_names", "terms", "loss"}
    done |= {"grad_params", "grad_norm", "grad_samples"}
    if "truth" in fixture.arrays:
        truth = fixture.tensor("truth").long()[None]
        with tempfile.TemporaryDirectory() as folder:
            loss = SynthesisLoss(PLAIN, str(vgg19_file(Path(folder))), "caffe")
        terms = loss.terms(made, photo, truth)
        torch.autograd.backward(terms.sum())
        yield relative("terms", fixture, terms.detach().numpy(), tolerance)
        yield relative("loss", fixture, terms.sum().detach().numpy(), tolerance)
        yield from gradient_rows(fixture, network, tolerance)
    yield from rest(fixture, done)


def watch_decoder(network: SynthesisNetwork, seen: Seen, channels: int) -> list[Tensor]:
    """Keep what the levels of the decoder make; return the list of what is resized for them.

    In the order of the published graph: for each level the features, then the input.
    """
    for number, level in enumerate(network.levels):
        stage = STAGES - number
        for which in (1, 2):
            name = f"g_decoder_conv{stage}/g_decoder_conv{stage}_{which}/Maximum"
            norm = level.get_submodule(f"norm{which}")
            norm.register_forward_hook(seen.keep(name, leaky=True))
    for which in (1, 2):
        name = f"g_decoder_final/g_decoder_final_{which}/Maximum"
        norm = network.full.get_submodule(f"norm{which}")
        norm.register_forward_hook(seen.keep(name, leaky=True))
    resized: list[Tensor] = []
    widths = [512, *[level.conv2.out_channels for level in network.levels]]
    if network.finer:
        network.encoder.register_forward_pre_hook(
            lambda _module, inputs: resized.append(inputs[0].detach())
        )

    def inputs_of(number: int) -> Callable[..., None]:
        """Return a hook for a level: [input, encoder's features, features before]."""

        def hook(_module: nn.Module, inputs: tuple[Tensor]) -> None:
            x = inputs[0].detach()
            if number:
                resized.append(x[:, x.shape[1] - widths[number] :])
            if number < STAGES:
                resized.append(x[:, :channels])

        return hook

    for number, level in enumerate([*network.levels, network.full]):
        level.register_forward_pre_hook(inputs_of(number))
    for level in network.finer:
        level.register_forward_pre_hook(
            lambda _module, inputs: resized.append(inputs[0][:, channels:].detach())
        )
    return resized


def of_shapes(fixture: Fixture, seen: Seen) -> None:
    """Leave only tensors of the recorded shapes: others are not what the names mean."""
    names = fixture.arrays["trace_names"].tolist()
    shapes = fixture.arrays["trace_shapes"].tolist()
    for name, shape in zip(names, shapes, strict=True):
        value = seen.values.get(name)
        if value is not None and ",".join(map(str, value.shape)) != shape:
            del seen.values[name]
