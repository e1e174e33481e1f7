"""Encoded image files to pixels and back."""

from __future__ import annotations

import io
import struct
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core import exif
from synthaug.pipeline.core.arrays import Bytes, Floats32
from synthaug.pipeline.core.boxes import Size
from synthaug.pipeline.core.errors import DatasetError, one_line
from synthaug.pipeline.core.scene import ImageRef, Scene
from synthaug.stand_ins import stand_in

# what is decoded; never all that Pillow knows, of which some start other programs
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF")
SUFFIX = {"png": ".png", "jpeg": ".jpg"}
# what Pillow raises for a broken file, depending on the format and the place of the damage
UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    IndexError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
    ZeroDivisionError,
)
_EIGHT_BITS = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
_DEEP_GREY = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_SIDEWAYS = (5, 6, 7, 8)  # orientations that exchange height and width
_HEAD = 1 << 12  # bytes by which a file that is no image is told
_INVERSE = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}

Pixels = NDArray[np.uint8]  # [H, W, 3] RGB


def decode(scene: Scene) -> Pixels:
    """Return the pixels of a scene as its labels count them.

    Raises DatasetError when the file is missing, broken, of another size, of a kind of pixels that
    has no one meaning as RGB, or may be turned and nobody says whether its labels are.
    """
    return decode_with_file(scene)[0]


@dataclass(frozen=True)
class ImageFile:
    """An image file as it is stored, whatever its pixels become."""

    data: bytes
    format: str  # one of FORMATS, or MPO
    mode: str  # Pillow's name of its pixels: L, RGB, CMYK, I;16 ...
    orientation: int  # EXIF: 1 = as stored
    pictures: int  # pages or frames, of which the first one is read


def decode_with_file(scene: Scene) -> tuple[Pixels, ImageFile]:
    """Return what `decode` returns, and the file that it comes from."""
    image, layout, data = _opened(scene)
    file = ImageFile(data, image.format or "", image.mode, layout.orientation, _pictures(image))
    pixels = _rgb(image, label_of(scene))
    if layout.seen_turned == layout.labelled_turned:
        return pixels, file
    if layout.labelled_turned:
        return _turned(pixels, layout.orientation), file
    return _turned(pixels, _INVERSE[layout.orientation]), file


_SEVERAL = ("GIF", "PNG", "TIFF", "WEBP")  # formats that can hold several pictures


def _pictures(image: Any) -> int:
    """Return how many pages or frames a decoded file holds."""
    if image.format not in _SEVERAL:
        return 1
    try:
        return int(image.n_frames)
    except UNREADABLE:  # it is closed once its only page is decoded, or broken behind the first
        return 1


def label_of(scene: Scene) -> str:
    """Return the name of a scene's image for messages: its path, else the scene's id."""
    return scene.image.path or scene.image_id


def upright(scene: Scene) -> tuple[Scene, bool]:
    """Return a scene whose image no viewer turns, and whether that is a change.

    Most training code turns images by their EXIF tag without a word, so an image is handed on as
    its labels count it. Where these count the pixels as they are stored, a JPEG keeps its pixels
    and only the tag is set to "as it is"; any other image that is turned becomes PNG. Raises
    DatasetError as `decode` does.
    """
    image, layout, _ = _opened(scene, with_pixels=False)
    if layout.orientation == 1:
        return scene, False
    name = None
    if scene.image.path is not None:
        name = Path(scene.image.path).name
    called = scene.image.name
    if image.format in ("JPEG", "MPO") and not layout.labelled_turned:
        cleared = exif.cleared(read_file(scene.image))
        if cleared is not None:
            return replace(scene, image=ImageRef(cleared, name, name=called)), True
    data = encode(decode(scene), "png")
    return replace(scene, image=ImageRef(data, name, name=called)), True


