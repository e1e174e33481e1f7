"""What are pseudo-labels worth to the generator? The four settings of LostGAN-V2's Table 5, on data
of any format.

    python benchmarks/semi_supervised.py JOB OUT LABELLED UNLABELLED [KEY=VALUE ...]

LABELLED and UNLABELLED are references as in a job; the second needs labels too, for the fully
supervised setting. All four generators do the same number of steps, are judged by one detector (the
fully supervised one) on the same validation layouts, and the CAS classifiers are tested on the same
real crops. Prints a table and leaves OUT/<setting>.json.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

COLUMNS = ("DAP AP50", "DAP AP75", "tail AP50", "CAS top-1", "CAS balanced", "generator s")


def settings(labelled: str, unlabelled: str, judge: Path) -> dict[str, list[str]]:
    """Overrides of each setting; the first one makes the reference detector."""
    semi = [f"data.labelled={labelled}", f"data.unlabelled={unlabelled}", f"score.detector={judge}"]
    return {
        "fully supervised": [f"data.labelled={labelled} + {unlabelled}", "data.unlabelled="],
        "(iii) D1 + D2, eq. 15": [*semi, "generator.weigh_scores=true"],
        "(ii) D1 + D2": [*semi, "generator.weigh_scores=false"],
        "(i) D1": [*semi, "generator.use_pseudo=false"],
    }


def run(job: str, folder: Path, overrides: list[str]) -> dict[str, object]:
    """Run one setting; those that share a folder share their finished steps."""
    command = [
        sys.executable,
        "-m",
        "synthaug.pipeline.cli",
        "run",
        job,
        *overrides,
        "--output",
        str(folder),
    ]
    with (folder.parent / f"{folder.name}.log").open("ab") as log:
        subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=True)
    metrics: dict[str, object] = json.loads((folder / "metrics.json").read_text())
    return metrics


def numbers(metrics: dict[str, object]) -> list[float]:
    scores, seconds = metrics["scores"], metrics["seconds"]
    assert isinstance(scores, dict) and isinstance(seconds, dict)
    dap, cas = scores["dap"]["values"], scores["cas"]["values"]
    tail = dap["AP50_tail"] if dap["AP50_tail"] is not None else float("nan")
    return [
        dap["AP50"],
        dap["AP75"],
        tail,
        cas["top1"],
        cas["balanced"],
        seconds["train_generator"],
    ]


def main() -> None:
    job, out, labelled, unlabelled, *common = sys.argv[1:]
    folder = Path(out).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    judge = folder / "full" / "checkpoints" / "detector.safetensors"
    print(
        "| setting | " + " | ".join(COLUMNS) + " |\n" + "|---" * (len(COLUMNS) + 1) + "|",
        flush=True,
    )
    for name, overrides in settings(labelled, unlabelled, judge).items():
        place = folder / ("full" if name.startswith("fully") else "semi")
        metrics = run(job, place, [*common, *overrides])
        shutil.copy(place / "metrics.json", folder / f"{name.split()[0].strip('()')}.json")
        print(
            f"| {name} | " + " | ".join(f"{value:.3f}" for value in numbers(metrics)) + " |",
            flush=True,
        )
    real = json.loads((folder / "fully.json").read_text())["scores"]
    ceiling = real["dap"]["controls"]["real"]["AP50"], real["cas"]["controls"]["real"]["top1"]
    print(
        f"\nreal images: AP50 {ceiling[0]:.3f}, crops {ceiling[1]:.3f}; chance "
        f"{real['cas']['values']['chance']:.3f}"
    )


if __name__ == "__main__":
    main()
