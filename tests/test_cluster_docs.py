"""The commands and files of docs/cluster.md are what Ray and our own command line take."""

from __future__ import annotations

import json
import re
import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from synthaug.pipeline.config.load import load_job
from tests import paths

PAGE = (paths.ROOT / "docs" / "cluster.md").read_text()
BLOCKS: list[dict[str, Any]] = [
    yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
]
COMMANDS = re.findall(r"^ +(synthaug run .*|ray job submit .*)$", PAGE, re.MULTILINE)


def run_of(command: str) -> list[str]:
    """Return the words after `synthaug run` of a command."""
    words = shlex.split(command)
    place = words.index("synthaug")
    assert words[place + 1] == "run"
    return words[place + 2 :]


def test_the_page_has_its_parts() -> None:
    assert [block.get("kind", "ray up") for block in BLOCKS] == ["RayJob", "ray up"]
    assert len(COMMANDS) == 2


@pytest.mark.parametrize("command", [*COMMANDS, BLOCKS[0]["spec"]["entrypoint"]])
def test_runs_name_a_job_that_ships_and_keys_that_exist(command: str) -> None:
    name, option, output, *overrides = run_of(command)
    assert option == "--output"
    assert output.startswith("s3://")
    file = "smoke" if name == "JOB" else name  # JOB stands for any
    job = load_job(paths.JOBS / f"{file}.yaml", overrides)
    assert re.fullmatch(r"[\d.]+:6379", job.cluster.address)


def test_the_file_for_ray_up_is_one_of_rays() -> None:
    ray = find_spec(
        "ray"
    )  # not imported: Ray reads its settings then, for all tests of the process
    assert ray is not None
    assert ray.origin is not None
    schema = json.loads((Path(ray.origin).parent / "autoscaler/ray-schema.json").read_text())
    cluster = BLOCKS[1]
    jsonschema.validate(cluster, schema)
    assert cluster["head_node_type"] in cluster["available_node_types"]
    kinds = cluster["available_node_types"]
    assert sum(kind.get("max_workers", 0) for kind in kinds.values()) <= cluster["max_workers"]


def test_a_ray_job_asks_for_what_its_pods_are_limited_to() -> None:
    cluster = BLOCKS[0]["spec"]["rayClusterSpec"]
    assert BLOCKS[0]["apiVersion"] == "ray.io/v1"
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        (container,) = group["template"]["spec"]["containers"]
        resources = container["resources"]
        assert resources["requests"] == resources["limits"]
    (workers,) = cluster["workerGroupSpecs"]
    assert workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]
