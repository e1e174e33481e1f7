"""What a run shows at the top of its output folder is of this run, never of an earlier one."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.run import publish


@pytest.mark.parametrize(("step", "file"), [("trial", "trial.md"), ("score", "nearest.jpg")])
def test_a_file_of_an_earlier_run_goes_when_this_one_has_none(
    tmp_path: Path, step: str, file: str
) -> None:
    output, first, second = (
        Folder.at(tmp_path / name).create() for name in ("out", "first", "second")
    )
    first.write_bytes(file, b"earlier")
    output.write_bytes("job.yaml", b"kept")
    publish(step, first, output)
    assert output.read_bytes(file) == b"earlier"
    publish(step, second, output)
    assert output.names() == ["job.yaml"]
    publish(step, second, output)  # nothing there to remove


def test_shards_of_an_earlier_longer_plan_go(tmp_path: Path) -> None:
    output, first, second = (
        Folder.at(tmp_path / name).create() for name in ("out", "first", "second")
    )
    for folder, count in ((first, 2), (second, 1)):
        for number in range(count):
            folder.write_bytes(f"part-{number}.parquet", b"rows")
    publish("verify", first, output)
    publish("verify", second, output)
    assert output.sub("data").names() == ["part-0.parquet"]
