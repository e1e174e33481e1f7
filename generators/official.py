"""Import of official checkpoints.

Find out whose weights a file holds, check them key by key, and write them as ours.

Nothing in a file is executed: torch files are read with `weights_only=True`, safetensors files and
TensorFlow's checkpoints hold numbers only. Every system whose published files can be read has a
module in OFFICIAL with
`recognise(state, background) -> Found | None`.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import pickle
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from synthaug.generators import checkpoint
from synthaug.published import tensor_bundle
from synthaug.published.files import UNREADABLE, stand_in

State = dict[str, Tensor]

OFFICIAL = {
    "lostgan": "synthaug.generators.lostgan.official",
    "sg2im": "synthaug.generators.sg2im.official",
    "layout2im": "synthaug.generators.layout2im.official",
    "grid2im": "synthaug.generators.grid2im.official",
    "spade": "synthaug.generators.spade.official",
    "pix2pix": "synthaug.generators.pix2pix.official",
    "pix2pix_maps": "synthaug.generators.pix2pix.official_maps",
    "crn": "synthaug.generators.crn.official",
}

HOLDERS = ("state_dict", "model", "model_state")  # where training scripts put the state dict
WRAPPERS = (
    "module.",
    "obD.",
    "discriminator.",
)  # what data parallelism and the published discriminators' wrappers put before every key
# spectral norm under the names of torch's newer interface
NEWER = re.compile(r"^(.*)\.parametrizations\.weight\.(original|0\._u|0\._v)$")
OLDER = {"original": "weight_orig", "0._u": "weight_u", "0._v": "weight_v"}


@dataclass(frozen=True)
class Found:
    """What a system's module saw in the keys and shapes of a state dict."""

    kind: str  # generator | discriminator | encoder
    config: Any  # the system's Config
    labels: int  # label rows; row 0 is the background
    title: str  # e.g. "LostGAN version 2 at 128 pixels, width 64, 184 label rows"
    network: nn.Module  # without numbers, on the meta device
    unused: re.Pattern[str] | None = None  # keys that published files hold and no network reads
    hint: str = ""  # what the shapes cannot tell and the user may have to
    # brings published names and shapes to those of the network; None where they are the same
    convert: Callable[[State], State] | None = None


@dataclass(frozen=True)
class Imported:
    """A network with the numbers of an official file."""

    source: Path
    system: str
    found: Found
    network: nn.Module
    notes: tuple[str, ...]  # what was passed over, recomputed or converted: one sentence each

    def __str__(self) -> str:
        """Return one line: what it is and how large."""
        count = sum(p.numel() for p in self.network.parameters())
        return f"{self.found.title}: {self.found.kind}, {count / 1e6:.1f} M parameters"


def read(path: Path, background: bool = False) -> Imported:
    """Read an official network.

    `background`: it was trained with a whole-image object of label 0.

    Raises ValueError, one line that names the file and the key, when the file is none or not
    complete.
    """
    tensors = _without_wrappers(_tensors(path))
    try:
        state, notes = _with_our_names(tensors)
        system, found = _recognised(state, background)
        state, passed_over = _without_unused(state, found.unused)
        if found.convert is not None:
            state = found.convert(state)
        fitting, converted = _fitted(state, found.network.state_dict())
    except ValueError as err:
        raise ValueError(f"{path}: {err}") from err
    found.network.load_state_dict(fitting, strict=True, assign=True)
    hint = (found.hint,) if found.hint else ()
    all_notes = (*notes, *passed_over, *converted, *hint)
    return Imported(path, system, found, found.network, all_notes)


def write(imported: Imported, classes: list[str], out: Path) -> bool:
    """Write our checkpoint, whole or not at all.

    False when the same file is there already.

    Raises ValueError when another file is there, or when there are not as many class names as label
    rows without row 0.
    """
    if len(classes) != imported.found.labels - 1:
        raise ValueError(
            f"{len(classes)} class names for {imported.found.labels} label rows; give one per row "
            "but row 0"
        )
    digest = _digest(imported.source)
    source = {"file": imported.source.name, "sha256": digest}
    partial = out.with_name(f"{out.name}.{os.getpid()}.partial")
    found = imported.found
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial.touch()
        mode = partial.stat().st_mode  # safetensors would leave a file that only its owner may read
        checkpoint.save(
            partial,
            imported.network,
            imported.system,
            found.config,
            classes,
            {"source": source},
            found.kind,
        )
        partial.chmod(mode)
        if not out.exists():
            partial.replace(out)
            return True
        if _digest(out) != _digest(partial):
            raise ValueError(
                f"{out}: is there already and is another file; move it away or give another --out"
            )
        return False
    except (OSError, SafetensorError) as err:
        raise ValueError(f"{out}: cannot be written ({_line(err)}); give another --out") from err
    finally:
        partial.unlink(missing_ok=True)


