"""Order of the tests, and what the end of a test run says of those that were skipped."""

from __future__ import annotations

import os
import sys
from collections import Counter

import pytest
from hypothesis import settings

# The same inputs every time: who changes one line is told of that line, not of an input drawn
# today for the first time. `HYPOTHESIS_PROFILE=search` draws new ones.
settings.register_profile("suite", derandomize=True, database=None)
settings.register_profile("search", derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))

# Ray's workers yield to whatever else the machine does, and a test that waits for them with it
os.environ.setdefault("RAY_worker_niceness", "0")
LONGEST = ("test_end_to_end.py", "test_packaging.py", "test_ray_executor.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, so that two processes end together."""
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(LONGEST)))


def pytest_collection_finish() -> None:
    """Refuse a test file that imports Ray: Ray reads its settings then, for the whole process."""
    if "ray" in sys.modules:
        raise pytest.UsageError("a test file imports ray at its top; import it inside the test")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many tests were skipped, by reason."""
    reasons: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        reasons[skip_reason(report)] += 1
    if not reasons:
        return
    terminalreporter.section(f"{reasons.total()} skipped")
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"{count:5}  {reason}")


def skip_reason(report: pytest.TestReport) -> str:
    """Return the sentence with which a test was skipped."""
    if not isinstance(report.longrepr, tuple):
        return str(report.longrepr)
    _path, _line, message = report.longrepr
    return message.removeprefix("Skipped: ")
