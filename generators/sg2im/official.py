"""Recognise an sg2im by key names and shapes: G and both discriminators."""

from __future__ import annotations

import re
from typing import Any

import torch

from synthaug.generators.base import IN_IMAGE
from synthaug.generators.official import Found, State, vote
from synthaug.generators.sg2im.config import GEOMETRIC, WIDTHS, Config
from synthaug.generators.sg2im.discriminator import ImageDiscriminator, ObjectDiscriminator
from synthaug.generators.sg2im.network import Sg2ImGenerator

LEVEL = re.compile(r"refinement_net\.refinement_modules\.(\d+)\.net\.0\.weight")
# the classifier of relations, whose loss has the weight 0 in the published training
UNUSED_OF_GENERATOR = re.compile(r"rel_aux_net\..*")
# a classifier that the published discriminator never applies
UNUSED_OF_IMAGE = re.compile(r"classifier\.(weight|bias)")


def recognise(state: State, _background: bool) -> Found | None:
    """Return the network of a state dict, None when its keys are not sg2im's.

    ValueError names a key that is wrong.
    """
    if "pred_embeddings.weight" in state and any(LEVEL.fullmatch(key) for key in state):
        return _generator(state)
    if "real_classifier.weight" in state and "cnn.0.0.weight" in state:
        return _object_discriminator(state)
    if "classifier.weight" in state and "cnn.0.weight" in state and "cnn.6.weight" in state:
        return _image_discriminator(state)
    return None


def _generator(state: State) -> Found:
    rows = vote(state, 0, ("obj_embeddings.weight", 0))
    labels = rows - 1  # the published table has one row too many
    if labels < 2:
        raise ValueError(f"'obj_embeddings.weight' has {rows} rows; a model has at least 3")
    resolution, width = _cascade(state)
    embedding = vote(state, 0, ("pred_embeddings.weight", 1), ("obj_embeddings.weight", 1))
    layout = vote(state, 0, ("refinement_net.refinement_modules.0.net.0.weight", 1)) - 1
    sizes: dict[str, Any] = {"width": width, "embedding": embedding, "noise": layout - embedding}
    if sizes["noise"] < 0:
        raise ValueError(
            f"'refinement_net.refinement_modules.0.net.0.weight' reads a layout of {layout} "
            f"channels, fewer than the {embedding} of a vector"
        )
    sizes["hidden"] = vote(state, Config.hidden, ("box_net.0.weight", 0))
    sizes["graph_layers"] = _graph_layers(state)
    doublings = sum(bool(re.fullmatch(r"mask_net\.\d+\.running_mean", key)) for key in state)
    sizes["mask_side"] = 2**doublings if doublings else 0
    relations = vote(state, 0, ("pred_embeddings.weight", 0))
    hint = ""
    if relations != len(GEOMETRIC):
        names = [f"relation {number}" for number in range(1, relations)]
        sizes["relations"] = (IN_IMAGE, *names)
        sizes["given_masks"] = False
        hint = (
            f"{relations} relations are not the geometric ones: layouts without relations are "
            "painted with the one to the image alone"
        )
    config = Config(resolution=resolution, **sizes)
    title = f"sg2im at {resolution} pixels, width {width}, {labels} label rows"
    with torch.device("meta"):
        network = Sg2ImGenerator(config, labels)
    return Found("generator", config, labels, title, network, UNUSED_OF_GENERATOR, hint)


def _cascade(state: State) -> tuple[int, int]:
    """Return resolution and base width; ValueError when no model has such levels."""
    numbers = sorted(int(match[1]) for key in state if (match := LEVEL.fullmatch(key)))
    for resolution, multiples in WIDTHS.items():
        if len(multiples) == len(numbers):
            last = f"refinement_net.refinement_modules.{numbers[-1]}.net"
            output = "refinement_net.output_conv.0"
            width = vote(state, 0, (f"{last}.0.weight", 0), (f"{output}.weight", 1))
            return resolution, width
    raise ValueError(
        f"has {len(numbers)} blocks 'refinement_net.refinement_modules.*'; no model has so many"
    )


def _graph_layers(state: State) -> int:
    if "gconv.weight" in state:
        return 0
    later = set()
    for key in state:
        match = re.match(r"gconv_net\.gconvs\.(\d+)\.", key)
        if match:
            later.add(match[1])
    return 1 + len(later)


def _object_discriminator(state: State) -> Found:
    labels = vote(state, 0, ("obj_classifier.weight", 0), ("obj_classifier.bias", 0))
    width = vote(state, 0, ("cnn.0.0.weight", 0), ("cnn.0.0.bias", 0))
    hidden = vote(state, 0, ("real_classifier.weight", 1), ("cnn.2.weight", 0))
    with torch.device("meta"):
        network = ObjectDiscriminator(width, labels, hidden)
    title = f"sg2im, object discriminator of width {width}, {labels} label rows"
    return Found("discriminator", Config(width_d=width), labels, title, network)


def _image_discriminator(state: State) -> Found:
    width = vote(state, 0, ("cnn.0.weight", 0), ("cnn.0.bias", 0))
    with torch.device("meta"):
        network = ImageDiscriminator(width)
    title = f"sg2im, image discriminator of width {width}"
    return Found("discriminator", Config(width_d=width), 1, title, network, UNUSED_OF_IMAGE)
