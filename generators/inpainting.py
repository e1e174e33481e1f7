"""Regions of real images painted by a pretrained pipeline of diffusers.

It is an in-painting pipeline, and is told classes as words.

The pipeline lies in a folder that the user has (model_index.json and its parts as safetensors).
Nothing is trained, nothing is downloaded, and no pickle is read. Each window is painted twice from
the same noise, with the object's words and with the background's: where the two differ is the
object, as with the in-filler.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from synthaug.generators.base import SamplerOptions
from synthaug.generators.fill.config import Config as WindowConfig
from synthaug.generators.fill.sampler import WindowSampler
from synthaug.generators.fill.windows import Windows
from synthaug.generators.nn.precision import uses_bfloat16
from synthaug.ranges import at_least

CONDITION = "edit"
LEARNS = False
ADDS_ONLY = True
TWO_STAGE = False
FILES = {"index": ""}

INDEX = "model_index.json"
MULTIPLE = 64  # pixels: sides of windows are multiples of it


@dataclass(frozen=True)
class Config:
    """A pipeline and the words that it is told."""

    # folder of an in-painting pipeline of diffusers, with safetensors; nothing is downloaded
    pipeline: str = ""
    lora: str = ""  # folder or file of LoRA weights (safetensors) for it; "" = none
    # class -> words that describe one of its objects; others: a photo of a CLASS
    prompts: dict[str, str] = field(default_factory=dict)
    empty_prompt: str = "background"  # words for places without an object
    side: int = 512  # pixels per side at which windows are painted
    surroundings: float = 2.0  # side of a window in longer sides of its box
    margin: float = 0.08  # share of the box by which the painted region reaches beyond it
    denoising_steps: int = 30  # of the pipeline's scheduler
    guidance: float = 7.5  # towards the words
    digest: str = ""  # of the pipeline's weights; filled in, so that other weights are noticed

    def __post_init__(self) -> None:
        if not self.pipeline:
            raise ValueError(
                "pipeline: names no folder; give that of an in-painting pipeline of diffusers"
            )
        if not Path(self.index).is_file():
            raise ValueError(f"pipeline: {self.index} is not there; name the folder of a pipeline")
        if self.side < MULTIPLE or self.side % MULTIPLE:
            raise ValueError(f"side: {self.side} is not a multiple of {MULTIPLE}")
        if self.surroundings < 1:
            raise ValueError(f"surroundings: {self.surroundings} is less than the box itself")
        at_least(1, self, "denoising_steps")
        at_least(0, self, "margin", "guidance")

    @property
    def index(self) -> str:
        """Return the file that lists the parts of the pipeline."""
        return str(Path(self.pipeline) / INDEX)


class Described(nn.Module):
    """No weights; it is saved and loaded for its Config, like other networks."""

    def __init__(self, config: Config, num_classes: int) -> None:
        super().__init__()
        self.config = config
        self.num_classes = num_classes


def build(config: Config, num_classes: int) -> Described:
    """Return the settings with the digest of the pipeline's weights.

    ValueError where they are others than before.
    """
    needed = ["diffusers", "transformers"]
    if config.lora:
        needed.append("peft")
    for name in needed:
        if importlib.util.find_spec(name) is None:
            raise ValueError(f"pipeline: {name} is not installed; pip install {name}")
    digest = digest_of(config)
    if config.digest and config.digest != digest:
        raise ValueError(
            f"pipeline: the weights in {config.pipeline} are not those of this checkpoint; put "
            "them back"
        )
    return Described(replace(config, digest=digest), num_classes)


def digest_of(config: Config) -> str:
    """Return the digest of a pipeline's weights; ValueError where there are none."""
    files = _weights_at("pipeline", config.pipeline)
    if config.lora:
        files += _weights_at("lora", config.lora)
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode())
        with file.open("rb") as content:
            while chunk := content.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def _weights_at(key: str, place: str) -> list[Path]:
    """Return the weights in a folder or the file itself; ValueError without any."""
    root = Path(place)
    files = sorted(root.rglob("*.safetensors"))
    if root.is_file() and root.suffix == ".safetensors":
        files = [root]
    if not files:
        raise ValueError(f"{key}: {place} holds no .safetensors; save it as such")
    return files


def sampler(network: nn.Module, options: SamplerOptions) -> InpaintingSampler:
    """Return the sampler; nothing is truncated or compiled."""
    assert isinstance(network, Described)
    return InpaintingSampler(network, options)


class InpaintingSampler(WindowSampler):
    """Paints the regions of edits in windows, by the pipeline."""

    def __init__(self, network: Described, options: SamplerOptions) -> None:
        config = network.config
        sizes = WindowConfig(
            resolutions=(config.side,),
            surroundings=config.surroundings,
            margin=config.margin,
        )
        super().__init__(sizes, network.num_classes)
        self._settings = config
        self._words = words_of(config, options.classes, network.num_classes)
        device = torch.device(options.device)
        bf16 = uses_bfloat16(options.precision, device)
        precision = torch.bfloat16 if bf16 else torch.float32
        self._pipeline = _load(config, device, precision)

    @torch.no_grad()
    def _fill(self, windows: Windows, seeds: Sequence[int], guided: bool) -> Tensor:
        """Paint by the words of the labels; see the base class.

        A pipeline needs its guidance for background too.
        """
        labels = windows.labels.tolist()
        words = [self._words[label] for label in labels]
        side = windows.pixels.shape[-1]
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        output = self._pipeline(
            prompt=words,
            image=(windows.pixels + 1) / 2,
            mask_image=windows.region,
            height=side,
            width=side,
            num_inference_steps=self._settings.denoising_steps,
            guidance_scale=self._settings.guidance,
            generator=generators,
            output_type="pt",
        )
        painted = output.images.float().cpu() * 2 - 1
        in_region = windows.region > 0.5
        mixed = torch.where(in_region, painted, windows.pixels)
        return mixed.clamp(-1, 1)


def words_of(config: Config, classes: Sequence[str], num_classes: int) -> list[str]:
    """Return the words for each class, for background, and for seams.

    ValueError for words of a class that is not there.
    """
    names = list(classes) or [f"thing {number}" for number in range(num_classes)]
    unknown = [name for name in config.prompts if name not in names]
    if unknown:
        raise ValueError(f"prompts: the data has no class '{unknown[0]}'")
    words = [config.prompts.get(name, f"a photo of a {name}") for name in names]
    return [*words, config.empty_prompt, "a photo"]


def _load(config: Config, device: torch.device, dtype: torch.dtype) -> Any:
    """Return the pipeline on a device; ValueError where the library cannot read it."""
    from diffusers import AutoPipelineForInpainting

    settings: Mapping[str, Any] = {"local_files_only": True, "use_safetensors": True}
    try:
        pipeline = AutoPipelineForInpainting.from_pretrained(
            config.pipeline, torch_dtype=dtype, **settings
        )
        if config.lora:
            pipeline.load_lora_weights(config.lora, **settings)
    except (OSError, ValueError, KeyError) as err:
        reason = str(err).strip().splitlines()[0]
        lora = f" with generator.lora {config.lora}" if config.lora else ""
        raise ValueError(f"pipeline: {config.pipeline}{lora} cannot be read: {reason}") from err
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)
