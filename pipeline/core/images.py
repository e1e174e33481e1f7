"""Encoded image files to pixels and back."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.errors import DatasetError, one_line
from synthaug.pipeline.core.scene import Scene

# what is decoded; never all that Pillow knows, of which some start other programs
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF")
SUFFIX = {"png": ".png", "jpeg": ".jpg"}


def decode(scene: Scene) -> NDArray[np.uint8]:
    """Return the pixels of a scene, uint8 RGB [H, W, 3]; DatasetError when the file is missing, broken or another size."""
    from PIL import Image, UnidentifiedImageError

    ref, label = scene.image, scene.image.path or scene.image_id
    try:
        data = ref.data if ref.data is not None else Path(ref.path or "").read_bytes()
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.size != (
                scene.width,
                scene.height,
            ):  # before decoding: the header may promise gigapixels
                raise DatasetError(
                    f"{label}: the image is {image.width}x{image.height} pixels, its annotation says "
                    f"{scene.width}x{scene.height}; correct the annotation"
                )
            return np.asarray(image.convert("RGB"))
    except FileNotFoundError as err:
        raise DatasetError(
            f"{label}: the image file is missing; restore it or remove it from the annotations"
        ) from err
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as err:
        raise DatasetError(
            f"{label}: the image cannot be decoded ({one_line(err)}); replace the file"
        ) from err


def encode(pixels: NDArray[np.uint8], kind: str) -> bytes:
    """Encode uint8 RGB [H, W, 3] (or [H, W]) as 'png' (lossless) or 'jpeg' (quality 95)."""
    import cv2

    image = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.ndim == 3 else pixels
    options = [cv2.IMWRITE_JPEG_QUALITY, 95] if kind == "jpeg" else []
    ok, data = cv2.imencode(SUFFIX[kind], image, options)
    assert ok, f"cannot encode {pixels.shape} {pixels.dtype} as {kind}"
    return bytes(data.tobytes())


def resize(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Antialiased bilinear resize of uint8 RGB [H, W, 3] to (H, W); the filter generators are trained with."""
    if pixels.shape[:2] == size:
        return pixels
    if (
        pixels.shape[0] <= size[0] and pixels.shape[1] <= size[1]
    ):  # then nothing is averaged, and OpenCV is quicker
        import cv2

        return np.asarray(
            cv2.resize(pixels, (size[1], size[0]), interpolation=cv2.INTER_LINEAR), np.uint8
        )
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BILINEAR))


def resize_maps(maps: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Bilinear resize of soft masks float32 [N, h, w] to [N, H, W]."""
    if maps.shape[1:] == size or len(maps) == 0:
        return maps.reshape(len(maps), *size)
    import cv2

    resized = np.empty((len(maps), *size), np.float32)
    for source, target in zip(maps, resized, strict=True):
        cv2.resize(source, (size[1], size[0]), dst=target, interpolation=cv2.INTER_LINEAR)
    return resized
