"""The plan step and `synthaug plan`: targets met, natural companions, one line per mistake."""

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
from synthaug.pipeline.core.scene import class_counts
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.formats.reference import open_dataset
from synthaug.pipeline.planning.planner import ADDED, NO_PLACE, LayoutPlanner
from synthaug.pipeline.report.plan_page import WIDTH
from synthaug.pipeline.run import step_keys
from synthaug.pipeline.steps import plan as plan_step
from synthaug.pipeline.steps.contract import load_steps
from synthaug.pipeline.steps.inputs import open_inputs
from synthaug.pipeline.steps.plan import open_planner
from tests import paths
from tests.fake_run import change, fake_run

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
    table = parquet.open_table(toy, pixels=False)
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


def test_a_plan_for_pasting_only_adds_and_leaves_real_objects_where_they_are(toy: str) -> None:
    words = (
        "generator.system=copy_paste",
        "plan.count=300",
        "plan.target=sqrt",
        "plan.natural_share=0",
    )
    planner = open_planner(job_of("semi_supervised", *words), toy)
    counts, natural = planned_counts(planner), planner.natural
    added = counts.sum(0) - natural
    lacks = planner.target > natural
    spread = 3 * counts.std(0) * np.sqrt(len(counts)) + 1e-6
    assert (added[lacks] > -spread[lacks]).all() and (np.abs(added) <= spread)[~lacks].all()
    assert 0 < added[lacks].sum() <= 3 * 300
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


# ---- Budgets by what validation says is weak ----


def keys_of(*overrides: str) -> dict[str, str]:
    return step_keys(job_of("smoke", *overrides), load_steps())


def test_a_plan_by_weakness_is_made_again_where_the_detector_is_another() -> None:
    weak = keys_of("plan.target=weak")
    assert weak["plan"] != keys_of("plan.target=weak", "detector.steps=7")["plan"]
    assert keys_of()["plan"] == keys_of("detector.steps=7")["plan"]


def test_given_weakness_asks_no_detector() -> None:
    words = ("plan.target=weak", "plan.weakness={bus: 0.5}")
    given = keys_of(*words)
    assert given["plan"] == keys_of(*words, "detector.steps=7")["plan"]
    assert given["plan"] != keys_of(words[0], "plan.weakness={bus: 0.6}")["plan"]


@pytest.mark.parametrize("weak", ["windmill", "tree"])
def test_the_plan_reads_the_validation_ap_of_the_run_s_detector(weak: str, tmp_path: Path) -> None:
    words = ["generator.system=fill", "plan.target=weak", "plan.natural_share=0", "plan.count=40"]
    context = fake_run(tmp_path, labelled=60, overrides=words)
    lines: list[str] = []
    measured = {}
    for category in open_dataset("toy:train?count=1", Path(), key="").categories:
        if category.isthing:
            measured[category.name] = {"AP": 1.0, "AP50": 1.0, "gt": 1000}
    measured[weak] = {"AP": 0.0, "AP50": 0.0, "gt": 1000}
    context = change(context, "train_detector", floor={"classes": measured})
    context = replace(context, folder=Folder.at(tmp_path / "plan-1"), tell=lines.append)
    classes = plan_step.run(context)["classes"]
    added = {name: row["planned"] - row["natural"] for name, row in classes.items()}
    assert max(added, key=lambda name: added[name]) == weak
    assert lines[0].startswith(f"  what validation AP says is missing: {weak} 0.9")


WEAK = ("generator.system=fill", "plan.target=weak", "plan.count=60")


def explained(*words: str) -> list[str]:
    job = job_of("smoke", *WEAK, *words)
    return plan_step.explain(job, open_inputs(job))


def test_a_dry_run_explains_budgets_and_surfaces_of_masks() -> None:
    lines = explained("data.labelled=toy:train?count=60")
    assert lines[0] == "plan: 60 images, target 'weak'"
    assert "AP on validation" in lines[1]
    assert "1 to 3 edits" in lines[2] and "50 %" in lines[2]
    (boats,) = [line for line in lines if line.startswith("  boat comes to")]
    assert boats == "  boat comes to water (plan.surface)"
    given = explained("plan.weakness={boat: 0.5}", "plan.surface=any")
    assert given[1] == "  classes lack, as plan.weakness says: boat 0.5"
    assert given[-1] == "  objects come to any place (plan.surface: any)"


def test_a_dry_run_says_that_boxes_alone_tell_no_surface() -> None:
    root = paths.sample_data("bccd")
    train = "coco:annotations/train_labelled.json?images=images"
    validation = "coco:annotations/val.json?images=images"
    words = [f"data.root={root}", f"data.labelled={train}", f"data.validation={validation}"]
    lines = explained(*words, "data.unlabelled=", "plan.weakness={Platelets: 0.8, WBC: 0.2}")
    assert lines[-1] == "  no stuff has a mask here: objects come to any place (plan.surface)"


def test_half_of_the_edits_go_to_what_is_weak_and_all_to_surfaces_of_their_own(toy: str) -> None:
    words = (*WEAK, "plan.weakness={boat: 0.6, balloon: 0.2}", "plan.most_edits=2")
    planner = open_planner(job_of("smoke", *words), toy)
    names = [category.name for category in planner.categories]
    added = np.zeros(len(names), np.int64)
    without_place = 0
    for index in range(planner.count):
        scene = planner.scene(index)
        assert scene.provenance is not None
        without_place += scene.provenance.reason.count(NO_PLACE)
        objects = scene.objects
        is_new = np.array([source == ADDED for source in objects.source])
        added += np.bincount(objects.category[is_new], minlength=len(names))
    counts = dict(zip(names, added.tolist(), strict=True))
    # one edit of an image is for what is weak, and the second, where there is one, natural
    weak = counts["boat"] + counts["balloon"]
    assert 0.5 < weak / added.sum() < 0.85
    assert counts["boat"] > 10 and counts["balloon"] > 10
    assert without_place < 0.15 * added.sum(), "images without water are not asked for boats"


def test_a_class_that_is_not_there_is_named_before_anything_is_trained() -> None:
    job = job_of("smoke", "plan.target=weak", "plan.weakness={windmil: 0.5}")
    with pytest.raises(JobError, match=r"plan.weakness.windmil: .* did you mean 'windmill'\?"):
        plan_step.check_data(job, open_inputs(job))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["plan.weakness={bus: 0.5}"], "plan.weakness: what classes lack belongs to"),
        (["plan.target=weak", "plan.weakness={bus: 1.5}"], "plan.weakness: 1.5 of 'bus'"),
        (["plan.target=weak", "plan.weakness={bus: 0}"], "plan.weakness: all classes lack 0"),
    ],
)
def test_weakness_that_cannot_be_is_refused(words: list[str], told: str) -> None:
    with pytest.raises(JobError, match=told):
        job_of("smoke", *words)
