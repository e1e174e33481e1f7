"""Recognition of SPADE's state dicts by key names and shapes: G, D and E."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import torch

from synthaug.generators.official import Found, State, vote
from synthaug.generators.spade.discriminator import Discriminator, Encoder
from synthaug.generators.spade.network import DOUBLINGS, Config, SpadeGenerator

# channels of the semantic tensor of the published models: their settings besides the widths
PUBLISHED = {
    184: ("COCO-Stuff", Config()),
    36: (
        "Cityscapes",
        Config(resolution=512, aspect_ratio=2.0, upsampling="more", dont_care=False),
    ),
    151: ("ADE20K", Config(edges=False)),
}
COCO_LABELS = 183  # label rows of COCO-Stuff: its classes and row 0
DISCRIMINATOR_KEY = re.compile(r"discriminator_(\d+)\.model(\d+)")


def recognise(state: State, background: bool) -> Found | None:
    """Return the network of a state dict, or None when its keys are not SPADE's.

    Raises ValueError naming a key that is wrong.
    """
    del background  # of layout-driven systems
    if any(".mlp_shared." in key for key in state):
        return _generator(state)
    if any(DISCRIMINATOR_KEY.match(key) for key in state):
        return _discriminator(state)
    if any(key.startswith("fc_mu.") for key in state):
        return _encoder(state)
    return None


def _settings(channels: int) -> tuple[str, Config, int, str]:
    """Return name, settings, classes and a hint for channels of the semantic tensor."""
    name, config = PUBLISHED.get(channels, ("own data", Config()))
    classes = channels - config.semantic_channels(0)
    if classes < 1:
        raise ValueError(
            f"has {channels} channels for maps; one class, don't care and boundaries need 3"
        )
    hint = ""
    if channels not in PUBLISHED:
        taken = f"{classes} classes, don't care and boundaries"
        hint = f"{channels} channels for maps tell no data set: taken as {taken}"
    return name, config, classes, hint


def _generator(state: State) -> Found:
    norms = ("head_0.norm_0", "head_0.norm_1", "G_middle_0.norm_0")
    places = [(f"{norm}.mlp_shared.0.weight", 1) for norm in norms]
    channels = vote(state, 0, *places)
    name, config, classes, hint = _settings(channels)
    biases = ("head_0.conv_0.bias", "head_0.conv_1.bias", "G_middle_0.conv_0.bias")
    places = [(bias, 0) for bias in biases]
    features = vote(state, 0, *places)
    if features % 16 or not features:
        raise ValueError(
            f"'{biases[0]}' has {features} values, no multiple of 16; "
            "it is a checkpoint of another model"
        )
    width = features // 16
    config = replace(config, width=width, vae=_has_code(state))
    if any(key.startswith("up_4.") for key in state):
        config = replace(config, upsampling="most")
    if config.vae:
        rows = vote(state, 0, ("fc.bias", 0), ("fc.weight", 0))
        config = _fit_first_map(config, rows, features)
        z = vote(state, Config.z, ("fc.weight", 1))
        config = replace(config, z=z)
    with torch.device("meta"):
        network = SpadeGenerator(config, classes)
    height, width = config.size
    depth = f"{config.upsampling} upsampling"
    if config.vae:
        depth = f"{depth}, latent code"
    title = (
        f"SPADE ({name}) at {width} x {height} pixels, {depth}, "
        f"width {config.width}, {classes} classes"
    )
    return Found("generator", config, classes + 1, title, network, hint=hint)


def _has_code(state: State) -> bool:
    """Return whether the first map comes from a latent code, by a linear layer."""
    return vote(state, 4, ("fc.weight", 0)) > 0 and state["fc.weight"].ndim == 2


def _fit_first_map(config: Config, rows: int, features: int) -> Config:
    """Return the settings whose first map has the linear layer's pixels.

    At the published resolution if any fits there.
    """
    modes = [config.upsampling]
    if config.upsampling != "most":
        modes += ["normal", "more"]
    fitting = []
    for mode in modes:
        columns = round(math.sqrt(rows / features * config.aspect_ratio))
        resolution = max(columns, 1) << DOUBLINGS[mode]
        candidate = replace(config, upsampling=mode, resolution=resolution)
        if math.prod(candidate.start) * features == rows:
            fitting.append(candidate)
    if not fitting:
        raise ValueError(
            f"'fc.weight' has {rows} rows, which make no first map of {features} channels; "
            "it is another model's"
        )
    for candidate in fitting:
        if candidate.resolution == config.resolution:
            return candidate
    return fitting[0]


def _discriminator(state: State) -> Found:
    scales = 0
    layers = 0
    for key in state:
        match = DISCRIMINATOR_KEY.match(key)
        if match is not None:
            scales = max(scales, int(match[1]) + 1)
            layers = max(layers, int(match[2]))
    firsts = [f"discriminator_{k}.model0.0" for k in range(scales)]
    places = [(f"{first}.weight", 1) for first in firsts]
    inputs = vote(state, 0, *places)
    channels = inputs - 3  # without those of the image
    widths = []
    for first in firsts:
        widths.append((f"{first}.weight", 0))
        widths.append((f"{first}.bias", 0))
    width = vote(state, 0, *widths)
    if layers < 2 or not width:
        raise ValueError(
            "'discriminator_0.model0.0.weight' is of no discriminator with layers; "
            "it is no complete checkpoint"
        )
    name, config, classes, hint = _settings(channels)
    config = replace(config, width_d=width, num_scales=scales, num_layers=layers)
    with torch.device("meta"):
        network = Discriminator(channels, width, scales, layers)
    title = f"SPADE ({name}), {scales} scales, width {width}, {classes} classes"
    return Found("discriminator", config, classes + 1, title, network, hint=hint)


def _encoder(state: State) -> Found:
    width = vote(
        state, 0, ("layer1.0.weight_orig", 0), ("layer1.0.weight_u", 0), ("layer2.0.weight_orig", 1)
    )
    z = vote(state, Config.z, ("fc_mu.weight", 0), ("fc_mu.bias", 0), ("fc_var.bias", 0))
    if not width or not z:
        raise ValueError(
            "'layer1.0.weight_orig' or 'fc_mu.weight' is empty; it is no complete checkpoint"
        )
    config = Config(width=width, vae=True, z=z)
    with torch.device("meta"):
        network = Encoder(width, z)
    hint = "an encoder does not tell the classes of its generator: taken as COCO-Stuff's"
    title = f"SPADE, width {width}, latent code of {z}"
    return Found("encoder", config, COCO_LABELS, title, network, hint=hint)
