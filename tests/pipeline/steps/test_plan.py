"""The plan step and `synthaug plan`: targets met, natural companions, one line per mistake, a safe page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from synthaug.pipeline.cli import main
from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.core.scene import Category, class_counts
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.formats.reference import open_dataset
from synthaug.pipeline.planning.exchange import Layout
from synthaug.pipeline.planning.layout_statistics import Statistics, deviation
from synthaug.pipeline.planning.planner import LayoutPlanner
from synthaug.pipeline.report import plan_page
from synthaug.pipeline.report.plan_page import WIDTH, Plan, class_rows, cut, lines, place, render
from synthaug.pipeline.steps.plan import open_planner
from tests import paths

ROOT = paths.ROOT


def job_of(name: str, *overrides: str) -> Job:
    return load_job(ROOT / "jobs" / f"{name}.yaml", ["cluster.executor=serial", *overrides])


def table_of(reference: str, root: Path, out: Path) -> str:
    table = open_dataset(reference, root, key="data.labelled")
    with parquet.ShardWriter(Folder.at(out), "part-00000.parquet", table.categories) as writer:
        writer.write([table[i] for i in range(len(table))])
    return str(out)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> str:
    return table_of("toy:train?count=200", ROOT, tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def bccd(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = paths.sample_data("bccd")
    return table_of(
        "coco:annotations/train_labelled.json?images=images",
        folder,
        tmp_path_factory.mktemp("bccd"),
    )


def planned_counts(planner: LayoutPlanner) -> np.ndarray:
    """Objects per planned image and class [count, C]."""
    scenes = (planner.scene(i) for i in range(planner.count))
    return np.stack(
        [np.bincount(s.objects.category, minlength=len(planner.categories)) for s in scenes]
    )


def assert_target_met(planner: LayoutPlanner) -> None:
    counts = planned_counts(planner)
    sigma = counts.std(0) * np.sqrt(len(counts))
    assert planner.slots.short == pytest.approx(0, abs=1e-9)
    assert (np.abs(counts.sum(0) - planner.target) <= 3 * sigma + 1e-6).all(), (
        counts.sum(0),
        planner.target,
        sigma,
    )


@pytest.mark.parametrize("target", ["sqrt", "balanced"])
@pytest.mark.parametrize("placement", ["natural", "uniform"])
def test_targets_are_met_within_three_sigma_on_toy(toy: str, target: str, placement: str) -> None:
    words = (
        "plan.count=400",
        f"plan.target={target}",
        f"plan.placement={placement}",
        "generator.max_objects=12",
    )
    assert_target_met(open_planner(job_of("semi_supervised", *words), toy))


@pytest.mark.parametrize("target", ["sqrt", "balanced"])
def test_targets_are_met_within_three_sigma_on_blood_cells(bccd: str, target: str) -> None:
    assert_target_met(open_planner(job_of("bccd", "plan.count=206", f"plan.target={target}"), bccd))


def test_given_weights_make_the_same_scenes(toy: str) -> None:
    """Workers are given the weights; the driver finds them."""
    job = job_of("semi_supervised", "plan.count=50", "plan.placement=natural")
    one = open_planner(job, toy)
    other = open_planner(job, toy, np.array(one.weights.tolist()))
    for i in (0, 7, 49):
        np.testing.assert_array_equal(one.scene(i).objects.boxes, other.scene(i).objects.boxes)
        assert one.scene(i).provenance == other.scene(i).provenance


def test_deficit_counts_what_is_missing_and_images_it_takes(toy: str) -> None:
    planner = open_planner(job_of("semi_supervised", "plan.target=deficit", "plan.count=0"), toy)
    table = parquet.read(parquet.Config(toy), pixels=False)
    labelled = class_counts(table, len(table.categories))
    things = planner.isthing & (planner.natural > 0)
    missing = np.maximum(200 - labelled, 0)[things]
    rate = sum(planner.isthing[source.layout.category].sum() for source in planner.sources) / len(
        planner.sources
    )
    assert planner.count == int(np.ceil(missing.sum() / rate))
    assert planner.need.natural > 3 * planner.need.exchanged
    np.testing.assert_allclose(planner.target[things][missing > 0], missing[missing > 0])
    assert_target_met(planner)
    totals = labelled + planned_counts(planner).sum(0)
    assert (totals[things] > 150).all()


def test_nothing_missing_is_one_line(toy: str) -> None:
    words = ("plan.target=deficit", "plan.count=0", "plan.objects_per_class=1")
    with pytest.raises(JobError, match=r"plan.objects_per_class: no class .* fewer than 1 objects"):
        open_planner(job_of("semi_supervised", *words), toy)
    assert open_planner(job_of("semi_supervised", *words[::2], "plan.count=9"), toy).count == 9
    with pytest.raises(JobError, match=r"plan.count: 0 images, as many as are needed"):
        job_of("semi_supervised", "plan.count=0")


def test_the_command_plans_and_a_page_shows_it(tmp_path: Path) -> None:
    words = [
        "plan",
        str(ROOT / "jobs" / "smoke.yaml"),
        "cluster.executor=serial",
        "--output",
        str(tmp_path),
    ]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, (result.output, result.exception)
    table = result.output[result.output.index("class ") : result.output.index("page:")]
    assert max(map(len, table.splitlines())) <= WIDTH
    assert {p.name.split("-")[0] for p in (tmp_path / "steps").iterdir()} == {"ingest", "plan"}
    page = (tmp_path / "plan.html").read_text()
    assert page.count("<figure>") == 8
    assert "<script" not in page
    again = CliRunner().invoke(main, words).output
    assert again.count("finished earlier") == 2
    assert again[again.index("class ") :] == result.output[result.output.index("class ") :]


def many(count: int) -> Plan:
    """A plan of classes with long, hostile names."""
    categories = [Category(i + 1, f"<script>{'x' * 40}{i}\n\x1b[2J") for i in range(count)]
    layouts = [
        Layout(
            np.array([i, (i + 1) % count], np.int32), np.array([[0, 0, 0.1, 0.1]] * 2, np.float32)
        )
        for i in range(count)
    ]
    real = Statistics.of(layouts, count)
    told = {"natural": 1e7, "target": 2e7, "planned": 20_000_000, "labelled": 10_000_000}
    need = {"objects_per_class": 10**9, "objects": 10**9, "exchanged": 10**9, "natural": 10**9}
    manifest = {
        "images": 1,
        "sources": 2,
        "short": 5,
        "need": need,
        "classes": {c.name: told for c in categories},
    }
    return Plan(
        "<b>",
        "balanced",
        "natural",
        manifest,
        class_rows(categories, real, manifest),
        deviation(real, real),
    )


def test_long_tables_are_folded_and_lines_stay_short_and_plain() -> None:
    said = lines(many(90))
    assert len(said) < 45
    assert any("66 more classes" in line for line in said)
    assert max(map(len, said)) <= WIDTH
    assert all(line.isprintable() for line in said)


def test_the_page_escapes_names() -> None:
    page = render(many(30)).decode()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "<b>" not in page


def test_places_in_words() -> None:
    grid = np.zeros((8, 8), np.int64)
    assert place(grid) == "–"
    grid[6:, :3] = 1
    assert place(grid) == "bottom left"
    assert place(np.ones((8, 8), np.int64)) == "anywhere"
    sky = Statistics.of([Layout(np.zeros(1, np.int32), np.array([[0, 0, 1, 0.4]], np.float32))], 1)
    assert place(sky.positions[0]) == "top"
    middle = np.zeros((8, 8), np.int64)
    middle[3:5, 3:5] = 1
    assert place(middle) == "centre"
    assert cut("abcdef", 4) == "abc…"


def test_a_plan_without_pictures_has_no_gallery() -> None:
    assert b"<figure>" not in render(replace(many(2), pairs=()))


def test_a_plan_for_pasting_only_adds_and_leaves_real_objects_where_they_are(toy: str) -> None:
    words = (
        "generator.system=copy_paste",
        "plan.count=300",
        "plan.target=sqrt",
        "generator.max_objects=14",
    )
    planner = open_planner(job_of("semi_supervised", *words), toy)
    counts, natural = planned_counts(planner), planner.natural
    sigma = counts.std(0) * np.sqrt(len(counts))
    assert (np.abs(counts.sum(0) - np.maximum(natural, planner.target)) <= 3 * sigma + 1e-6).all()
    known = {source.image_id: source.layout for source in planner.sources}
    turned = 0
    for i in range(40):
        scene = planner.scene(i)
        assert scene.provenance is not None
        layout = known[scene.provenance.source_image]
        kept = scene.objects.select(
            [k for k, source in enumerate(scene.objects.source) if source == "human"]
        )
        np.testing.assert_array_equal(kept.category, layout.category)
        plain, mirror = (
            layout.boxes * 64,
            layout.boxes[:, [2, 1, 0, 3]] * [-64, 64, -64, 64] + [64, 0, 64, 0],
        )
        same = [np.allclose(kept.boxes, boxes, atol=1e-3) for boxes in (plain, mirror)]
        assert any(same)
        turned += same[1]
    assert 8 < turned < 32


def test_the_page_does_not_say_that_pasting_gives_objects_up() -> None:
    need = {"objects_per_class": 1, "objects": 0}
    manifest = {"images": 5, "sources": 5, "need": need, "short": 0}
    zero = dict.fromkeys(
        ("pairs", "pairs_given_frequency", "objects_per_image", "sizes", "positions"), 0.0
    )
    row = plan_page.Row("tree", True, 0, 9, 5, 9, 4, 9, 0, 0.1, "top", [], [])
    for adds_only, words in (
        (True, "all 9 objects stay, 5 of them above the target"),
        (False, "of 9 objects 5 are given up"),
    ):
        told = Plan("x", "sqrt", "uniform", {**manifest, "adds_only": adds_only}, [row], zero)
        assert words in plan_page.sentences(told)[0]
