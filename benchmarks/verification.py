"""How well does verification tell false labels from true ones? Faults planted in the correct labels
of real images.

    python benchmarks/verification.py CHECKPOINT [LEARN TEST [LABELLED]]

CHECKPOINT is a trained detector, such as steps/verify-*/judge/detector.safetensors of a run. The
thresholds are fitted on the images of LEARN (default toy:val) with the job's defaults, as the step
does. In each image of TEST (toy:test) one fault of each kind is planted in turn, and all labels of
the image are judged: "named" is the share of planted faults that get their verdict (its recall),
precision the share of a verdict that is a planted fault of its kind, where one label of each image
is false. LABELLED (toy:train) says how small objects are.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from synthaug.detectors import load
from synthaug.detectors.tta import TestTimeAugmented
from synthaug.pipeline.config.schema import Verify
from synthaug.pipeline.core.seeding import rng_for
from synthaug.pipeline.detection.inference import detect_rows
from synthaug.pipeline.formats.reference import open_dataset
from synthaug.pipeline.scores.detection.evaluator import DetectionRow, overlaps
from synthaug.pipeline.steps.verify import box_areas
from synthaug.pipeline.verification.injected_errors import KINDS, inject
from synthaug.pipeline.verification.thresholds import Requirements, fit, least_areas, stack
from synthaug.pipeline.verification.verdicts import EXTRA, KEPT, Thresholds, verdicts

MISSED = "missed"


def looked(judge_: TestTimeAugmented, reference: str) -> tuple[list[DetectionRow], np.ndarray]:
    """What the detector finds in each image of a data set, and which of its classes are things."""
    table = open_dataset(reference, Path())
    rows = list(detect_rows(judge_, table, range(len(table)), 16))
    return rows, np.array([category.isthing for category in table.categories], bool)


def confusion(rows: list[DetectionRow], thresholds: Thresholds) -> dict[str, Counter[str]]:
    """(What was planted, or "true") -> verdicts.

    A planted extra thing is EXTRA where it was found, else MISSED.
    """
    told: dict[str, Counter[str]] = {kind: Counter() for kind in ("true", *KINDS)}
    for i, row in enumerate(rows):
        for kind in KINDS:
            rng = rng_for("benchmark", kind, i)
            error = inject(row, rows[int(rng.integers(len(rows)))], kind, thresholds, rng)
            if error is None:
                continue
            wrong = replace(row, boxes=error.boxes, labels=error.labels, crowd=error.crowd)
            result = verdicts(wrong, thresholds)
            found = row.pred_boxes[result.extra]
            if kind == EXTRA:
                hits = overlaps(found, error.box[None], np.zeros(1, bool))[:, 0] >= 0.5
                told[EXTRA][EXTRA if hits.any() else MISSED] += 1
                told["true"][EXTRA] += int((~hits).sum())
            own = [result.verdict[place] for place in error.indices]
            if kind != EXTRA:  # of two that are one, either may be taken for the true one
                told[kind][next((v for v in own if v not in (KEPT, None)), KEPT) or KEPT] += 1
            rest = [
                v
                for place, v in enumerate(result.verdict)
                if place not in error.indices and v is not None
            ]
            told["true"].update(rest)
    return told


def main() -> None:
    """Print precision and recall per verdict on images that the thresholds were not fitted on."""
    path, *references = sys.argv[1:]
    learn, test, labelled = [*references, *("toy:val", "toy:test", "toy:train")[len(references) :]]
    seen = TestTimeAugmented(load(Path(path)), flip=False, scales=())
    how = Verify()
    required = Requirements(how.recall, how.min_recall, how.min_truths, how.precision)
    rows, things = looked(seen, learn)
    least = least_areas(box_areas(open_dataset(labelled, Path())), len(things), how.small)
    thresholds = stack(fit(rows, things, required), things, least)
    told = confusion(looked(seen, test)[0], thresholds)
    print(f"judged classes: {int(thresholds.judged.sum())} of {int(things.sum())}")
    print("| planted | labels | passed | named | precision of the verdict |")
    print("|---|---|---|---|---|")
    for kind in KINDS:
        counted, total = told[kind], max(1, sum(told[kind].values()))
        given = sum(counts[kind] for counts in told.values())
        passed = counted[MISSED if kind == EXTRA else KEPT]
        print(
            f"| {kind} | {total} | {100 * passed / total:.1f} % | "
            f"{100 * counted[kind] / total:.1f} % | {100 * counted[kind] / max(1, given):.1f} % |"
        )
    true = Counter({name: n for name, n in told["true"].items() if name != EXTRA})
    print(
        f"true labels rejected: {100 * (1 - true[KEPT] / true.total()):.1f} % of {true.total()}: "
        f"{dict(true)}"
    )
    print({kind: dict(counted) for kind, counted in told.items() if kind != "true"})


if __name__ == "__main__":
    main()
