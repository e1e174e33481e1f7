"""Hostile job files and checkpoints, written for no program in particular, adapted to this one.

A job keeps its damage and gets our keys in place of its own; what its manifest wants named is then
called as here. A checkpoint whose manifest says how a good one was changed is made anew: the same
change to a small LostGAN.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from synthaug.generators import load_system
from synthaug.generators import official as importing
from synthaug.generators.lostgan import Config
from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.core.errors import SynthaugError, printable
from synthaug.pipeline.run import Console, check

OURS = {  # their key -> ours
    "epochs": "steps",
    "batch_size": "batch",
    "output_dir": "output",
    "model": "generator",
    "train": "detector",
    "filter": "pseudo_label",
    "task": "checks",
    "detection": "report",
    "annotations": "labelled",
}
DATA = re.compile(
    r"data:\n  format: (?P<format>.*)\n"
    r"(  images: (?P<images>.*)\n)?(  annotations: (?P<file>.*)\n)?"
)
# what a small set needs beside the job itself
REST = (
    "defaults: [base, _self_]\n",
    "  validation: coco:../_base/annotations.json?images=../_base/images\n  unlabelled: ''\n"
    "  leaks: report\n",
)


def adapted_job(data: bytes) -> bytes:
    """Return a job file with our keys; bytes that are none of theirs stay."""
    text = data.decode("latin-1")
    is_bare = "train" not in text and "data:" not in text and '"data"' not in text
    if is_bare:
        return data
    if text.lstrip("\xef\xbb\xbf").lstrip().startswith("{"):
        return json.dumps(_adapted_tree(json.loads(data.decode("utf-8-sig")))).encode()
    mark = ""
    for known in ("\xef\xbb\xbf",):
        if text.startswith(known):
            mark, text = known, text.removeprefix(known)
    end = "\r\n" if "\r\n" in text else "\n"
    text = text.replace(end, "\n")
    text = re.sub(r"^name: tiny$", "", text)
    text = re.sub(r"(?m)^(\s+)name: (.*)$", r"\1system: \2", text)
    text = text.replace("system: tiny", "system: lostgan")
    text = re.sub(r"(?m)^\s+checkpoint: null\n", "", text)
    seed = re.search(r"(?m)^\s+seed: (.*)\n", text)
    if seed:
        text = text.replace(seed[0], "")
        text = f"seed: {seed[1]}\n{text}"
    text = DATA.sub(_data_section, text)
    for theirs, ours in OURS.items():
        text = re.sub(rf"(?<![/\w.-]){theirs}(?![\w./])", ours, text)
    text = text.replace("${detector.nothing}", "${train.nothing}")
    return f"{mark}{REST[0]}{text}".replace("\n", end).encode("latin-1")


def _data_section(match: re.Match[str]) -> str:
    if match["file"] is None:
        return f"data:\n  root: .\n{REST[1]}"
    reference = f"{match['format']}:{match['file']}?images={match['images']}"
    return f"data:\n  root: .\n  labelled: {reference}\n{REST[1]}"


def _adapted_tree(job: dict[str, Any]) -> dict[str, Any]:
    """Return a job that was JSON with our keys."""
    data, train = job.pop("data"), job.pop("train")
    base = "coco:../_base/annotations.json?images=../_base/images"
    return {
        "defaults": ["base", "_self_"],
        "name": job["name"],
        "seed": train.pop("seed"),
        "data": {
            "root": ".",
            "labelled": base,
            "validation": base,
            "unlabelled": "",
            "leaks": "report",
        },
        "detector": {"steps": train["epochs"], "batch": train["batch_size"], "lr": train["lr"]},
        "generator": {"system": "lostgan", "resolution": 256},
        "pseudo_label": job["filter"],
        "output": job["output_dir"],
        "checks": "report" if data else "stop",
    }


def words(case: dict[str, Any]) -> list[str]:
    """Return what a message must hold, in our words."""
    return [OURS.get(word, word) for word in case["must_mention"]]


def checked_job(file: Path) -> dict[str, Any]:
    """Return what a dry run of a job says."""
    told: dict[str, Any] = {"exit": 0, "lines": [], "clean": True}
    try:
        job = load_job(file, [], None, told["lines"].append)
        check(job, Console(told["lines"].append, lambda *_: None))
        told["lines"].append(printable(job.to_yaml()))
    except SynthaugError as err:
        told |= {"exit": err.exit_code}
        told["lines"] = [printable(str(err))]
    return told


# --- checkpoints ---

State = dict[str, Any]


def good_state() -> State:
    """Return the state of a small LostGAN."""
    torch.manual_seed(0)
    sizes = {"width": 1, "z_image": 2, "z_object": 2, "embedding": 2, "mask_hidden": 2}
    network = load_system("lostgan").build(Config(resolution=64, **sizes), 2)
    return {name: value.clone() for name, value in network.state_dict().items()}


def places(state: State) -> dict[str, str]:
    """Return a matrix, a convolution's weight and a bias by the names of the neutral checkpoint."""
    found: dict[str, str] = {}
    for name, value in state.items():
        if value.ndim == 2 and name.startswith("fc.weight"):
            found.setdefault("head.weight", name)
        if value.ndim == 4:
            found.setdefault("conv1.weight", name)
        if value.ndim == 1 and name.endswith("bias"):
            found.setdefault("conv1.bias", name)
    return found


