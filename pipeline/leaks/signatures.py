"""The signatures of the images of some splits, stored in Parquet.

A row per image, a file per shard.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synthaug.pipeline.core.arrays import Bytes
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.leaks.hashing import NUM_HASHES, THUMBNAIL_SIZE, Hashes, Signature

SUFFIX = ".parquet"


@dataclass(frozen=True)
class Shard:
    """A file of signatures, and the rows of a table that are in it."""

    folder: str
    name: str
    rows: range


@dataclass(frozen=True)
class Signatures:
    """The signatures of N images of some splits, end to end.

    Thumbnails stay on disk until they are needed.
    """

    split: tuple[str, ...]  # [N]
    image_id: tuple[str, ...]  # [N]
    file: tuple[str, ...]  # [N] name of the image's file, "" where it has none
    pixels: tuple[str, ...]  # [N] sha256
    hashes: Hashes  # [N, W]
    shards: tuple[Shard, ...]

    def __len__(self) -> int:
        return len(self.image_id)

    def thumbnails(self, wanted: set[int]) -> dict[int, Bytes]:
        """Read the thumbnails of some images, by row, file by file."""
        import pyarrow.parquet as pq

        thumbnails: dict[int, Bytes] = {}
        shape = (THUMBNAIL_SIZE, THUMBNAIL_SIZE, 3)
        for shard in self.shards:
            inside = [row for row in shard.rows if row in wanted]
            if not inside:
                continue
            folder = Folder.at(shard.folder)
            with folder.open_input(shard.name) as stream:
                table = pq.read_table(stream, columns=["thumbnail"])
                column = table.column("thumbnail")
            for row in inside:
                data = column[row - shard.rows.start].as_py()
                values = np.frombuffer(data, np.uint8)
                thumbnails[row] = values.reshape(shape)
        return thumbnails


def write_signatures(folder: Folder, name: str, rows: Sequence[tuple[str, str, Signature]]) -> None:
    """Write signatures as the file `name` (without suffix), atomically.

    Rows are (image id, name of its file, signature).
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    image_ids = []
    files = []
    pixels = []
    hashes = []
    thumbnails = []
    for image_id, file, signature in rows:
        image_ids.append(image_id)
        files.append(file)
        pixels.append(signature.pixels)
        hashes.append(signature.hashes.tobytes())
        thumbnails.append(signature.thumbnail.tobytes())
    columns = {
        "image_id": pa.array(image_ids, pa.string()),
        "file": pa.array(files, pa.string()),
        "pixels": pa.array(pixels, pa.string()),
        "hashes": pa.array(hashes, pa.binary()),
        "thumbnail": pa.array(thumbnails, pa.binary()),
    }
    with folder.atomic_output(f"{name}{SUFFIX}") as stream:
        pq.write_table(pa.table(columns), stream, compression="zstd")


def read_signatures(folders: Sequence[tuple[str, Folder]]) -> Signatures:
    """Open the signatures of splits (name, folder), in this order."""
    import pyarrow.parquet as pq

    splits: list[str] = []
    image_ids: list[str] = []
    files: list[str] = []
    pixels: list[str] = []
    hashes = [np.zeros((0, NUM_HASHES), np.uint64)]
    shards = []
    columns = ["image_id", "file", "pixels", "hashes"]
    for split, folder in folders:
        for name in folder.names():
            if not name.endswith(SUFFIX):
                continue
            with folder.open_input(name) as stream:
                table = pq.read_table(stream, columns=columns)
            first = len(image_ids)
            rows = range(first, first + table.num_rows)
            shards.append(Shard(folder.uri, name, rows))
            splits += [split] * table.num_rows
            image_ids += table.column("image_id").to_pylist()
            files += table.column("file").to_pylist()
            pixels += table.column("pixels").to_pylist()
            data = b"".join(table.column("hashes").to_pylist())
            values = np.frombuffer(data, np.uint64)
            hashes.append(values.reshape(-1, NUM_HASHES))
    return Signatures(
        split=tuple(splits),
        image_id=tuple(image_ids),
        file=tuple(files),
        pixels=tuple(pixels),
        hashes=np.concatenate(hashes),
        shards=tuple(shards),
    )