@dataclass(frozen=True)
class Header:
    """The size and orientation of an image file."""

    size: Size  # (H, W), as stored
    orientation: int  # EXIF: 1 = as stored, 2 to 8 = a viewer turns or mirrors it

    @property
    def shown(self) -> Size:
        """The size (H, W) as a viewer shows it."""
        if self.orientation in _SIDEWAYS:
            return self.size[::-1]
        return self.size

    def labelled(self, turned: str, size: Size | None) -> bool:
        """Whether labels of an image of this `size` count its pixels as they are shown.

        `turned` decides where it says something. Raises ValueError where nothing decides, or where
        the size is that of neither.
        """
        if size is None and not turned and self.orientation != 1:
            raise ValueError(_AMBIGUOUS)
        if turned or size is None or self.orientation == 1:
            as_shown = turned == "as_shown" and self.orientation != 1
            expected = self.shown if as_shown else self.size
            if size is not None and size != expected:
                raise ValueError(_wrong_size(expected, size))
            return as_shown
        if size not in (self.size, self.shown):
            raise ValueError(_wrong_size(self.size, size))
        if self.size == self.shown:
            raise ValueError(_AMBIGUOUS)
        return size == self.shown


_AMBIGUOUS = (
    "an EXIF tag asks viewers to turn the image, and nothing tells whether its boxes are turned "
    "with it; say turned=as_shown (drawn on what a viewer shows) or turned=as_stored"
)


def _wrong_size(found: Size, said: Size) -> str:
    return (
        f"the image is {found[1]}x{found[0]} pixels, "
        f"its annotation says {said[1]}x{said[0]}; correct the annotation"
    )


@dataclass(frozen=True)
class _Layout:
    """How the pixels of a decoded file lie to those of its labels."""

    orientation: int
    seen_turned: bool  # Pillow has turned the pixels: it does so for TIFF
    labelled_turned: bool  # the labels count the pixels as a viewer shows them


def _opened(scene: Scene, with_pixels: bool = True) -> tuple[Any, _Layout, bytes]:
    """Open a scene's image and decode it; returns it, how it lies, and its bytes."""
    from PIL import Image

    label = label_of(scene)
    size = scene.size
    data = _data_of(scene)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the size decides what is too large
            file = io.BytesIO(data)
            image = Image.open(file, formats=FORMATS)
            # before decoding: the header may promise gigapixels
            header = _header_of(image, file)
            turned = scene.image.turned
            if not turned and size == header.shown and not len(scene.objects):
                turned = "as_shown"  # there is no box that could be misplaced
            try:
                as_shown = header.labelled(turned, size)
            except ValueError as err:
                raise DatasetError(f"{label}: {err}") from err
            if with_pixels:
                image.load()
    except (*UNREADABLE, Image.DecompressionBombError) as err:
        raise DatasetError(
            f"{label}: the image cannot be decoded ({reason(data, err)}); replace the file"
        ) from err
    seen_turned = image.format == "TIFF" and header.orientation != 1
    return image, _Layout(header.orientation, seen_turned, as_shown), data


def _data_of(scene: Scene) -> bytes:
    """Return the bytes of a scene's image; DatasetError where they cannot be read."""
    label = label_of(scene)
    try:
        return read_file(scene.image)
    except FileNotFoundError as err:
        raise DatasetError(
            f"{label}: the image file is missing; restore it or remove it from the annotations"
        ) from err
    except (OSError, ValueError) as err:  # ValueError: a name that no file can have
        raise DatasetError(
            f"{label}: the image cannot be read ({one_line(err)}); correct or restore it"
        ) from err


def header_of_file(path: Path, max_pixels: int) -> Header:
    """Read the header of an image file; ValueError for a foreign or too large one."""
    try:
        file = path.open("rb")
    except OSError as err:
        raise ValueError(f"cannot be decoded ({one_line(err)})") from err
    with file:
        return header_in(file, max_pixels)


def header_in(file: IO[bytes], max_pixels: int) -> Header:
    """Read the header of an open image file; the rest is as in `header_of_file`."""
    from PIL import Image

    try:
        start = file.read(_HEAD)
    except OSError as err:
        raise ValueError(f"cannot be decoded ({one_line(err)})") from err
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # max_pixels decides
            with Image.open(file, formats=FORMATS) as image:
                header = _header_of(image, file, max_pixels)
    except _TooLargeError as err:
        raise ValueError(str(err)) from err
    except Image.DecompressionBombError as err:
        raise ValueError(f"has too many pixels, over max_pixels={max_pixels}") from err
    except UNREADABLE as err:
        raise ValueError(f"cannot be decoded ({reason(start, err)})") from err
    return header


class _TooLargeError(Exception):
    """An image of more pixels than a job takes."""


