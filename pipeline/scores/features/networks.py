"""Published networks, architectures and preprocessing of torch-fidelity, torchmetrics and torchvision; weights from files.

Every network takes uint8 RGB images [H, W, 3] of any sizes. Images of one size run together, in the order given.

Legend: N images, D features, H x W pixels.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor, nn

Images = Sequence[NDArray[np.uint8]]  # each [H, W, 3] RGB
LOGITS = 1008  # of Inception v3 as TensorFlow has it
POOL5_SIDE = 256  # LostGAN-V2, section 3.1.3: pool5 is 256 x 7 x 7 for 256 x 256 pixels
LIBRARIES = {
    "inception": "torch_fidelity",
    "vgg16": "torch_fidelity",
    "alexnet": "torchvision",
    "lpips": "torchmetrics",
}
LPIPS_NETS = {"alex": "alexnet", "vgg": "vgg16"}  # torchmetrics' name -> key of weights.FILES


def missing_library(name: str) -> str | None:
    """Return in one line the library that a network needs and this machine lacks, else None."""
    library = LIBRARIES[name]
    if find_spec(library):
        return None
    return f"needs the library {library.replace('_', '-')}, which is not installed; pip install 'synthaug[metrics]'"


class Inception:
    """Inception v3 with the resize of TensorFlow 1 and its pools, as FID, KID and IS are published with (`layer` 2048)."""

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

    def __call__(self, images: Images) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return pool features [N, 2048] and the logits without their bias [N, 1008]."""

        def run(group: list[NDArray[np.uint8]]) -> Tensor:
            features, logits = self._model(_stack(group, self._device))
            return _side_by_side(features, logits)

        both = _by_size(images, run)  # [N, 2048 + 1008]
        return both[:, :-LOGITS], both[:, -LOGITS:]


class Vgg16:
    """The features of improved precision and recall: fc2 of VGG-16 after its ReLU (Kynkäänniemi et al. 2019, section 3.1)."""

    def __init__(self, state: Mapping[str, Tensor], device: str = "cpu") -> None:
        from torch_fidelity.feature_extractor_vgg16 import FeatureExtractorVGG16

        def build(file: io.BytesIO) -> nn.Module:
            extractor: nn.Module = FeatureExtractorVGG16(
                "vgg16", ["fc2_relu"], feature_extractor_weights_path=file
            )
            return extractor

        self._device = device
        self._model = _filled(build, state, "VGG-16").to(device)

    def __call__(self, images: Images) -> NDArray[np.float32]:
        """Return features [N, 4096]."""

        def run(group: list[NDArray[np.uint8]]) -> Any:
            (features,) = self._model(_stack(group, self._device))
            return features

        return _by_size(images, run)


class AlexNetPool5:
    """pool5 of AlexNet on 256 x 256 pixels (LostGAN-V2, section 3.1.3), flattened, of length 1."""

    def __init__(self, state: Mapping[str, Tensor], device: str = "cpu") -> None:
        from torchvision.models import alexnet

        model = alexnet(weights=None)
        _load(model, state, "AlexNet")
        self._device = device
        self._model = model.features.eval().requires_grad_(False).to(device)

    def __call__(self, images: Images) -> NDArray[np.float32]:
        """Return unit vectors [N, 12544]; the images are resized as the rest of the house does it."""
        import torch

        from synthaug.pipeline.core.images import resize

        squares = [resize(image, (POOL5_SIDE, POOL5_SIDE)) for image in images]
        with torch.inference_mode():
            pixels = _stack(squares, self._device)
            pool = self._model(_imagenet(pixels)).flatten(1)  # [N, 256 * 7 * 7]
            unit = torch.nn.functional.normalize(pool)
        return np.asarray(unit.cpu().numpy(), np.float32)


class Lpips:
    """LPIPS 0.1 (Zhang et al. 2018) with its published linear heads, which torchmetrics brings along."""

    def __init__(
        self, net: Literal["alex", "vgg"], state: Mapping[str, Tensor], device: str = "cpu"
    ) -> None:
        from torchmetrics.functional.image.lpips import _LPIPS

        # the published heads; the body comes from `state`
        model = _LPIPS(pretrained=True, net=net, pnet_rand=True)
        body = {}
        for name in model.net.state_dict():
            source = f"features.{name.split('.', 1)[1]}"
            if source not in state:
                raise ValueError(
                    f"these are not the weights of {LPIPS_NETS[net]}: '{source}' is missing"
                )
            body[name] = state[source]
        _load(model.net, body, LPIPS_NETS[net])
        self._device = device
        self._model = model.eval().requires_grad_(False).to(device)

    def __call__(self, first: Images, second: Images) -> NDArray[np.float64]:
        """Return the distances [N] of N pairs of images, the two of a pair of one size."""
        import torch

        out = np.zeros(len(first), np.float64)
        with torch.inference_mode():
            for members in _groups(first).values():
                a = self._scaled(first, members)
                b = self._scaled(second, members)
                out[members] = self._model(a, b).flatten().double().cpu().numpy()
        return out

    def _scaled(self, images: Images, members: list[int]) -> Tensor:
        """Return some images of one size as float32 [n, 3, H, W] in [-1, 1]."""
        return _stack([images[i] for i in members], self._device) / 127.5 - 1


def _filled(
    build: Callable[[io.BytesIO], nn.Module], state: Mapping[str, Tensor], what: str
) -> nn.Module:
    """Build one of torch-fidelity's networks from tensors.

    The library reads its file with a loader that would execute what a foreign file brings. It is given a copy that was
    written here, from tensors that were read safely.
    """
    import torch

    file = io.BytesIO()
    torch.save(dict(state), file)
    file.seek(0)
    try:
        return build(file)
    except RuntimeError as err:
        raise ValueError(_unfit(err, what)) from err


def _load(model: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    try:
        model.load_state_dict(dict(state))
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


def _by_size(images: Images, run: Callable[[list[NDArray[np.uint8]]], Any]) -> NDArray[np.float32]:
    """Run images of one size together; returns the rows [N, D] in the order of the images."""
    import torch

    rows: dict[int, NDArray[np.float32]] = {}
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
    """Return uint8 [N, 3, H, W] as float32, normalized as torchvision's networks are given them."""
    import torch

    mean = pixels.new_tensor((0.485, 0.456, 0.406), dtype=torch.float32)
    std = pixels.new_tensor((0.229, 0.224, 0.225), dtype=torch.float32)
    return (pixels / 255 - mean[:, None, None]) / std[:, None, None]
