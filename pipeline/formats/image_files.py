"""Image files as other tools expect them: PNG or JPEG."""

from __future__ import annotations

from pathlib import Path

from synthaug.pipeline.core import images
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.scene import Scene

# first bytes of a file
PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"


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

    With `jpeg_only` everything but JPEG becomes JPEG of quality 95. Raises DatasetError when the
    image is missing or broken.
    """
    data = encoded_image(scene)
    if data.startswith(JPEG):
        return data, False
    if jpeg_only:
        return images.encode(images.decode(scene), "jpeg"), True
    if data.startswith(PNG):
        return data, False
    return images.encode(images.decode(scene), "png"), True