def class_names(files: Sequence[Path], labels: int) -> list[str]:
    """Return the names of label rows 1 .. labels - 1.

    From files, or "class 1", "class 2", ... without any.

    A file holds one name per line, a JSON list of names, the vocabulary of Visual Genome, or COCO
    annotations, whose category ids are the rows; rows without a category are called "row 12".
    COCO-Stuff has its things and its stuff in two files: only such files may be combined. Raises
    ValueError, one line that names the file.
    """
    if not files:
        return [f"class {row}" for row in range(1, labels)]
    names: dict[int, str] = {}
    for path in files:
        for row, name in _rows(path, labels, alone=len(files) == 1):
            if not 1 <= row < labels:
                raise ValueError(
                    f"{path}: category id {row} ('{name}') is not one of the label rows 1 to "
                    f"{labels - 1}"
                )
            if names.setdefault(row, name) != name:
                raise ValueError(
                    f"{path}: category id {row} is both '{names[row]}' and '{name}'; give each id "
                    "one name"
                )
    named = [names.get(row, f"row {row}") for row in range(1, labels)]
    counts = Counter(named)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise ValueError(
            f"{files[0]}: '{twice[0]}' names more than one row; class names must differ"
        )
    return named


def _rows(path: Path, labels: int, alone: bool) -> Iterable[tuple[int, str]]:
    """(row, name) pairs of one file of class names."""
    try:
        text = path.read_text(encoding="utf-8-sig").strip()
        content = (
            json.loads(text)
            if text[:1] in ("[", "{")
            else [line.strip() for line in text.splitlines()]
        )
    except (OSError, ValueError, RecursionError) as err:
        raise ValueError(
            f"{path}: no readable class names ({_line(err)}); give one name per line, or JSON"
        ) from err
    if isinstance(content, dict) and isinstance(content.get("categories"), list):
        return [_category(record, path) for record in content["categories"]]
    if not alone:
        raise ValueError(
            f"{path}: no COCO annotations; only these can be combined with other files"
        )
    rows = content.get("object_idx_to_name") if isinstance(content, dict) else content
    if not isinstance(rows, list) or not all(isinstance(name, str) and name for name in rows):
        raise ValueError(
            f"{path}: no list of names; give one name per line, a JSON list or COCO annotations"
        )
    if len(rows) == labels and rows[0].startswith(
        "__"
    ):  # row 0 written out, "__image__" or "__background__"
        rows = rows[1:]
    if len(rows) != labels - 1:
        raise ValueError(
            f"{path}: {len(rows)} names for the label rows 1 to {labels - 1}; give {labels - 1}"
        )
    return enumerate(rows, start=1)


def _category(record: Any, path: Path) -> tuple[int, str]:
    row = name = None
    if isinstance(record, dict):
        row = record.get("id")
        name = record.get("name")
    if type(row) is not int or not isinstance(name, str) or not name:
        raise ValueError(f"{path}: a category has no whole id or no name; give COCO annotations")
    return row, name


def vote(state: Mapping[str, Tensor], default: int, *places: tuple[str, int]) -> int:
    """Return the size that most of these (key, axis) have.

    So that one misshapen tensor is later named as the odd one.

    Of sizes with equal votes `default` wins, then the first. ValueError names the first key when
    all are absent.
    """
    sizes = [
        state[key].shape[axis] for key, axis in places if key in state and axis < state[key].ndim
    ]
    if not sizes:
        what = "has no usable" if any(key in state for key, _ in places) else "lacks"
        raise ValueError(f"{what} '{places[0][0]}'; it is no complete checkpoint")
    votes = Counter(sizes)
    highest = max(votes.values())
    most = [size for size, count in votes.items() if count == highest]
    return default if default in most else most[0]


