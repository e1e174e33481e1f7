"""Numbers that the code gave for tiny inputs, in files that people can read.

A test computes rows of numbers, each with a name, and `hold` compares them with the recorded ones.
README.md says when they may change and how they are recorded anew.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

FOLDER = Path(__file__).parent / "numbers"
RECORD = "SYNTHAUG_RECORD"  # set in the environment to record
DIGITS = 6  # that are recorded
LOUD = 12  # differences that a message names

Row = Any  # a number, a text or a list of them
Rows = Mapping[str, Row]


def hold(name: str, rows: Rows, rel: float = 1e-3, least: float = 1e-6) -> None:
    """Compare rows with those recorded as `name`; record them where that is asked for.

    A number may differ by `rel` of the largest of its row, or by `least`; whole numbers and texts
    may not differ.
    """
    file = FOLDER / f"{name}.json"
    now = {key: _plain(row) for key, row in rows.items()}
    if os.environ.get(RECORD):
        lines = [f"{json.dumps(key)}: {json.dumps(row)}" for key, row in now.items()]
        file.write_text("{\n" + ",\n".join(lines) + "\n}\n")
        return
    recorded = json.loads(file.read_text())
    wrong = []
    for key in [*recorded, *(key for key in now if key not in recorded)]:
        if key not in now or key not in recorded or not _same(recorded[key], now[key], rel, least):
            told = recorded.get(key, "nothing")
            wrong.append(f"  {key}: recorded {told}, now {now.get(key, 'nothing')}")
    if wrong:
        head = f"{len(wrong)} of {len(recorded)} rows differ from {file.name}"
        advice = f"if that is meant: {RECORD}=1, the same test again (tests/golden/README.md)"
        raise AssertionError("\n".join([head, *wrong[:LOUD], advice]))


def digest(values: Any) -> list[float]:
    """Return two numbers of an array: its root mean square, and its product with a chirp.

    The second changes where elements change places or signs.
    """
    if isinstance(values, Tensor):
        values = values.detach().cpu().double().numpy()
    flat = np.asarray(values, np.float64).ravel()
    if not flat.size:
        return [0.0, 0.0]
    places = np.arange(flat.size, dtype=np.float64)
    chirp = np.cos(0.7 * places + 0.01 * places * np.sqrt(places))
    return [float(np.sqrt(np.mean(flat**2))), float(flat @ chirp / math.sqrt(flat.size))]


def flattened(content: Any, before: str = "") -> dict[str, Row]:
    """Return every number and text of a manifest under the keys that lead to it."""
    found: dict[str, Row] = {}
    if isinstance(content, dict) and content:
        for key, value in content.items():
            found |= flattened(value, f"{before}{key}: ")
        return found
    if isinstance(content, list) and content and isinstance(content[0], dict):
        for number, value in enumerate(content):
            found |= flattened(value, f"{before}{number}: ")
        return found
    return {before.removesuffix(": "): content}


def _plain(row: Row) -> Row:
    """Return a row as JSON gives it back, its numbers rounded."""
    if isinstance(row, Tensor):
        row = row.detach().cpu().numpy()
    if isinstance(row, np.ndarray | np.generic):
        row = row.tolist()
    if isinstance(row, Mapping):
        return {str(key): _plain(value) for key, value in row.items()}
    if isinstance(row, list | tuple):
        return [_plain(value) for value in row]
    if isinstance(row, float):
        return float(f"{row:.{DIGITS}g}") if math.isfinite(row) else str(row)
    return row


def _same(recorded: Row, now: Row, rel: float, least: float) -> bool:
    """Return whether two rows are the same but for rounding."""
    if isinstance(recorded, dict) and isinstance(now, dict):
        if recorded.keys() != now.keys():
            return False
        return all(_same(recorded[key], now[key], rel, least) for key in recorded)
    if isinstance(recorded, list) and isinstance(now, list):
        if len(recorded) != len(now):
            return False
        scale = max((abs(value) for value in recorded if _is_float(value)), default=0.0)
        allowed = max(least, rel * scale)
        return all(_same(a, b, rel, allowed) for a, b in zip(recorded, now, strict=True))
    if _is_float(recorded) or _is_float(now):
        if isinstance(recorded, str) or isinstance(now, str) or recorded is None or now is None:
            return bool(recorded == now)
        return abs(recorded - now) <= max(least, rel * abs(recorded))
    return bool(recorded == now)


def _is_float(value: Any) -> bool:
    return isinstance(value, float)
