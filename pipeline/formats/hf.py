"""Hugging Face data set folders: data/<split>-*.parquet, opened by `datasets.load_dataset(folder)` as they are.

Reference: `hf:folder?split=validation`. The shards are scene tables (formats/parquet.py), so nothing is lost; their footers
tell `datasets` which column is an image and what the classes are called. The other form, `imagefolder` with
metadata.jsonl, knows neither class names nor the types of nested columns, and needs a file per image.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from synthaug.pipeline.core.scene import Dataset
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.parquet import read as parquet

ROWS = 1000  # per shard
NAMES = {
    "train": "train",
    "val": "validation",
    "test": "test",
}  # our splits as `datasets` calls them


@dataclass(frozen=True)
class Config:
    """Options of a reference; `path` is the folder that holds `data/`."""

    path: str
    split: str = "train"

    def __post_init__(self) -> None:
        if self.split not in (*NAMES, *NAMES.values()):
            raise ValueError(f"split is '{self.split}'; use train, validation or test")


def read(config: Config, root: Path = Path()) -> parquet.ParquetDataset:
    """Open the shards of one split."""
    name = NAMES.get(config.split, config.split)
    return parquet.read(parquet.Config(f"{config.path.rstrip('/')}/data"), root, prefix=f"{name}-")


def write(dataset: Dataset, out: Folder) -> None:
    """Write a data set as the split `train`."""
    write_splits({"train": dataset}, out)


def write_splits(splits: Mapping[str, Dataset], out: Folder) -> Counter[str]:
    """Write data sets as splits; nothing is lost, so nothing is counted."""
    for split, table in splits.items():
        starts = range(0, max(1, len(table)), ROWS)
        for shard, start in enumerate(starts):
            name = f"{NAMES[split]}-{shard:05d}-of-{len(starts):05d}.parquet"
            with parquet.ShardWriter(out.sub("data"), name, table.categories) as writer:
                for index in range(start, min(len(table), start + ROWS)):
                    writer.write([parquet.taken_in(table[index])])
    return Counter()
