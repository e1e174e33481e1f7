"""How well does verification tell false labels from true ones? Faults planted in the correct labels of real images.

    python benchmarks/verification.py CHECKPOINT [LEARN TEST [LABELLED]]

CHECKPOINT is a trained detector, such as steps/verify-*/judge/detector.safetensors of a run. The bars are learnt on the
images of LEARN (default toy:val) with the job's defaults, as the step does. In each image of TEST (toy:test) one fault of
each kind is planted in turn, and all labels of the image are judged: "named" is the share of planted faults that get their
verdict (its recall), precision the share of a verdict that is a planted fault of its kind, where one label of each image is
false. LABELLED (toy:train) says how small objects are.
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
from synthaug.pipeline.verification import injected_errors as planted
from synthaug.pipeline.verification import thresholds as verification_bars
from synthaug.pipeline.verification.thresholds import Demand
from synthaug.pipeline.verification.verdicts import EXTRA, KEPT, Bars, judge

MISSED = "missed"


def looked(judge_: TestTimeAugmented, reference: str) -> tuple[list[DetectionRow], np.ndarray]:
    """What the judge finds in each image of a data set, and which of its classes are things."""
    table = open_dataset(reference, Path())
    rows = list(detect_rows(judge_, table, range(len(table)), 16))
    return rows, np.array([category.isthing for category in table.categories], bool)


def confusion(rows: list[DetectionRow], bars: Bars) -> dict[str, Counter[str]]:
    """(What was planted, or "true") -> verdicts; a planted extra thing is EXTRA where it was found, else MISSED."""
    told: dict[str, Counter[str]] = {kind: Counter() for kind in ("true", *planted.FAULTS)}
    for i, row in enumerate(rows):
        for kind in planted.FAULTS:
            rng = rng_for("benchmark", kind, i)
            fault = planted.plant(row, rows[int(rng.integers(len(rows)))], kind, bars, rng)
            if fault is None:
                continue
            judged = judge(
                replace(row, boxes=fault.boxes, labels=fault.labels, crowd=fault.crowd), bars
            )
            found = row.pred_boxes[judged.extra]
            if kind == EXTRA:
                hits = overlaps(found, fault.at[None], np.zeros(1, bool))[:, 0] >= 0.5
                told[EXTRA][EXTRA if hits.any() else MISSED] += 1
                told["true"][EXTRA] += int((~hits).sum())
            verdicts = [judged.verdict[place] for place in fault.places]
            if kind != EXTRA:  # of two that are one, either may be taken for the true one
                told[kind][next((v for v in verdicts if v not in (KEPT, None)), KEPT) or KEPT] += 1
            rest = [
                v
                for place, v in enumerate(judged.verdict)
                if place not in fault.places and v is not None
            ]
            told["true"].update(rest)
    return told


def main() -> None:
    """Print the bars' own error rates, and precision and recall per verdict on images the bars did not see."""
    path, *references = sys.argv[1:]
    learn, test, labelled = [*references, *("toy:val", "toy:test", "toy:train")[len(references) :]]
    seen = TestTimeAugmented(load(Path(path)), flip=False, scales=())
    how = Verify()
    demand = Demand(how.recall, how.min_recall, how.min_truths, how.precision)
    rows, things = looked(seen, learn)
    least = verification_bars.least_areas(
        box_areas(open_dataset(labelled, Path())), len(things), how.small
    )
    bars = verification_bars.bars_of(verification_bars.learn(rows, things, demand), things, least)
    told = confusion(looked(seen, test)[0], bars)
    print(f"judged classes: {int(bars.judged.sum())} of {int(things.sum())}")
    print("| planted | labels | passed | named | precision of the verdict |")
    print("|---|---|---|---|---|")
    for kind in planted.FAULTS:
        counted, total = told[kind], max(1, sum(told[kind].values()))
        given = sum(verdicts[kind] for verdicts in told.values())
        passed = counted[MISSED if kind == EXTRA else KEPT]
        print(
            f"| {kind} | {total} | {100 * passed / total:.1f} % | {100 * counted[kind] / total:.1f} % | "
            f"{100 * counted[kind] / max(1, given):.1f} % |"
        )
    true = Counter({name: n for name, n in told["true"].items() if name != EXTRA})
    print(
        f"true labels rejected: {100 * (1 - true[KEPT] / true.total()):.1f} % of {true.total()}: {dict(true)}"
    )
    print({kind: dict(counted) for kind, counted in told.items() if kind != "true"})


if __name__ == "__main__":
    main()
