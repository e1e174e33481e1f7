"""Hugging Face data set folders: data/<split>-*.parquet.

`datasets.load_dataset(folder)` opens them as they are. Reference: `hf:folder?split=validation`. The
shards are scene tables (formats/parquet/), so nothing is lost; their footers tell `datasets` which
column is an image and what the classes are called. The other form, `imagefolder` with
metadata.jsonl, knows neither class names nor the types of nested columns, and needs a file per
image.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from synthaug.pipeline.core.scene import Dataset
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.formats.parquet.write import shard_rows, write_rows

ROWS = 1000  # per shard
NAMES = {"train": "train", "val": "validation", "test": "test"}  # our splits, those of `datasets`


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
    folder = config.path.rstrip("/")
    return parquet.read(parquet.Config(f"{folder}/data"), root, prefix=f"{name}-")


def write(dataset: Dataset, out: Folder) -> None:
    """Write a data set as the split `train`."""
    write_splits({"train": dataset}, out)


def write_splits(splits: Mapping[str, Dataset], out: Folder) -> Counter[str]:
    """Write data sets as splits; nothing is lost, so nothing is counted."""
    folder = out.sub("data")
    for split, table in splits.items():
        shards = shard_rows(len(table), ROWS)
        for number, rows in enumerate(shards):
            name = f"{NAMES[split]}-{number:05d}-of-{len(shards):05d}.parquet"
            write_rows(table, rows, folder, name)
    return Counter()