def _set(name: str, value: Callable[[Any], Any]) -> Callable[[State], None]:
    def change(state: State) -> None:
        key = places(state)[name]
        state[key] = value(state[key])

    return change


def _with_one(number: float) -> Callable[[Any], Any]:
    def change(tensor: Any) -> Any:
        tensor = tensor.clone()
        tensor.view(-1)[0] = number
        return tensor

    return change


def _renamed(state: State) -> None:
    for name in list(state):
        state[f"module.{name}"] = state.pop(name)


def _all_nan(state: State) -> None:
    for name, value in state.items():
        if value.is_floating_point():
            state[name] = torch.full_like(value, float("nan"))


CHANGES: dict[str, Callable[[State], None]] = {
    "ckpt_wrong_shape": _set("head.weight", lambda t: torch.cat([t, t[:1]])),
    "ckpt_transposed": _set("head.weight", lambda t: t.t().contiguous()),
    "ckpt_missing_key": lambda state: state.pop(places(state)["conv1.weight"]),
    "ckpt_unexpected_key": lambda state: state.update({"evil.weight": torch.zeros(2)}),
    "ckpt_prefix_module": _renamed,
    "ckpt_nan": _set("head.weight", _with_one(float("nan"))),
    "ckpt_all_nan": _all_nan,
    "ckpt_inf": _set("conv1.bias", _with_one(float("inf"))),
    "ckpt_wrong_dtype": _set("conv1.weight", lambda t: t.to(torch.int64)),
    "ckpt_not_tensor": _set("conv1.weight", lambda _: "no tensor"),
    "ckpt_empty_dict": lambda state: state.clear(),
    "st_nan": _set("head.weight", _with_one(float("nan"))),
}


def adapt_checkpoint(case: dict[str, Any], folder: Path) -> list[str]:
    """Make the case's file anew where it is a change of a good one; returns what must be named."""
    change = CHANGES.get(case["name"])
    if change is None:
        return list(case["must_mention"])
    state = good_state()
    ours = places(state)
    change(state)
    file = folder / case["entry"]
    if file.suffix == ".safetensors":
        save_file(state, file)
    else:
        torch.save(state, file)
    return [ours.get(word, "finite" if word == "nan" else word) for word in case["must_mention"]]


def imported(file: Path) -> dict[str, Any]:
    """Return what `import-checkpoint` says of a file."""
    told: dict[str, Any] = {"exit": 0, "lines": [], "clean": True}
    try:
        found = importing.read(file)
        names = importing.class_names((), found.found.labels)
        importing.write(found, names, file.with_name("imported.safetensors"))
        told["lines"] = [str(found), *found.notes]
    except ValueError as err:
        told |= {"exit": 2, "lines": [printable(str(err))]}
    return told
