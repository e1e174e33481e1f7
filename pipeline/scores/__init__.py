"""Scores: one module each; a score measures, reduces to named numbers with a card (`card.Metric`), and does no more.

A score module has a frozen dataclass `Config`, pure functions over arrays, and `score(...) -> Metric`. The steps bring
the rows; `card.py` and `detection.py` are shared by all scores and are none themselves.
"""

from __future__ import annotations

SCORES = {
    "dap": "pipeline.scores.dap",
    "cas": "pipeline.scores.cas",
}
