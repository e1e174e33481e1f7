"""What do a detector and a LostGAN gain from learning together?

    python -m benchmarks.joint_training OUT [KEY=VALUE ...] [--seeds 2] [--arms apart,joint]

    apart        the same images in the same steps, no lesson: labels of the detector as it was,
                 no loss of it in the generator's, no synthetic images for it
    joint        all three lessons of docs/joint.md
    relabel, recognition, synthetic     one lesson alone

Every arm begins with the same detector of a seed, trained on labelled images, and does equally many
steps. Painted images are judged by a detector of many more labels that none of them has met (DAP)
and by classifiers (CAS); the detector of each arm by its own AP on the same validation images.
Prints the mean over the seeds and each seed, and leaves OUT/summary.md. What is finished in OUT is
not done again. Sized for 15 minutes of one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from benchmarks.paper_tables import Comparison, Finished, Setting, run_all, steps_of
from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.execution.context import Output
from synthaug.pipeline.run import Console, run_some

SMALL = (
    "data.labelled=toy:train?count=150",
    "data.unlabelled=toy:unlabelled?count=400",
    "data.validation=toy:val?count=120",
    *("detector.width=16", "detector.image_size=96", "detector.anchor_sizes=[18,36,72]"),
    "detector.steps=150",
    *("generator.width=8", "generator.steps=300", "generator.threads=1", "joint.batch=6"),
    *("score.names=[dap,cas]", "score.cas.steps=150", "score.dap.resamples=20"),
    *("score.dap.samples_per_layout=1", "score.cas.samples_per_layout=1"),
    *("cluster.executor=serial", "checks=report"),
)
OF_JUDGE = (
    "data.labelled=toy:train?count=900",
    "data.unlabelled=",
    "detector.steps=300",
    "joint.enabled=false",
)
LESSONS = {
    "relabel": "joint.relabel=false",
    "recognition": "joint.recognition=0",
    "synthetic": "joint.synthetic=0",
}
ARMS = ("apart", "joint", *LESSONS)
SCORES = {
    "DAP AP50": ("dap", "AP50"),
    "DAP AP": ("dap", "AP"),
    "CAS": ("cas", "top1"),
    "CAS balanced": ("cas", "balanced"),
}
OF_DETECTOR = ("AP50", "AP")


def comparison_of(arms: Sequence[str]) -> Comparison:
    """Return the arms as settings that share a folder per seed, and so their detector."""
    settings = []
    for arm in arms:
        cut = [key for lesson, key in LESSONS.items() if arm not in ("joint", lesson)]
        settings.append(Setting(arm, "joint", tuple(cut), "joint"))
    return Comparison(tuple(settings), SCORES)


def numbers(done: Finished) -> dict[str, float]:
    """Return the scores of an arm, and AP of its detector before and after."""
    scores = done.outputs["score"].manifest["scores"]
    found = {}
    for column, (score, key) in SCORES.items():
        found[column] = float(scores[score]["values"][key])
    measured = done.outputs["train_generator"].manifest["joint"]
    for when in ("before", "after"):
        for key in OF_DETECTOR:
            found[f"detector {key} {when}"] = float(measured[when][key])
    return found


def table(finished: Sequence[Finished]) -> str:
    """Return a row per arm: the mean over the seeds, and in brackets each of them."""
    rows: dict[str, list[dict[str, float]]] = {}
    for done in finished:
        rows.setdefault(done.setting, []).append(numbers(done))
    columns = list(next(iter(rows.values()))[0])
    lines = [f"| arm | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
    for arm, of_seeds in rows.items():
        cells = [_cell([values[column] for values in of_seeds]) for column in columns]
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(values: Sequence[float]) -> str:
    each = ", ".join(f"{value:.3f}" for value in values)
    return f"{mean(values):.3f} ({each})"


def run(job: Job, steps: tuple[str, ...] = ()) -> dict[str, Output]:
    """Run a job up to its scores, or some steps of it."""
    return run_some(job, Console(print, lambda *_: None), steps or steps_of(job))


def main() -> None:
    """Train the judge, run the arms, print the table and leave it."""
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--arms", default="apart,joint")
    words = parser.parse_intermixed_args()
    common = [*SMALL, *words.overrides]
    of_judge = load_job(Path("joint"), [*common, *OF_JUDGE], str(words.out / "judge"))
    run(of_judge, ("ingest", "train_detector"))
    judge = words.out / "judge" / "checkpoints" / "detector.safetensors"
    judged = [*common, f"score.detector={judge}"]
    finished = run_all(comparison_of(words.arms.split(",")), words.out, judged, words.seeds, run)
    text = table(finished)
    (words.out / "summary.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
