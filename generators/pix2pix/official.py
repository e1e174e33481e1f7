"""Recognition of pix2pix's state dicts by key names and shapes: G and D.

Keys do not tell boxes from maps. Channels of the layout baseline are taken as classes of boxes,
others as those of maps (official_maps.py).
"""

from __future__ import annotations

import re

import torch

from synthaug.generators.official import Found, State, vote
from synthaug.generators.pix2pix.config import MIN_DOWNS, Config, MapConfig
from synthaug.generators.pix2pix.network import PatchDiscriminator, UNet

LAYOUT_CHANNELS = (171, 178)  # classes of COCO-Stuff and of Visual Genome
PICTURE_CHANNELS = 3
SMALLEST = 32  # pixels a side that the discriminator has patches of
OUTERMOST = "model.model.0.weight"
FIRST = "model.0.weight"
LAYER_KEY = re.compile(r"model\.(\d+)\.weight")


def recognise(state: State, background: bool) -> Found | None:
    """Return the network of a state dict, or None when it is not one of layouts.

    Raises ValueError naming a key that is wrong.
    """
    del background  # of other systems
    if OUTERMOST in state and channels_of(state) in LAYOUT_CHANNELS:
        return find_generator(state, of_maps=False)
    if FIRST in state and state[FIRST].ndim == 4:
        return _discriminator(state)
    return None


def channels_of(state: State) -> int:
    """Return the channels of the condition that a generator reads."""
    return vote(state, 0, (OUTERMOST, 1))


def find_generator(state: State, of_maps: bool) -> Found:
    """Return the generator of a state dict that has the outermost key."""
    channels = channels_of(state)
    width = vote(state, 0, (OUTERMOST, 0), ("model.model.1.model.1.weight", 1))
    if not channels or not width:
        raise ValueError(f"'{OUTERMOST}' is empty; it is no complete checkpoint")
    # a key of the outermost level has the word twice, one of each level below once more
    words = [key.split(".").count("model") for key in state]
    downs = max(words) - 1
    if downs < MIN_DOWNS:
        raise ValueError(
            f"lacks 'model.model.1.model.1.weight'; a U-Net has {MIN_DOWNS} levels or more"
        )
    side = max(2**downs, SMALLEST)
    config: Config
    if of_maps:
        config = MapConfig(resolution=side, width=width, downs=downs, dont_care=False)
    else:
        config = Config(resolution=side, width=width, downs=downs)
    with torch.device("meta"):
        network = UNet(config, channels, channels)
    kind = "maps" if of_maps else "boxes"
    title = f"pix2pix from {kind}, {downs} halvings, width {width}, {channels} classes"
    hint = f"nothing tells the size of the images: taken as {side} x {side} pixels"
    if channels == PICTURE_CHANNELS:
        hint += "; 3 channels are those of colored pictures, which this system does not read"
    return Found("generator", config, channels + 1, title, network, hint=hint)


def _discriminator(state: State) -> Found:
    inputs = vote(state, 0, (FIRST, 1))
    channels = inputs - PICTURE_CHANNELS  # without those of the image
    width = vote(state, 0, (FIRST, 0), ("model.0.bias", 0), ("model.2.weight", 1))
    numbers = []
    for key in state:
        match = LAYER_KEY.fullmatch(key)
        if match is not None:
            numbers.append(int(match[1]))
    layers = (max(numbers) - 2) // 3  # behind the first convolution, each with norm and ReLU
    if layers < 1 or channels < 1 or not width:
        raise ValueError(
            f"'{FIRST}' is of no discriminator with a condition and layers; "
            "it is no complete checkpoint"
        )
    side = 4 << layers
    config = Config(resolution=side, width_d=width, num_layers=layers)
    with torch.device("meta"):
        network = PatchDiscriminator(channels, width, layers, per_image=True)
    title = f"pix2pix, {layers} strided layers, width {width}, {channels} channels"
    return Found("discriminator", config, channels + 1, title, network)
