"""A pretrained pipeline as the painter of edits.

Words, known pixels, its folder, and other weights in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from synthaug.generators import inpainting
from synthaug.generators.base import Edit, Painting, Photo, SamplerOptions
from synthaug.generators.inpainting import Config, InpaintingSampler, build, words_of
from tests.generators.tiny_pipeline import tiny_pipeline

CLASSES = ("cell", "kite")
BOX = np.array([20, 12, 40, 30], np.float32)
IMAGE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipeline(tmp_path_factory.mktemp("pipeline"))


@pytest.fixture(scope="module")
def config(folder: Path) -> Config:
    return Config(pipeline=str(folder), side=64, denoising_steps=2)


@pytest.fixture(scope="module")
def sampler(config: Config) -> InpaintingSampler:
    return inpainting.sampler(build(config, 2), SamplerOptions(classes=CLASSES))


def edit(*paintings: Painting) -> Edit:
    there = Photo(IMAGE, np.array([0]), np.array([[0, 0, 10, 10]], np.float32))
    return Edit(there, paintings)


def test_only_the_region_changes_and_words_and_seeds_matter(sampler: InpaintingSampler) -> None:
    images = []
    for label, seed in ((0, 5), (1, 5), (0, 6)):
        (edited,) = sampler.edit([edit(Painting(label, BOX))], [seed])
        changed = (edited.image != IMAGE).any(2)
        assert changed[16:26, 24:36].mean() > 0.5
        outside = np.ones_like(changed)
        outside[6:36, 14:46] = False
        assert not changed[outside].any()
        assert edited.masks.shape == (1, 48, 64) and 0 <= edited.masks.min()
        images.append(edited.image)
    assert not np.array_equal(images[0], images[1])
    assert not np.array_equal(images[0], images[2])


def test_background_and_seams_are_painted_too(sampler: InpaintingSampler) -> None:
    paintings = [Painting(0, BOX, shows) for shows in ("background", "seam")]
    for painting in paintings:
        (edited,) = sampler.edit([edit(painting)], [1])
        assert not np.array_equal(edited.image, IMAGE)
        assert edited.masks[0].max() > 0.9


def test_classes_are_told_in_words(config: Config) -> None:
    named = replace(config, prompts={"kite": "a kite in the sky"}, empty_prompt="sky")
    words = words_of(named, CLASSES, 2)
    assert ["a photo of a cell", "a kite in the sky", "sky", "a photo"] == words
    with pytest.raises(ValueError, match="prompts: the data has no class 'kits'"):
        words_of(replace(config, prompts={"kits": "x"}), CLASSES, 2)


def test_other_weights_in_the_folder_are_noticed(tmp_path: Path) -> None:
    place = tiny_pipeline(tmp_path / "own")
    network = build(Config(pipeline=str(place), side=64), 2)
    assert 64 == len(network.config.digest)
    assert network.config.digest == build(network.config, 2).config.digest
    tiny_pipeline(place, seed=1)
    with pytest.raises(ValueError, match="are not those of this checkpoint"):
        build(network.config, 2)


def lora_of(pipeline: Path, folder: Path) -> Path:
    """Write LoRA weights for a pipeline, which are not silent as fresh ones are."""
    peft = pytest.importorskip("peft")
    import diffusers
    from diffusers.utils import convert_state_dict_to_diffusers

    whole = diffusers.AutoPipelineForInpainting.from_pretrained(pipeline, local_files_only=True)
    layers = ["to_q", "to_k", "to_v", "to_out.0"]
    whole.unet.add_adapter(peft.LoraConfig(r=4, target_modules=layers, init_lora_weights=False))
    weights = peft.get_peft_model_state_dict(whole.unet)
    layers_of_unet = convert_state_dict_to_diffusers(weights)
    whole.save_lora_weights(folder, unet_lora_layers=layers_of_unet, safe_serialization=True)
    return folder


def test_lora_weights_of_a_folder_change_what_is_painted(
    folder: Path, config: Config, sampler: InpaintingSampler, tmp_path: Path
) -> None:
    tuned = build(replace(config, lora=str(lora_of(folder, tmp_path / "lora"))), 2)
    assert tuned.config.digest != build(config, 2).config.digest
    with_lora = inpainting.sampler(tuned, SamplerOptions(classes=CLASSES))
    asked = [edit(Painting(0, BOX))]
    (plain,), (own,) = sampler.edit(asked, [5]), with_lora.edit(asked, [5])
    assert not np.array_equal(plain.image, own.image)
    (again,) = with_lora.edit(asked, [5])
    assert np.array_equal(again.image, own.image)


def test_a_folder_without_lora_weights_is_one_line(config: Config, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    torch.save({}, tmp_path / "pytorch_lora_weights.bin")
    with pytest.raises(ValueError, match=r"^lora: .* holds no \.safetensors"):
        build(replace(config, lora=str(tmp_path)), 2)
    with pytest.raises(ValueError, match=r"^lora: .* holds no \.safetensors"):
        build(replace(config, lora=str(tmp_path / "pytorch_lora_weights.bin")), 2)


def test_pickles_are_not_read(folder: Path, tmp_path: Path) -> None:
    def bare(suffix: Callable[[Path], bool]) -> Path:
        for file in sorted(folder.rglob("*")):
            if file.is_file() and suffix(file):
                target = tmp_path / file.relative_to(folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read_bytes())
        return tmp_path

    place = bare(lambda file: file.suffix != ".safetensors")
    torch.save({}, place / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(ValueError, match=r"holds no \.safetensors"):
        build(Config(pipeline=str(place)), 2)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"pipeline": ""}, "pipeline: names no folder"),
        ({"pipeline": "/nowhere"}, "pipeline: /nowhere/model_index.json is not there"),
        ({"side": 100}, "side: 100 is not a multiple of 64"),
        ({"surroundings": 0.5}, "surroundings: 0.5 is less than the box itself"),
        ({"denoising_steps": 0}, "denoising_steps: 0 is out of range; give 1 or more"),
        ({"guidance": -1.0}, "guidance: -1.0 is out of range"),
    ],
)
def test_wrong_settings_are_one_line(
    config: Config, wrong: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        replace(config, **wrong)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
