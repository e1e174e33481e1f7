"""How much faster are LostGAN's fast inference and training than the published equations, evaluated
directly?

    python -m benchmarks.lostgan_speed [inference] [compiled] [training] [memory] [cuda] [V1-64] \
        [V2-128] ...

The baseline is tests/direct_lostgan.py with the same weights and the same batch: layouts of 3 to 8
objects in 8 slots, 184 label rows, published widths. On a CPU one thread of one process alternates
baseline and ours, A B A B; what counts is the median over rounds of the ratio of their CPU seconds,
which other work on the machine hardly moves. Memory is the peak of a process of its own during one
forward pass, less what it held before. On CUDA, by device events: images per second over batch
sizes and the share of a stated roofline that this is, training steps per second. Without arguments
every part that the machine can run, for every model; after torch.compile only when asked for,
because it compiles for minutes.
"""

from __future__ import annotations

import ctypes
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from synthaug.generators.base import PAD_BOX, Layouts, TrainingBatch
from synthaug.generators.lostgan import network as lostgan
from synthaug.generators.lostgan.fast import FastGenerator
from synthaug.generators.training.adversarial import AdversarialTraining
from synthaug.generators.training.adversarial import Config as TrainingConfig
from tests import direct_lostgan

LABELS = 184
ROOFLINE = 790e12  # bfloat16 operations per second of matrix products that an H200 reaches
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
INFERENCE = (
    "\n| generator | batch | form | images/s per core | ratio | largest difference "
    "|\n|---|---|---|---|---|---|"
)
# labels [B, O], boxes [B, O, 4] xyxy, z_image [B, Z], z_objects [B, O, Z]
Given = tuple[Tensor, Tensor, Tensor, Tensor]


def config_of(version: int, resolution: int, joint_pass: bool = False) -> lostgan.Config:
    """The published sizes."""
    embedding = 128 if resolution == 64 else 180
    return lostgan.Config(
        version=version, resolution=resolution, embedding=embedding, joint_pass=joint_pass
    )


def settle(module: torch.nn.Module) -> None:
    """Statistics off their defaults and singular vectors found, as in a trained network."""
    state = module.state_dict()
    rng = torch.Generator().manual_seed(0)
    for key, value in state.items():
        if key.endswith("running_var"):
            value.uniform_(0.5, 1.5, generator=rng)
        elif key.endswith("running_mean"):
            value.normal_(std=0.1, generator=rng)
    module.load_state_dict(direct_lostgan.power_iterated(state))


def network_of(version: int, resolution: int) -> lostgan.LostGanGenerator:
    torch.manual_seed(0)
    network = lostgan.LostGanGenerator(config_of(version, resolution), LABELS).eval()
    settle(network)
    return network


def given_of(batch: int, device: str = "cpu", slots: int = 8) -> Given:
    """Random layouts of 3, 4 ... 8 objects and again from 3."""
    rng = torch.Generator().manual_seed(1)
    size = 0.15 + 0.45 * torch.rand(batch, slots, 2, generator=rng)
    corner = torch.rand(batch, slots, 2, generator=rng) * (1 - size)
    boxes = torch.cat([corner, corner + size], -1)
    labels = torch.randint(1, LABELS, (batch, slots), generator=rng)
    padding = torch.arange(slots) >= 3 + torch.arange(batch)[:, None] % (slots - 2)
    labels[padding] = 0
    boxes[padding] = torch.tensor(PAD_BOX)
    z_image, z_objects = (
        torch.randn(batch, 128, generator=rng),
        torch.randn(batch, slots, 128, generator=rng),
    )
    return labels.to(device), boxes.to(device), z_image.to(device), z_objects.to(device)


def layouts_of(given: Given) -> Layouts:
    return Layouts(given[0], given[1], torch.ones_like(given[1][..., 0]))


def published(given: Given) -> Given:
    """The same with boxes xywh."""
    labels, boxes, z_image, z_objects = given
    return (
        labels,
        torch.cat([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], -1),
        z_image,
        z_objects,
    )


def directly(network: lostgan.LostGanGenerator) -> Callable[[Given], Tensor]:
    """The baseline, with its graph on as published code has it."""
    state = direct_lostgan.trainable(network.state_dict())
    return lambda given: direct_lostgan.generator(
        state, network.config.version, network.config.resolution, *published(given)
    )


def quickly(network: torch.nn.Module) -> Callable[[Given], Tensor]:
    def images(given: Given) -> Tensor:
        with torch.inference_mode():
            out: Tensor = network(layouts_of(given), *given[2:])[0]
        return out

    return images