def _header_of(image: Any, file: IO[bytes], max_pixels: int | None = None) -> Header:
    height = image.height
    width = image.width
    if max_pixels is not None and height * width > max_pixels:
        raise _TooLargeError(f"has {width}x{height} pixels, over max_pixels={max_pixels}")
    orientation = exif.orientation(image, file)
    size = (height, width)
    if image.format == "TIFF" and orientation in _SIDEWAYS:  # Pillow gives the size as shown
        size = (width, height)
    return Header(size, orientation)


def reason(data: bytes, err: Exception) -> str:
    """Return why a file is no image, for a message."""
    instead = stand_in(data)
    if instead:
        return instead
    start = data[:200].lstrip().lower()
    if start.startswith((b"<svg", b"<?xml")):
        return "it is an SVG or XML text, not an image of pixels"
    if "BytesIO" in str(err):
        return f"it is none of {', '.join(FORMATS)}"
    return one_line(err)


def _rgb(image: Any, label: str) -> Pixels:
    """Return a decoded image as RGB; alpha is passed over, what lies under it shows."""
    if image.mode in _DEEP_GREY:
        return _from_deep_grey(np.asarray(image), label)
    if image.mode not in _EIGHT_BITS:
        kind = {"F": "real numbers"}.get(image.mode, f"the kind {image.mode}")
        raise DatasetError(
            f"{label}: the image has pixels of {kind}, which have no one meaning as colours; "
            "store it with 8 or 16 bits"
        )
    try:
        return np.asarray(image.convert("RGB"))
    except (*UNREADABLE, AssertionError) as err:  # Pillow asserts what it thinks of palettes
        raise DatasetError(
            f"{label}: the image cannot be decoded (its colours cannot be read); replace the file"
        ) from err


def _from_deep_grey(values: NDArray[Any], label: str) -> Pixels:
    """Return grey values [H, W] of more than 8 bits as RGB, by a rule per image.

    Of values up to 255 all bits are kept, of values up to 4095 (12-bit cameras and X-rays store
    these in 16 bits) the upper 8 of 12, of larger ones the upper 8 of 16.
    """
    largest = int(values.max())
    if int(values.min()) < 0 or largest > 65535:
        raise DatasetError(
            f"{label}: the image has grey values from {int(values.min())} to {largest}, not those "
            "of 16 bits; store it with 8 or 16 bits"
        )
    shift = 8
    if largest <= 4095:
        shift = 4
    if largest <= 255:
        shift = 0
    shifted = values.astype(np.uint16) >> shift
    grey = shifted.astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def _turned(pixels: Pixels, orientation: int) -> Pixels:
    """Return pixels [H, W, 3] turned as a viewer turns them by an EXIF orientation."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def read_file(image: ImageRef) -> bytes:
    """Return the bytes of an encoded image, from memory or from its path.

    Raises OSError when it cannot be read, or is a device or a pipe, which may have no end.
    """
    if image.data is not None:
        return image.data
    path = Path(image.path or "")
    if path.exists() and not path.is_file():
        raise OSError("it is no regular file")
    return path.read_bytes()


def encode(pixels: Bytes, kind: str) -> bytes:
    """Encode uint8 [H, W, 3] RGB or [H, W] as 'png' or as 'jpeg' (quality 95)."""
    import cv2

    image: Any = pixels
    if pixels.ndim == 3:
        image = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
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

    original = Image.fromarray(pixels)
    image = original.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image)


def _enlarge(pixels: Pixels, size: Size) -> Pixels:
    """Resize where nothing is averaged: the same filter, and OpenCV is quicker."""
    import cv2

    height, width = size
    size = (width, height)
    enlarged = cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(enlarged, np.uint8)


def resize_maps(maps: Floats32, size: Size) -> Floats32:
    """Resize soft masks [N, h, w] to [N, H, W], bilinear."""
    if maps.shape[1:] == size or len(maps) == 0:
        return maps.reshape(len(maps), *size)
    import cv2

    height, width = size
    resized = np.empty((len(maps), height, width), np.float32)
    for source, target in zip(maps, resized, strict=True):
        cv2.resize(source, (width, height), dst=target, interpolation=cv2.INTER_LINEAR)
    return resized
