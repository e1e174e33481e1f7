"""Published networks: architectures of torch-fidelity and torchvision.

With their preprocessing; weights come from files. Every network takes uint8 RGB images [H, W, 3] of
any sizes. Images of one size run together, in the order given.

Legend: N images, D features, H x W pixels.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from synthaug.pipeline.core.arrays import Bytes, Floats, Floats32

if TYPE_CHECKING:
    from torch import Tensor, nn

Images = Sequence[Bytes]  # each [H, W, 3] RGB
LOGITS = 1008  # of Inception v3 as TensorFlow has it
POOL5_SIDE = 256  # LostGAN-V2, section 3.1.3: pool5 is 256 x 7 x 7 for 256 x 256 pixels
LIBRARIES = {"inception": "torch_fidelity", "vgg16": "torch_fidelity"}
LPIPS_NETS = {"alex": "alexnet", "vgg": "vgg16"}  # LPIPS's name -> key of convolutions.NETWORKS
# indices in torchvision's `features` of the last ReLU of each stage
LPIPS_STAGES = {"alex": (1, 4, 7, 9, 11), "vgg": (3, 8, 15, 22, 29)}
LPIPS_SHIFT = (-0.030, -0.088, -0.188)
LPIPS_SCALE = (0.458, 0.448, 0.450)
LPIPS_EPS = 1e-8


def missing_library(name: str) -> str | None:
    """Return in one line the library that a network needs and is not there, else None."""
    module = LIBRARIES[name]
    if find_spec(module):
        return None
    library = module.replace("_", "-")
    return f"needs the library {library}, which is not installed; pip install {library}"


class Inception:
    """Inception v3 with the resize of TensorFlow 1 and its pools.

    FID, KID and IS are published with it (`layer` 2048).
    """

    def __init__(
        self, state: Mapping[str, Tensor], device: str = "cpu", layer: str = "2048"
    ) -> None:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        def build(file: io.BytesIO) -> nn.Module:
            extractor: nn.Module = FeatureExtractorInceptionV3(
                "inception", [layer, "logits_unbiased"], feature_extractor_weights_path=file
            )
            return extractor

        self._device = device
        self._model = _filled(build, state, "Inception v3").to(device)

    def __call__(self, images: Images) -> tuple[Floats32, Floats32]:
        """Return pool features [N, 2048] and the logits without their bias [N, 1008]."""

        def run(group: list[Bytes]) -> Tensor:
            features, logits = self._model(_stack(group, self._device))
            return _side_by_side(features, logits)

        both = _by_size(images, run)  # [N, 2048 + 1008]
        return both[:, :-LOGITS], both[:, -LOGITS:]


class Vgg16:
    """The features of improved precision and recall: fc2 of VGG-16 after its ReLU.

    Kynkäänniemi et al. 2019, section 3.1.
    """

    def __init__(self, state: Mapping[str, Tensor], device: str = "cpu") -> None:
        from torch_fidelity.feature_extractor_vgg16 import FeatureExtractorVGG16

        def build(file: io.BytesIO) -> nn.Module:
            extractor: nn.Module = FeatureExtractorVGG16(
                "vgg16", ["fc2_relu"], feature_extractor_weights_path=file
            )
            return extractor

        self._device = device
        self._model = _filled(build, state, "VGG-16").to(device)

    def __call__(self, images: Images) -> Floats32:
        """Return features [N, 4096]."""

        def run(group: list[Bytes]) -> Any:
            (features,) = self._model(_stack(group, self._device))
            return features

        return _by_size(images, run)


class AlexNetPool5:
    """pool5 of AlexNet on 256 x 256 pixels, flattened, of length 1.

    LostGAN-V2, section 3.1.3.
    """

    def __init__(self, convolutions: Mapping[str, Tensor], device: str = "cpu") -> None:
        self._device = device
        self._features = _features("alexnet", convolutions).to(device)

    def __call__(self, images: Images) -> Floats32:
        """Return unit vectors [N, 12544].

        The images are resized as the rest of the house does it.
        """
        import torch

        from synthaug.pipeline.core.images import resize

        squares = [resize(image, (POOL5_SIDE, POOL5_SIDE)) for image in images]
        with torch.inference_mode():
            pixels = _stack(squares, self._device)
            pool = self._features(_imagenet(pixels)).flatten(1)  # [N, 256 * 7 * 7]
            unit = torch.nn.functional.normalize(pool)
        return np.asarray(unit.cpu().numpy(), np.float32)


class Lpips:
    """LPIPS 0.1 (Zhang et al. 2018, eq. 1).

    Weighted squared differences of unit-length features, averaged over the pixels. The features are
    those after the last ReLU of five stages; the weights are the published linear heads.
    """

    def __init__(
        self,
        net: Literal["alex", "vgg"],
        convolutions: Mapping[str, Tensor],
        heads: Sequence[Tensor],
        device: str = "cpu",
    ) -> None:
        import torch

        self._device = device
        self._stages = LPIPS_STAGES[net]
        layers = _features(LPIPS_NETS[net], convolutions)
        last = max(self._stages) + 1
        self._features = layers[:last].to(device)
        self._heads = [head.float().to(device) for head in heads]  # each [1, C, 1, 1]
        # the published code's own normalization of pixels in [-1, 1]
        self._shift = torch.tensor(LPIPS_SHIFT, device=device)[:, None, None]
        self._scale = torch.tensor(LPIPS_SCALE, device=device)[:, None, None]

    def __call__(self, first: Images, second: Images) -> Floats:
        """Return the distances [N] of N pairs of images, the two of a pair of one size."""
        import torch

        out = np.zeros(len(first), np.float64)
        with torch.inference_mode():
            for members in _groups(first).values():
                a = self._unit_features([first[i] for i in members])
                b = self._unit_features([second[i] for i in members])
                total = torch.zeros(len(members), device=self._device)
                for ours, theirs, head in zip(a, b, self._heads, strict=True):
                    squared = (ours - theirs) ** 2
                    weighted = (squared * head).sum(dim=1)  # [n, h, w]
                    total += weighted.mean(dim=(1, 2))
                out[members] = total.double().cpu().numpy()
        return out

    def _unit_features(self, images: list[Bytes]) -> list[Tensor]:
        """Return the features [n, C, h, w] of the five stages, of length 1 in every place."""
        pixels = _stack(images, self._device) / 127.5 - 1
        x = (pixels - self._shift) / self._scale
        features = []
        for index, layer in enumerate(self._features):
            x = layer(x)
            if index in self._stages:
                squared = (x**2).sum(dim=1, keepdim=True)
                length = (squared + LPIPS_EPS).sqrt()
                features.append(x / length)
        return features


def _features(name: str, convolutions: Mapping[str, Tensor]) -> nn.Sequential:
    """Return the layers `features` of a network of torchvision, filled and frozen.

    ValueError for other tensors.
    """
    import torch
    import torchvision

    build = {"alexnet": torchvision.models.alexnet, "vgg16": torchvision.models.vgg16}[name]
    with torch.device("meta"):
        layers: nn.Sequential = build(weights=None).features
    state = {}
    for key in layers.state_dict():
        source = f"features.{key}"
        if source not in convolutions:
            raise ValueError(f"these are not the weights of {name}: '{source}' is missing")
        state[key] = convolutions[source].float()
    try:
        layers.load_state_dict(state, assign=True)
    except RuntimeError as err:
        raise ValueError(_unfit(err, name)) from err
    for layer in layers:
        if isinstance(layer, torch.nn.ReLU):
            layer.inplace = False  # or it would change features that are compared
    return layers.eval().requires_grad_(False)


def _filled(
    build: Callable[[io.BytesIO], nn.Module], state: Mapping[str, Tensor], what: str
) -> nn.Module:
    """Build one of torch-fidelity's networks from tensors.

    The library reads its file with a loader that would execute what a foreign file brings. It is
    given a copy that was written here, from tensors that were read safely.
    """
    import torch

    file = io.BytesIO()
    torch.save(dict(state), file)
    file.seek(0)
    try:
        return build(file)
    except RuntimeError as err:
        raise ValueError(_unfit(err, what)) from err


def _unfit(err: RuntimeError, what: str) -> str:
    detail = " ".join(" ".join(str(err).split("\n\t")[1:2]).split())
    return f"these are not the weights of {what}: {detail[:160]}"


def _groups(images: Images) -> dict[tuple[int, ...], list[int]]:
    """Return the indices of the images of each shape."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, image in enumerate(images):
        groups.setdefault(image.shape, []).append(i)
    return groups


