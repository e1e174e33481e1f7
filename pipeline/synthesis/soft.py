"""Real images as soft as a generator's.

Brought to its resolution and back, which is all that changes.
"""

from __future__ import annotations

import io
from dataclasses import replace

from PIL import Image, JpegImagePlugin

from synthaug.pipeline.core.datasets import Mapped
from synthaug.pipeline.core.images import read_file
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.scene import Dataset, ImageRef, Scene


def soft_table(table: Dataset, resolution: int) -> Dataset:
    """Return a table with each image's shorter side brought down and back.

    Down to `resolution` pixels.
    """

    def soften(scene: Scene) -> Scene:
        softened = soften_file(read_file(scene.image), resolution)
        return replace(scene, image=ImageRef(softened, scene.image.path))

    return Mapped(table, soften, f"soft {resolution}")


def soften_file(data: bytes, resolution: int) -> bytes:
    """Return an encoded image shrunk (Lanczos) and enlarged (bilinear).

    Until its shorter side has `resolution` pixels. A JPEG is encoded with its own quantization
    tables and subsampling, else it is a PNG. An image that is no larger is only encoded again.
    """
    with Image.open(io.BytesIO(data)) as image:
        pixels = image.convert("RGB")
        options: Json = {"format": "PNG"}
        if isinstance(image, JpegImagePlugin.JpegImageFile):
            options = {
                "format": "JPEG",
                "qtables": image.quantization,
                "subsampling": JpegImagePlugin.get_sampling(image),
            }
    factor = resolution / min(pixels.size)
    if factor < 1:
        width, height = pixels.size
        small_width = max(1, round(width * factor))
        small_height = max(1, round(height * factor))
        small = small_width, small_height
        shrunk = pixels.resize(small, Image.Resampling.LANCZOS)
        pixels = shrunk.resize((width, height), Image.Resampling.BILINEAR)
    file = io.BytesIO()
    pixels.save(file, **options)
    return file.getvalue()
