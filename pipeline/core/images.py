"""Encoded image files to pixels and back."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.boxes import Size
from synthaug.pipeline.core.errors import DatasetError, one_line
from synthaug.pipeline.core.scene import ImageRef, Scene

# what is decoded; never all that Pillow knows, of which some start other programs
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF")
SUFFIX = {"png": ".png", "jpeg": ".jpg"}

Pixels = NDArray[np.uint8]  # [H, W, 3] RGB


def decode(scene: Scene) -> Pixels:
    """Return the pixels of a scene.

    Raises DatasetError when the file is missing, broken or of another size.
    """
    from PIL import Image, UnidentifiedImageError

    label = scene.image.path or scene.image_id
    try:
        data = read_file(scene.image)
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            # before decoding: the header may promise gigapixels
            if image.size != (scene.width, scene.height):
                raise DatasetError(
                    f"{label}: the image is {image.width}x{image.height} pixels, "
                    f"its annotation says {scene.width}x{scene.height}; correct the annotation"
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


def read_file(image: ImageRef) -> bytes:
    """Return the bytes of an encoded image, from memory or from its path.

    Raises OSError when it cannot be read.
    """
    if image.data is not None:
        return image.data
    return Path(image.path or "").read_bytes()


def encode(pixels: NDArray[np.uint8], kind: str) -> bytes:
    """Encode uint8 [H, W, 3] RGB or [H, W] as 'png' or as 'jpeg' (quality 95)."""
    import cv2

    image = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.ndim == 3 else pixels
    options = [cv2.IMWRITE_JPEG_QUALITY, 95] if kind == "jpeg" else []
    ok, data = cv2.imencode(SUFFIX[kind], image, options)
    assert ok, f"cannot encode {pixels.shape} {pixels.dtype} as {kind}"
    return bytes(data.tobytes())


def resize(pixels: Pixels, size: Size) -> Pixels:
    """Resize to (H, W), bilinear and antialiased.

    Generators are trained with this filter.
    """
    old_height, old_width = pixels.shape[:2]
    height, width = size
    if (old_height, old_width) == size:
        return pixels
    if old_height <= height and old_width <= width:
        return _enlarge(pixels, size)
    from PIL import Image

    image = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image)


def _enlarge(pixels: Pixels, size: Size) -> Pixels:
    """Resize where nothing is averaged: the same filter, and OpenCV is quicker."""
    import cv2

    height, width = size
    enlarged = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(enlarged, np.uint8)


def resize_maps(maps: NDArray[np.float32], size: Size) -> NDArray[np.float32]:
    """Resize soft masks [N, h, w] to [N, H, W], bilinear."""
    if maps.shape[1:] == size or len(maps) == 0:
        return maps.reshape(len(maps), *size)
    import cv2

    height, width = size
    resized = np.empty((len(maps), height, width), np.float32)
    for source, target in zip(maps, resized, strict=True):
        cv2.resize(source, (width, height), dst=target, interpolation=cv2.INTER_LINEAR)
    return resized