def _by_size(images: Images, run: Callable[[list[Bytes]], Any]) -> Floats32:
    """Run images of one size together.

    Returns the rows [N, D] in the order of the images.
    """
    import torch

    rows: dict[int, Floats32] = {}
    with torch.inference_mode():
        for members in _groups(images).values():
            group = [images[i] for i in members]
            outputs = run(group).cpu().numpy()
            rows.update(zip(members, outputs, strict=True))
    in_order = [rows[i] for i in range(len(images))]
    return np.stack(in_order).astype(np.float32, copy=False)


def _side_by_side(a: Tensor, b: Tensor) -> Tensor:
    import torch

    return torch.cat([a, b], dim=1)


def _stack(images: Images, device: str) -> Tensor:
    """Return images of one size as uint8 [N, 3, H, W] of a device."""
    import torch

    pixels = torch.from_numpy(np.stack(images)).to(device)
    return pixels.permute(0, 3, 1, 2).contiguous()


def _imagenet(pixels: Tensor) -> Tensor:
    """Return uint8 [N, 3, H, W] as torchvision's networks are given it.

    float32, normalized.
    """
    import torch

    mean = pixels.new_tensor((0.485, 0.456, 0.406), dtype=torch.float32)
    std = pixels.new_tensor((0.229, 0.224, 0.225), dtype=torch.float32)
    centered = pixels / 255 - mean[:, None, None]
    return centered / std[:, None, None]
