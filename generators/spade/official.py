"""Which SPADE a state dict is, by its key names and shapes: generators of all depths, discriminators and encoders."""

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


def recognise(state: State, background: bool) -> Found | None:
    """Return what the state dict is, or None when its keys are not SPADE's; ValueError names a key that is wrong."""
    del background  # of layout-driven systems
    if any(".mlp_shared." in key for key in state):
        return _generator(state)
    if any(re.match(r"discriminator_\d+\.model\d", key) for key in state):
        return _discriminator(state)
    if any(key.startswith("fc_mu.") for key in state):
        return _encoder(state)
    return None


def _settings(channels: int) -> tuple[str, Config, int, str]:
    """Name, settings, number of classes and a hint, for a number of channels of the semantic tensor."""
    name, config = PUBLISHED.get(channels, ("own data", Config()))
    classes = channels - config.semantic_channels(0)
    if classes < 1:
        raise ValueError(
            f"has {channels} channels for maps; one class, don't care and boundaries need 3"
        )
    if channels in PUBLISHED:
        return name, config, classes, ""
    taken = f"{classes} classes, don't care and boundaries"
    return name, config, classes, f"{channels} channels for maps tell no data set: taken as {taken}"


def _generator(state: State) -> Found:
    first = ["head_0.norm_0", "head_0.norm_1", "G_middle_0.norm_0"]
    channels = vote(state, 0, *((f"{norm}.mlp_shared.0.weight", 1) for norm in first))
    name, config, classes, hint = _settings(channels)
    places = ["head_0.conv_0.bias", "head_0.conv_1.bias", "G_middle_0.conv_0.bias"]
    wide = vote(state, 0, *((place, 0) for place in places))
    if wide % 16 or not wide:
        raise ValueError(
            f"'{places[0]}' has {wide} values, no multiple of 16; it is a checkpoint of another model"
        )
    config = replace(config, width=wide // 16, vae=_with_code(state))
    if any(key.startswith("up_4.") for key in state):
        config = replace(config, upsampling="most")
    if config.vae:
        config = _from_first_map(config, vote(state, 0, ("fc.bias", 0), ("fc.weight", 0)), wide)
        config = replace(config, z=vote(state, Config.z, ("fc.weight", 1)))
    with torch.device("meta"):
        network = SpadeGenerator(config, classes)
    height, width = config.size
    depth = f"{config.upsampling} upsampling{', latent code' if config.vae else ''}"
    title = f"SPADE ({name}) at {width} x {height} pixels, {depth}, width {config.width}, {classes} classes"
    return Found("generator", config, classes + 1, title, network, hint=hint)


def _with_code(state: State) -> bool:
    """Whether the first map is made of a latent code: by a linear layer then, else by a convolution."""
    return vote(state, 4, ("fc.weight", 0)) > 0 and state["fc.weight"].ndim == 2


def _from_first_map(config: Config, rows: int, wide: int) -> Config:
    """The settings whose first map has as many pixels as the linear layer makes, at the published resolution if any does."""
    modes = (
        [config.upsampling]
        if config.upsampling == "most"
        else [config.upsampling, "normal", "more"]
    )
    found = []
    for mode in modes:
        columns = round(math.sqrt(rows / wide * config.aspect_ratio))
        fitting = max(columns, 1) << DOUBLINGS[mode]
        candidate = replace(config, upsampling=mode, resolution=fitting)
        if math.prod(candidate.start) * wide == rows:
            found.append(candidate)
    if not found:
        raise ValueError(
            f"'fc.weight' has {rows} rows, which make no first map of {wide} channels; it is another model's"
        )
    return next((c for c in found if c.resolution == config.resolution), found[0])


def _discriminator(state: State) -> Found:
    numbers = [int(m[1]) for key in state if (m := re.match(r"discriminator_(\d+)\.model\d", key))]
    layers = max(
        int(m[1]) for key in state if (m := re.match(r"discriminator_\d+\.model(\d+)", key))
    )
    scales = max(numbers) + 1
    channels = (
        vote(state, 0, *((f"discriminator_{k}.model0.0.weight", 1) for k in range(scales))) - 3
    )
    firsts = [
        f"discriminator_{k}.model0.0.{what}" for k in range(scales) for what in ("weight", "bias")
    ]
    width = vote(state, 0, *((place, 0) for place in firsts))
    if layers < 2 or not width:
        raise ValueError(
            "'discriminator_0.model0.0.weight' is of no discriminator with layers; it is no complete checkpoint"
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
    return Found(
        "encoder",
        config,
        COCO_LABELS,
        f"SPADE, width {width}, latent code of {z}",
        network,
        hint=hint,
    )
