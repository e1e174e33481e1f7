"""What the LostGAN fixtures share.

Reading them, weights through the import, and a view into a running network.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from synthaug.generators import official as importing
from synthaug.generators.base import Layouts
from tests.parity.comparison import Array, Row, compare, compare_each
from tests.parity.weights import Keys, read_keys, rebuild

RULES = {"A": 0, "B": 20}  # rounds of the power method
RULE_MARK = re.compile(r"^rule[._-]?[AB][._-]|[._-]?rule[._-]?[AB]$", re.IGNORECASE)
SAMPLES = 64


@dataclass(frozen=True)
class Fixture:
    """One .npz file and the folder with its partners."""

    folder: Path
    name: str
    arrays: dict[str, Array]

    def keys(self) -> Keys:
        """Read the key names of its network; a rule A file shares those of the rule B file."""
        for name in (self.name, RULE_MARK.sub("", self.name)):
            path = self.folder / f"{name}.keys.json"
            if path.is_file():
                return read_keys(path)
        raise FileNotFoundError(
            f"{self.name}.keys.json is missing, so its weights cannot be rebuilt"
        )

    def network(self, keys: Keys) -> tuple[importing.Imported, dict[str, Tensor]]:
        """Rebuild the weights by the file's rule and take them through an official-style file and
        its import.
        """
        rule = str(self.arrays.get("rule", np.array(["B"])).ravel()[0])
        if rule not in RULES:
            raise ValueError(f"rule '{rule}' is not one of {', '.join(RULES)}")
        state = rebuild(keys, RULES[rule])
        return through_a_file(state), state

    def layouts(self) -> Layouts:
        """Return the recorded xywh boxes as a batch of layouts."""
        xywh = torch.from_numpy(self.arrays["boxes_xywh"]).float()
        boxes = torch.cat([xywh[..., :2], xywh[..., :2] + xywh[..., 2:]], -1)
        labels = torch.from_numpy(self.arrays["labels"]).view(boxes.shape[:2])
        return Layouts(labels, boxes, torch.ones(labels.shape))


def through_a_file(state: dict[str, Tensor]) -> importing.Imported:
    """Save a state dict as the published training scripts do and import it.

    Generators get DataParallel's prefix.
    """
    prefix = "" if all(key.startswith("obD.") for key in state) else "module."
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "official.pth"
        torch.save({f"{prefix}{key}": value for key, value in state.items()}, path)
        return importing.read(path)


def sigma_row(fixture: Fixture, state: dict[str, Tensor], tolerance: float) -> list[Row]:
    """Compare the spectral norms of the rebuilt weights with the recorded ones.

    A check of the fill itself.
    """
    if "sn_keys" not in fixture.arrays or "sn_sigma" not in fixture.arrays:
        return []
    sigmas = []
    for key in fixture.arrays["sn_keys"].tolist():
        stem = key.removesuffix("orig")
        weight, u, v = (state[f"{stem}{part}"].double() for part in ("orig", "u", "v"))
        sigmas.append(float(u @ (weight.flatten(1) @ v)))
    return [
        compare(fixture.name, "sn_sigma", fixture.arrays["sn_sigma"], np.array(sigmas), tolerance)
    ]


class Trace:
    """The mean, spread, maximum and samples of what passes through a network's modules, by the
    names of the fixtures.

    `X.out` is the output of module X, `X.in_mask` the mask stack it is given, `X.out_masklogits`
    what its mask head makes. A module that runs more than once has several entries, in order. Used
    as a context.
    """

    def __init__(self, network: nn.Module, wanted: list[str], prefix: str = "") -> None:
        self.prefix = prefix
        self.seen: dict[str, list[tuple[Array, Array]]] = {}
        self.modules = dict(network.named_modules())
        self.handles: list[RemovableHandle] = []
        self.wanted = list(dict.fromkeys(wanted))
        self.changes: dict[str, Callable[[Tensor], Tensor]] = {}

    def __enter__(self) -> Trace:
        for name in self.wanted:
            module, _, what = name.removeprefix(self.prefix).rpartition(".")
            module, what = (
                (f"{module}.conv_mask", "out") if what == "out_masklogits" else (module, what)
            )
            if module not in self.modules:
                continue
            if what == "out":
                self.handles.append(self.modules[module].register_forward_hook(self._after(name)))
            elif what == "in_mask":
                self.handles.append(
                    self.modules[module].register_forward_pre_hook(self._before(name))
                )
        return self

    def __exit__(self, *_error: object) -> None:
        for handle in self.handles:
            handle.remove()

    def note(self, name: str, value: Tensor) -> None:
        """Keep the summary of a tensor under a name."""
        flat = self.changes.get(name, lambda x: x)(value.detach()).reshape(-1).double().numpy()
        places = np.floor(np.linspace(0, flat.size - 1, SAMPLES)).astype(np.int64)
        stats = np.array([flat.mean(), flat.std(), np.abs(flat).max()])
        self.seen.setdefault(name, []).append((stats, flat[places]))

    def rows(self, fixture: Fixture, suffix: str, tolerance: float) -> list[Row]:
        """Compare with `trace_stats<suffix>` and `trace_samples<suffix>`.

        Tensors we do not have are counted and named.
        """
        names = fixture.arrays[f"trace_names{suffix}"].tolist()
        counts: dict[str, int] = {}
        pairs, absent = [], []
        for place, name in enumerate(names):
            turn = counts.get(name, 0)
            counts[name] = turn + 1
            if turn < len(self.seen.get(name, [])):
                pairs.append((name, place, self.seen[name][turn]))
            else:
                absent.append(name)
        left = f"not compared, no such tensor here: {', '.join(absent)}" if absent else ""
        rows = []
        for part, kind in enumerate((f"trace_stats{suffix}", f"trace_samples{suffix}")):
            if kind not in fixture.arrays:
                continue
            recorded = fixture.arrays[kind]
            if not pairs:
                rows.append(Row(fixture.name, kind, detail=left))
                continue
            parts = [(name, recorded[place], made[part]) for name, place, made in pairs]
            rows.append(compare_each(fixture.name, kind, parts, tolerance, left))
        return rows

    def _after(self, name: str) -> Any:
        return lambda _module, _inputs, output: self.note(name, output)

    def _before(self, name: str) -> Any:
        return lambda _module, inputs: self.note(name, inputs[1])
