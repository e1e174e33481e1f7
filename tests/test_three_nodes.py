"""A run on three Ray nodes that loses one in every step that has workers makes the same bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import paths
from tests.test_end_to_end import digests, finish, scores_of, start

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

STEPS = ("train_detector", "pseudo_label", "train_generator", "synthesize", "verify", "score")
KEYS = ("detector.workers=2", "cluster.workers=2")


def test_a_node_lost_in_each_step_changes_no_byte(tmp_path: Path) -> None:
    """Among them the detector's training, a process group of two across nodes."""
    alone = tmp_path / "alone"
    finish(start(alone, *KEYS))
    output = tmp_path / "nodes"
    environment = dict(os.environ)
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-m", "tests.three_nodes", str(output), ",".join(STEPS), *KEYS],
        cwd=paths.ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    killed = json.loads(done.stdout.splitlines()[-1])["killed"]
    assert list(killed) == list(STEPS)
    assert digests(output) == digests(alone)
    assert scores_of(output) == scores_of(alone)
    assert "was lost" in done.stdout
    assert "raylet" not in done.stdout, "Ray's own messages are not the user's"
