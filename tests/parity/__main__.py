"""`python -m tests.parity DIR [--tolerance T]`.

Compare our networks with every recorded output in a folder.

One line per array. Exit code 1 when an error exceeds its tolerance or a fixture cannot be compared,
2 when there is nothing to compare or a file is broken. Another system's fixtures are one more
module with `run(folder, tolerance) -> rows`.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from tests.parity.comparison import Row

SYSTEMS = (
    "tests.parity.crn",
    "tests.parity.lostgan",
    "tests.parity.panoptic",
    "tests.parity.pix2pix",
    "tests.parity.sg2im",
    "tests.parity.layout2im",
    "tests.parity.grid2im",
    "tests.parity.sims",
    "tests.parity.spade",
)


def main(words: list[str] | None = None) -> int:
    """Print the report; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.parity", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "folder", type=Path, help="folder of fixtures (<name>.npz and <name>.keys.json)"
    )
    parser.add_argument(
        "--tolerance", type=float, default=1e-5, help="largest error allowed (default: %(default)s)"
    )
    given = parser.parse_args(words)
    if not given.tolerance > 0:
        parser.error(f"--tolerance: {given.tolerance} is not positive")
    try:
        return report(given.folder, given.tolerance)
    except ValueError as err:
        print(f"error: {' '.join(str(err).split())}", file=sys.stderr)
        return 2


def report(folder: Path, tolerance: float) -> int:
    """Print the rows of every system.

    ValueError, one line, when a file is broken or there are none.
    """
    names = {path.stem for path in folder.glob("*.npz")}
    if not names:
        raise ValueError(
            f"{folder}: no fixtures (<name>.npz) here; give the folder that holds them"
        )
    rows: list[Row] = []
    for system in SYSTEMS:
        for row in importlib.import_module(system).run(folder, tolerance):
            print(row, flush=True)
            rows.append(row)
    if not rows:
        raise ValueError(f"{folder}: no fixtures of a known system here; give a folder with some")
    for name in sorted(names - {row.fixture for row in rows}):
        rows.append(Row(name, "", detail="no system here knows this fixture", fault=True))
        print(rows[-1])
    compared = sum(row.error is not None for row in rows)
    failed = sum(row.failed for row in rows)
    aside = sum("not compared" in row.detail and row.error is None for row in rows)
    print(
        f"{len(names)} fixtures, {compared} arrays compared, {failed} failed, {aside} not compared"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