def _tensors(path: Path) -> State:
    """Every tensor of a file by name."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file; check the path")
    instead = stand_in(path)
    if instead:
        raise ValueError(f"{path}: no checkpoint ({instead})")
    if path.suffix == ".safetensors":
        return _safe_tensors(path)
    if path.suffix == tensor_bundle.INDEX:
        return tensor_bundle.read(path)
    try:
        with warnings.catch_warnings(
            action="ignore"
        ):  # about archives that are then refused in one line
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as err:
        reason = "it is damaged or holds Python objects, which are not executed"
        raise ValueError(
            f"{path}: no checkpoint of weights alone ({reason}); save its state dict"
        ) from err
    except (*UNREADABLE, AssertionError, ArithmeticError, MemoryError, NotImplementedError) as err:
        raise ValueError(
            f"{path}: no readable checkpoint ({_line(err)}); download it again"
        ) from err
    for key in HOLDERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise ValueError(
            f"{path}: holds no state dict; give one, also under 'state_dict' or 'model'"
        )
    for key, value in content.items():
        if not isinstance(value, Tensor) or value.is_meta or value.layout != torch.strided:
            raise ValueError(f"{path}: '{key}' is no plain tensor; give a state dict")
    return {str(key): value for key, value in content.items()}


def _safe_tensors(path: Path) -> State:
    try:
        with safe_open(path, "pt") as file:
            if checkpoint.HEADER in (file.metadata() or {}):
                raise ValueError(f"{path}: is a checkpoint of synthaug already; use it as it is")
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (the handle is no mapping)
    except (SafetensorError, OSError) as err:
        raise ValueError(
            f"{path}: no readable safetensors file ({_line(err)}); download it again"
        ) from err


def _without_wrappers(state: State) -> State:
    """Take off what stands before every single key."""
    wrapper = _wrapper_of(state)
    while wrapper:
        state = {key.removeprefix(wrapper): value for key, value in state.items()}
        wrapper = _wrapper_of(state)
    return state


def _wrapper_of(state: State) -> str:
    if not state:
        return ""
    for wrapper in WRAPPERS:
        if all(key.startswith(wrapper) for key in state):
            return wrapper
    return ""


def _with_our_names(state: State) -> tuple[State, list[str]]:
    """Bring every spelling of a spectral norm to `weight_orig`, `_u` and `_v`."""
    renamed: State = {}
    for key, value in state.items():
        name = key
        if match := NEWER.match(key):
            name = f"{match[1]}.{OLDER[match[2]]}"
        if name in renamed:
            raise ValueError(
                f"has '{name}' twice, under the names of two interfaces; it is no plain checkpoint"
            )
        renamed[name] = value
    lacking = []
    for key in renamed:
        stem = key.removesuffix("orig")
        if key.endswith("weight_orig") and f"{stem}v" not in renamed:
            lacking.append(stem)
    done = []
    for stem in lacking:
        weight = renamed[f"{stem}orig"]
        u = renamed.get(f"{stem}u")
        if (
            u is None
            or not weight.ndim
            or u.shape != weight.shape[:1]
            or not weight.is_floating_point()
        ):
            continue  # it will be named as lacking or misshapen
        back = weight.double().flatten(1).t() @ u.double()
        renamed[f"{stem}v"] = F.normalize(back, dim=0)
        # files that old hold the normalised weight as well
        renamed.pop(stem.removesuffix("_"), None)
        done.append(stem)
    notes = []
    if done:
        notes.append(f"recomputed {len(done)} weight_v, which the file lacks")
    return renamed, notes


def _recognised(state: State, background: bool) -> tuple[str, Found]:
    for system, module in OFFICIAL.items():
        recognise = importlib.import_module(module).recognise
        found: Found | None = recognise(state, background)
        if found is not None:
            return system, found
    first_keys = list(state)[:2]
    some = ", ".join(f"'{key}'" for key in first_keys)
    raise ValueError(
        f"is none of the known systems ({', '.join(OFFICIAL)}) by its keys, e.g. {some}; check the "
        "file"
    )


def _without_unused(state: State, unused: re.Pattern[str] | None) -> tuple[State, list[str]]:
    extra = []
    if unused is not None:
        extra = [key for key in state if unused.fullmatch(key)]
    kept = {key: value for key, value in state.items() if key not in extra}
    notes = []
    if extra:
        notes.append(f"ignored {len(extra)} buffers that no network reads, e.g. '{extra[0]}'")
    return kept, notes


def _fitted(state: State, wanted: Mapping[str, Tensor]) -> tuple[State, list[str]]:
    """The state in the network's own types.

    ValueError names the first key that is missing, extra or misshapen.
    """
    fitted: State = {}
    for name, value in wanted.items():
        if name not in state:
            raise ValueError(f"lacks '{name}'; it is no complete checkpoint of this model")
        given = state[name].detach()
        if given.shape != value.shape:
            shapes = f"{list(given.shape)}, not {list(value.shape)}"
            raise ValueError(f"'{name}' is {shapes}; it is a checkpoint of another model")
        if given.is_complex() or given.is_floating_point() != value.is_floating_point():
            raise ValueError(
                f"'{name}' holds {given.dtype}, not {value.dtype}; it is a checkpoint of another "
                "model"
            )
        converted = given.to(value.dtype)
        fitted[name] = converted.contiguous().clone()
        if not torch.isfinite(fitted[name]).all():
            raise ValueError(f"'{name}' holds values that are not finite; download the file again")
    for name in state:
        if name not in wanted:
            raise ValueError(
                f"has '{name}', which this model does not have; it is a checkpoint of another model"
            )
    types = set()
    for name, value in wanted.items():
        if value.is_floating_point() and state[name].dtype != torch.float32:
            types.add(str(state[name].dtype))
    notes = []
    if types:
        notes.append(f"converted {', '.join(sorted(types))} to float32")
    return fitted, notes


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _line(err: BaseException) -> str:
    """First line of an error's text, short."""
    text = str(err).strip() or type(err).__name__
    return text.splitlines()[0][:120]