def alternate(
    calls: Mapping[str, Callable[[], object]], most: int
) -> dict[str, tuple[float, float, float]]:
    """Least CPU seconds of each call.

    Median and standard error of the first call's time over its own.

    Three rounds, and more until every standard error is under a hundredth of its median, or `most`
    are done.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for done in range(1, most + 1):
        for name, call in calls.items():
            began = time.process_time()
            call()
            seconds[name].append(time.process_time() - began)
        first = next(iter(seconds.values()))
        ratios = {
            name: [a / b for a, b in zip(first, own, strict=True)] for name, own in seconds.items()
        }
        found = {
            name: (min(seconds[name]), statistics.median(own), statistics.pstdev(own) / done**0.5)
            for name, own in ratios.items()
        }
        if done >= 3 and all(error < 0.01 * ratio for _, ratio, error in found.values()):
            break
    return found


def wanted(version: int, resolution: int) -> bool:
    """Whether the command line names this model, or none."""
    models = [name for name in sys.argv[1:] if name.startswith("V")]
    return not models or f"V{version}-{resolution}" in models


def inference() -> None:
    print(INFERENCE)
    for version, resolution, batches in (
        (1, 64, (1, 8)),
        (1, 128, (8,)),
        (2, 128, (1, 8)),
        (2, 256, (8,)),
    ):
        if not wanted(version, resolution):
            continue
        network = network_of(version, resolution)
        forms = {"direct": directly(network), "network": quickly(network)}
        forms |= {
            f"fast, {name}": quickly(FastGenerator(network, dtype))
            for name, dtype in PRECISIONS.items()
        }
        for batch in batches:
            compare(f"V{version}-{resolution}", forms, batch)


def compiled() -> None:
    print(INFERENCE)
    for version, resolution in ((1, 64), (2, 128)):
        if not wanted(version, resolution):
            continue
        network = network_of(version, resolution)
        forms = {"direct": directly(network)}
        for name, dtype in PRECISIONS.items():
            forms[f"fast, {name}"] = quickly(FastGenerator(network, dtype))
            forms[f"compiled, {name}"] = quickly(FastGenerator(network, dtype, compiled=True))
        compare(f"V{version}-{resolution}", forms, 8)


def compare(model: str, forms: Mapping[str, Callable[[Given], Tensor]], batch: int) -> None:
    given = given_of(batch)
    expected = forms["direct"](given).detach()
    apart = {name: (form(given) - expected).abs().max().item() for name, form in forms.items()}
    calls = {name: partial(form, given) for name, form in forms.items()}
    for name, (seconds, ratio, error) in alternate(calls, most=15).items():
        speed = f"{batch / seconds:.2f} | {ratio:.2f} ± {error:.2f} | {apart[name]:.0e}"
        print(f"| {model} | {batch} | {name} | {speed} |", flush=True)


def training_of(
    version: int, resolution: int, batch: int, precision: str, joint: bool, device: str = "cpu"
) -> tuple[AdversarialTraining, TrainingBatch, Given]:
    torch.manual_seed(0)
    objective = lostgan.LostGanObjective(config_of(version, resolution, joint), LABELS)
    for network in objective.networks.values():
        settle(network)
        network.to(device)
    given = given_of(batch, device)
    real = (
        torch.rand(batch, 3, resolution, resolution, generator=torch.Generator().manual_seed(2)) * 2
        - 1
    )
    training = AdversarialTraining(
        objective, TrainingConfig(precision=precision), steps=1000, seed=0
    )
    return training, TrainingBatch(real.to(device), layouts_of(given)), given


def training() -> None:
    print("\n| training step | batch | form | seconds per step | ratio |\n|---|---|---|---|---|")
    for version, resolution, size in ((1, 64, 4), (2, 128, 2)):
        if not wanted(version, resolution):
            continue
        loops = {
            f"{precision}{', joint pass' if joint else ''}": training_of(
                version, resolution, size, precision, joint
            )
            for precision in PRECISIONS
            for joint in (False, True)
        }
        loop, batch, given = next(iter(loops.values()))
        states = (loop.modules[name].state_dict() for name in ("G", "D"))
        baseline = direct_lostgan.Training.of(version, resolution, *states)
        calls: dict[str, Callable[[], object]] = {
            "direct": partial(baseline.step, batch.images, *published(given))
        }
        calls |= {name: partial(parts[0].step, 1, parts[1]) for name, parts in loops.items()}
        for call in calls.values():
            call()
        for name, (seconds, ratio, error) in alternate(calls, most=8).items():
            row = f"{name} | {seconds:.2f} | {ratio:.2f} ± {error:.2f}"
            print(f"| V{version}-{resolution} | {size} | {row} |", flush=True)


def resident(key: str) -> int:
    """Bytes of memory this process holds (VmRSS) or held at most (VmHWM)."""
    found = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found.group(1)) * 1024


def peak_of(form: str, version: int, resolution: int, batch: int) -> int:
    """Bytes that one forward pass adds to this process."""
    network = network_of(version, resolution)
    call = (
        directly(network) if form == "direct" else quickly(FastGenerator(network, PRECISIONS[form]))
    )
    given = given_of(batch)
    call(given_of(1))
    ctypes.CDLL("libc.so.6").malloc_trim(
        0
    )  # what construction left free must not serve the pass unseen
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = resident("VmRSS")
    kept = call(given)
    assert torch.isfinite(kept).all()
    return resident("VmHWM") - before


def memory() -> None:
    print(
        "\n| generator, batch 32 | form | peak MB of a forward pass | share of direct "
        "|\n|---|---|---|---|"
    )
    for version, resolution in ((1, 64), (2, 128)):
        if not wanted(version, resolution):
            continue
        peaks = {}
        for form in ("direct", *PRECISIONS):
            child = [
                sys.executable,
                "-m",
                "benchmarks.lostgan_speed",
                "peak",
                form,
                str(version),
                str(resolution),
                "32",
            ]
            peaks[form] = int(
                subprocess.run(child, check=True, capture_output=True, text=True).stdout
            )
            name = form if form == "direct" else f"fast, {form}"
            share = peaks[form] / peaks["direct"]
            print(
                f"| V{version}-{resolution} | {name} | {peaks[form] / 1e6:.0f} | {share:.2f} |",
                flush=True,
            )


def cuda() -> None:
    """Without torch.compile, unless `compiled` is asked for too."""
    from benchmarks.cuda_timing import about, heading, milliseconds, peak_bytes, row, tried

    print(f"{about()}; roofline {ROOFLINE / 1e12:.0f} TFLOP/s in bfloat16")
    heading(
        "generator",
        "batch",
        "form",
        "images/s",
        "times direct",
        "of the roofline",
        "MB at most",
        "difference",
    )
    for version, resolution in ((2, 128), (2, 256)):
        network = network_of(version, resolution).cuda()
        forms = {"direct": directly(network), "network": quickly(network)}
        forms |= {
            f"fast, {name}": quickly(FastGenerator(network, dtype))
            for name, dtype in PRECISIONS.items()
        }
        if "compiled" in sys.argv:
            forms["fast, bfloat16, compiled"] = quickly(
                FastGenerator(network, torch.bfloat16, compiled=True)
            )
        for batch in (1, 8, 32, 128):
            given = given_of(batch, "cuda")
            with FlopCounterMode(display=False) as counter:
                forms["fast, bfloat16"](given)
            exact = forms["network"](given)
            calls = {name: partial(form, given) for name, form in forms.items()}
            if batch * resolution > 32 * 256:
                calls.pop("direct")  # its maps have an object, a channel and two pixel axes
            times = tried(calls, partial(milliseconds, seconds=0.3, most=20))
            peaks = tried(calls, peak_bytes)
            for name, time_ in times.items():
                used = counter.get_total_flops() / (1e-3 * time_) / ROOFLINE
                apart = (forms[name](given) - exact).abs().max().item()
                cells = (
                    f"{1e3 * batch / time_:.0f}",
                    f"{times.get('direct', float('nan')) / time_:.2f}",
                    f"{used:.1%}",
                )
                row(
                    f"V{version}-{resolution}",
                    batch,
                    name,
                    *cells,
                    f"{peaks[name] / 1e6:.0f}",
                    f"{apart:.0e}",
                )
    heading("training", "batch", "precision", "steps/s", "images/s", "MB at most")
    for version, resolution, batch in ((1, 64, 128), (2, 128, 32), (2, 256, 16)):
        for precision in PRECISIONS:
            loop, real, _ = training_of(
                version, resolution, batch, precision, joint=True, device="cuda"
            )
            calls = {precision: partial(loop.step, 1, real)}
            speed = 1e3 / tried(calls, partial(milliseconds, seconds=0.6, most=10))[precision]
            peak = tried(calls, peak_bytes)[precision]
            model = f"V{version}-{resolution}"
            row(
                model, batch, precision, f"{speed:.2f}", f"{speed * batch:.0f}", f"{peak / 1e6:.0f}"
            )
            del loop, real, calls


def main() -> None:
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["peak"]:
        print(peak_of(sys.argv[2], *map(int, sys.argv[3:])))
        return
    parts = {
        "inference": inference,
        "compiled": compiled,
        "training": training,
        "memory": memory,
        "cuda": cuda,
    }
    given = [name for name in sys.argv[1:] if name in parts]
    for name in given or [
        "inference",
        "training",
        "memory",
        *(["cuda"] if torch.cuda.is_available() else []),
    ]:
        parts[name]()


if __name__ == "__main__":
    main()
