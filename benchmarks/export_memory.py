"""Does the memory of an export grow with the number of images?

    python benchmarks/export_memory.py FOLDER [SMALL LARGE]

Writes toy tables of SMALL [2000] and LARGE [20000] images (64 pixels, about seven masked objects
each) into FOLDER, exports each to every format in a process of its own, and prints peak memory
(resident, all of the process) and CPU seconds, and their ratios. An export is deleted when it was
measured.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

FORMATS = ("hf", "coco", "voc", "lvis", "yolo")


def measure(table: Path, name: str, out: Path) -> None:
    """In a process of its own: export, then print what it took as JSON."""
    from synthaug.pipeline.commands.export import export
    from synthaug.pipeline.commands.export_sources import Request

    list(export(Request(f"parquet:{table}", name, str(out)), lambda *_: None))
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"mb": used.ru_maxrss / 1024, "seconds": used.ru_utime + used.ru_stime}))


def make(folder: Path, count: int) -> Path:
    """Write a toy table unless it is there."""
    from synthaug.pipeline.core.storage import Folder
    from synthaug.pipeline.formats.parquet import read as parquet
    from synthaug.pipeline.formats.reference import open_dataset

    table = folder / f"table-{count}"
    if not table.exists():
        parquet.write(open_dataset(f"toy:train?count={count}", Path()), Folder.at(table))
    return table


def main() -> None:
    folder = Path(sys.argv[1])
    counts = [int(word) for word in sys.argv[2:4]] or [2_000, 20_000]
    tables = [make(folder, count) for count in counts]
    print(
        "| format | "
        + " | ".join(f"{n} images: MB, CPU s" for n in counts)
        + " | memory, ratio | CPU s, ratio |"
    )
    print("|---|---|---|---|---|")
    for name in FORMATS:
        told = []
        for table in tables:
            out = folder / "out"
            command = [sys.executable, __file__, "--measure", str(table), name, str(out)]
            told.append(
                json.loads(
                    subprocess.run(command, check=True, capture_output=True, text=True).stdout
                )
            )
            shutil.rmtree(out)
        cells = [f"{row['mb']:.0f}, {row['seconds']:.1f}" for row in told]
        ratios = [f"{told[1][key] / told[0][key]:.2f}" for key in ("mb", "seconds")]
        print(f"| {name} | {' | '.join([*cells, *ratios])} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "--measure":
        measure(Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
    else:
        main()
