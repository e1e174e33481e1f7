"""Image files as other tools expect them: PNG or JPEG, and upright."""

from __future__ import annotations

import struct
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

from synthaug.pipeline.core import images
from synthaug.pipeline.core.errors import DatasetError, one_line
from synthaug.pipeline.core.scene import ImageRef, Scene

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_HEAD = 1 << 16  # bytes in which EXIF is looked for
_ORIENTATION = 0x0112  # EXIF tag: how a viewer is to turn the image


def encoded_image(scene: Scene) -> bytes:
    """Return the encoded image of a scene; DatasetError when it has none or its file is gone."""
    if scene.image.data is not None:
        return scene.image.data
    if scene.image.path is None:
        raise DatasetError(
            f"scene {scene.image_id!r} has no image to write; read the table with its pixels"
        )
    try:
        return Path(scene.image.path).read_bytes()
    except OSError as err:
        raise DatasetError(
            f"{scene.image.path}: the image cannot be read ({err.strerror}); restore the file"
        ) from err


def encoded(scene: Scene, jpeg_only: bool = False) -> tuple[bytes, bool]:
    """Return the image file of a scene as PNG or JPEG, and whether it had to be converted (to PNG, without loss).

    With `jpeg_only` everything but JPEG becomes JPEG of quality 95. Raises DatasetError when the image is missing or broken.
    """
    data = encoded_image(scene)
    if data.startswith(_JPEG) or (data.startswith(_PNG) and not jpeg_only):
        return data, False
    return images.encode(images.decode(scene), "jpeg" if jpeg_only else "png"), True


def upright(scene: Scene) -> tuple[Scene, bool]:
    """Return a scene whose JPEG tells nobody to turn it, and whether that changed anything; else it is returned as it is.

    Annotations count pixels as they are stored. Most training code turns images by their EXIF tag without a word, and
    the boxes stay behind; so the tag is set to "as it is". The pixels are not touched.
    """
    at = _orientation(_head(scene))
    if at is None:
        return scene, False
    data = encoded_image(scene)
    fixed = data[: at[0]] + at[1] + data[at[0] + len(at[1]) :]
    return replace(
        scene, image=ImageRef(fixed, scene.image.path and Path(scene.image.path).name)
    ), True


def _head(scene: Scene) -> bytes:
    """Return the first bytes of an image; none when there is no file, which whoever needs it will say."""
    if scene.image.data is not None or scene.image.path is None:
        return (scene.image.data or b"")[:_HEAD]
    try:
        with Path(scene.image.path).open("rb") as file:
            return file.read(_HEAD)
    except OSError:
        return b""


def _orientation(data: bytes) -> tuple[int, bytes] | None:
    """Return where the orientation of a JPEG is stored and the two bytes that mean "as it is"; None where it is so."""
    start = data.find(b"Exif\0\0", 0, _HEAD) if data.startswith(_JPEG) else -1
    tiff = start + 6
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[tiff : tiff + 4]) if start >= 0 else None
    if order is None:
        return None
    try:
        first = tiff + struct.unpack_from(f"{order}I", data, tiff + 4)[0]
        for i in range(struct.unpack_from(f"{order}H", data, first)[0]):
            entry = first + 2 + 12 * i
            tag, kind, count = struct.unpack_from(f"{order}HHI", data, entry)
            if (tag, kind, count) == (_ORIENTATION, 3, 1):
                asks = struct.unpack_from(f"{order}H", data, entry + 8)[0] in range(2, 9)
                return (entry + 8, struct.pack(f"{order}H", 1)) if asks else None
    except struct.error:  # cut short: no viewer reads it either
        return None
    return None


@dataclass(frozen=True)
class Header:
    """What the first bytes of an image file say."""

    size: tuple[int, int]  # (H, W), as stored
    turned: bool  # a viewer is asked to turn or mirror it


def header(path: Path, max_pixels: int) -> Header:
    """Read the header of an image file; ValueError when it is no image that is decoded here, or too large."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # max_pixels decides
            with path.open("rb") as file, Image.open(file, formats=images.FORMATS) as image:
                size = (image.height, image.width)
                file.seek(0)
                turned = image.format == "JPEG" and _orientation(file.read(_HEAD)) is not None
    except (OSError, SyntaxError, Image.DecompressionBombError) as err:
        raise ValueError(f"cannot be decoded ({one_line(err)})") from err
    if size[0] * size[1] > max_pixels:
        raise ValueError(f"has {size[1]}x{size[0]} pixels, over max_pixels={max_pixels}")
    return Header(size, turned)
