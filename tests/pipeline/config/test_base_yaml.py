"""jobs/base.yaml and the dataclasses say the same."""

from __future__ import annotations

from dataclasses import dataclass, fields

import pytest
import yaml

from synthaug.detectors import DETECTORS, backend
from synthaug.generators import GENERATORS, load_system
from synthaug.pipeline.config import base_yaml
from synthaug.pipeline.config.build import loop_config
from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.scores import SCORES
from tests.paths import JOBS

TEXT = (JOBS / "base.yaml").read_text()


@dataclass
class Sizes:
    # ---- network ----
    # channels of the first stage,
    # doubled with each
    width: int = 8
    depth: int = 2  # stages
    rates: tuple[float, ...] = (1e-5, 0.1)
    # a comment above
    side: int = 64  # pixels


@dataclass
class MoreSizes(Sizes):
    depth: int = 3  # stages and the stem


def test_the_file_is_what_the_dataclasses_give() -> None:
    assert base_yaml.base_yaml() == TEXT, "write it again with `make base-yaml`"


def test_base_yaml_loads_by_itself() -> None:
    job = load_job(JOBS / "base.yaml", [], None)
    assert (job.name, job.data.labelled, job.data.validation) == ("base", "toy:train", "toy:val")


def test_what_base_yaml_writes_is_what_a_job_without_it_gets(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("job") / "base.yaml"
    toy = yaml.safe_load(TEXT)["data"]
    path.write_text(f"data: {toy}\n")
    assert load_job(path) == load_job(JOBS / "base.yaml")


def test_no_component_inherits_the_keys_of_another() -> None:
    """A default of one system that base.yaml wrote would be the value of every other system's."""
    written = yaml.safe_load(TEXT)
    own = [("generator", load_system(name).Config) for name in GENERATORS]
    own += [("detector", backend(name).Config) for name in DETECTORS]
    own += [("train_generator", loop_config(name)) for name in GENERATORS]
    for section, config in own:
        names = {field.name for field in fields(config)}
        assert not names & set(written[section] or {}), section


def test_every_system_and_every_score_is_there() -> None:
    for name in (*GENERATORS, *DETECTORS):
        assert any(line.startswith("  # ----") and name in line for line in TEXT.splitlines())
    assert set(SCORES) <= set(yaml.safe_load(TEXT)["score"])


def test_a_comment_stands_behind_its_field_or_above_it() -> None:
    assert base_yaml.field_comments(Sizes) == {
        "width": "channels of the first stage, doubled with each",
        "depth": "stages",
        "rates": "",
        "side": "a comment above pixels",
    }


def test_an_inherited_field_keeps_its_comment() -> None:
    comments = base_yaml.field_comments(MoreSizes)
    assert comments["depth"] == "stages and the stem"
    assert comments["width"] == "channels of the first stage, doubled with each"


def test_a_component_names_only_what_an_earlier_one_has_not() -> None:
    @dataclass
    class Wide(Sizes):
        kernel: int = 3  # pixels

    lines = list(base_yaml.component_lines({"a": Sizes, "b": Sizes, "c": Wide}, "generator"))
    assert lines[0] == "  # ---- a, b ----"
    start = lines.index("  # ---- c: also the keys of a, b ----")
    assert [line.split(":")[0] for line in lines[start + 1 :]] == ["  # kernel"]


@pytest.mark.parametrize(
    "value",
    [0, -3, True, 0.1, 1e-7, 20.0, "", "no", "1e3", "png", "a b", "toy:train", (), (0.5, 2.0)],
)
def test_values_survive_yaml(value: object) -> None:
    read = yaml.safe_load(f"key: {base_yaml.yaml_value(value)}")["key"]
    expected = list(value) if isinstance(value, tuple) else value
    assert (read, type(read)) == (expected, type(expected))
