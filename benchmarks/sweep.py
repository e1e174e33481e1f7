"""Compare settings of one job.

Steps that do not depend on them run once, then the variants run side by side.

    python benchmarks/sweep.py JOB OUT VARIANTS.json [--together N] [KEY=VALUE ...]

VARIANTS.json maps a name to a list of overrides. Prints one line per variant (scores, seconds of
generator training) and writes OUT/<variant>.json and a picture sheet OUT/<variant>.png.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path


def run(job: str, folder: Path, overrides: list[str]) -> subprocess.Popen[bytes]:
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
    return subprocess.Popen(
        command, stdout=(folder.parent / f"{folder.name}.log").open("wb"), stderr=subprocess.STDOUT
    )


def sheet(folder: Path, out: Path, count: int = 48, zoom: int = 2) -> None:
    """Real source images above their synthetic twins."""
    import cv2
    import numpy as np

    from synthaug.pipeline.core.images import decode
    from synthaug.pipeline.formats.parquet import read as parquet

    data = parquet.open_table(folder / "data")
    ingest = next((folder / "steps").glob("ingest-*"))
    real = parquet.open_table(ingest / "labelled")
    by_id = {real[i].image_id: i for i in range(len(real))}
    rows = []
    for start in range(0, min(count, len(data)), 12):
        scenes = [data[i] for i in range(start, min(start + 12, len(data)))]
        sources = [real[by_id[s.provenance.source_image]] for s in scenes if s.provenance]
        for line in (sources, scenes):
            images = [
                cv2.resize(decode(s), (64 * zoom, 64 * zoom), interpolation=cv2.INTER_CUBIC)
                for s in line
            ]
            rows.append(np.concatenate(images, 1))
    cv2.imwrite(str(out), np.concatenate([r for r in rows if r.shape == rows[0].shape])[..., ::-1])


def main() -> None:
    job, out, variants, *rest = sys.argv[1:]
    together = int(rest[rest.index("--together") + 1]) if "--together" in rest else 4
    common = [word for word in rest if "=" in word]
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    base = folder / "base"
    began = time.time()
    run(
        job,
        base,
        [
            *[c for c in common if not c.startswith(("generator.steps", "plan.count"))],
            "generator.steps=2",
            "plan.count=16",
        ],
    ).wait()
    print(f"shared steps: {time.time() - began:.0f} s", flush=True)
    todo = list(json.loads(Path(variants).read_text()).items())
    running: dict[str, subprocess.Popen[bytes]] = {}
    while todo or running:
        while todo and len(running) < together:
            name, overrides = todo.pop(0)
            shutil.copytree(base / "steps", folder / name / "steps", dirs_exist_ok=True)
            running[name] = run(job, folder / name, [*common, *overrides])
        for name in [n for n, process in running.items() if process.poll() is not None]:
            del running[name]
            report(folder / name, name)
        time.sleep(1)


def report(folder: Path, name: str) -> None:
    try:
        metrics = json.loads((folder / "metrics.json").read_text())
    except OSError:
        print(name, "FAILED", (folder.parent / f"{name}.log").read_text()[-500:], flush=True)
        return
    dap, cas = metrics["scores"]["dap"], metrics["scores"]["cas"]
    values = dap["values"]
    row = {
        "variant": name,
        "dap": values["AP50"],
        "ap75": values["AP75"],
        "tail": values["AP50_tail"],
        "real": dap["controls"]["real"]["AP50"],
        "shuffled": dap["controls"]["shuffled"]["AP50"],
        "cas": cas["values"]["top1"],
        "cas_bal": cas["values"]["balanced"],
        "cas_real": cas["controls"]["real"]["top1"],
        "gan_s": metrics["seconds"]["train_generator"],
    }
    print(
        json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}),
        flush=True,
    )
    shutil.copy(folder / "metrics.json", folder.parent / f"{name}.json")
    sheet(folder, folder.parent / f"{name}.png")


if __name__ == "__main__":
    main()
