"""Image files as other tools expect them: PNG or JPEG, and upright."""

from __future__ import annotations

import struct
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

from synthaug.pipeline.core import images
from synthaug.pipeline.core.boxes import Size
from synthaug.pipeline.core.errors import DatasetError, one_line
from synthaug.pipeline.core.scene import ImageRef, Scene

# first bytes of a file
PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"
_HEAD = 1 << 16  # bytes in which EXIF is looked for
_ORIENTATION = 0x0112  # EXIF tag: how a viewer is to turn the image
_SHORT = 3  # EXIF type: 16 bits


def encoded_image(scene: Scene) -> bytes:
    """Return the encoded image of a scene; DatasetError when there is none."""
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
    """Return a scene's image as PNG or JPEG, and whether it was converted (to PNG).

    With `jpeg_only` everything but JPEG becomes JPEG of quality 95. Raises DatasetError when the image is missing or broken.
    """
    data = encoded_image(scene)
    if data.startswith(JPEG):
        return data, False
    if jpeg_only:
        return images.encode(images.decode(scene), "jpeg"), True
    if data.startswith(PNG):
        return data, False
    return images.encode(images.decode(scene), "png"), True


def upright(scene: Scene) -> tuple[Scene, bool]:
    """Return a scene whose JPEG has no turning EXIF tag, and whether that is a change.

    Annotations count pixels as they are stored. Most training code turns images by their EXIF tag without a word, and
    the boxes stay behind; so the tag is set to "as it is". The pixels are not touched.
    """
    tag = _orientation(_head(scene))
    if tag is None:
        return scene, False
    data = encoded_image(scene)
    end = tag.offset + len(tag.upright)
    fixed = data[: tag.offset] + tag.upright + data[end:]
    name = None
    if scene.image.path is not None:
        name = Path(scene.image.path).name
    return replace(scene, image=ImageRef(fixed, name)), True


def _head(scene: Scene) -> bytes:
    """Return the first bytes of an image; none when there is no file."""
    if scene.image.data is not None or scene.image.path is None:
        return (scene.image.data or b"")[:_HEAD]
    try:
        with Path(scene.image.path).open("rb") as file:
            return file.read(_HEAD)
    except OSError:
        return b""


@dataclass(frozen=True)
class _Tag:
    """An EXIF orientation that asks a viewer to turn the image."""

    offset: int  # bytes from the start of the file
    upright: bytes  # the value that means "as it is"


def _orientation(data: bytes) -> _Tag | None:
    """Return the orientation tag in a JPEG's first bytes; None where it is upright."""
    if not data.startswith(JPEG):
        return None
    start = data.find(b"Exif\0\0", 0, _HEAD)
    if start < 0:
        return None
    tiff = start + len(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[tiff : tiff + 4])
    if order is None:
        return None
    try:
        (directory,) = struct.unpack_from(f"{order}I", data, tiff + 4)
        (num_entries,) = struct.unpack_from(f"{order}H", data, tiff + directory)
        for i in range(num_entries):
            entry = tiff + directory + 2 + 12 * i
            if struct.unpack_from(f"{order}HHI", data, entry) != (_ORIENTATION, _SHORT, 1):
                continue
            (value,) = struct.unpack_from(f"{order}H", data, entry + 8)
            if 2 <= value <= 8:
                return _Tag(entry + 8, struct.pack(f"{order}H", 1))
            return None
    except struct.error:  # cut short: no viewer reads it either
        return None
    return None


@dataclass(frozen=True)
class Header:
    """The size and orientation of an image file."""

    size: Size  # (H, W), as stored
    turned: bool  # a viewer is asked to turn or mirror it


def header(path: Path, max_pixels: int) -> Header:
    """Read the header of an image file; ValueError for a foreign or too large one."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # max_pixels decides
            with path.open("rb") as file, Image.open(file, formats=images.FORMATS) as image:
                height, width = image.height, image.width
                kind = image.format
                file.seek(0)
                head = file.read(_HEAD)
    except (OSError, SyntaxError, Image.DecompressionBombError) as err:
        raise ValueError(f"cannot be decoded ({one_line(err)})") from err
    if height * width > max_pixels:
        raise ValueError(f"has {width}x{height} pixels, over max_pixels={max_pixels}")
    turned = kind == "JPEG" and _orientation(head) is not None
    return Header((height, width), turned)
