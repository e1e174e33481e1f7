"""Published network weights: which there are, where, and how they are read.

Without trusting them. Nothing is ever downloaded. A file counts only under its published name and
with the sha256 that this name carries (its last eight hex digits are the first of the digest), so
that a number under a published name comes from the published network.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from synthaug.pipeline.core.errors import first_line

if TYPE_CHECKING:
    from torch import Tensor

WHERE = "score.weights"  # the job key that names the folder


@dataclass(frozen=True)
class Published:
    """One file of weights as its authors publish it."""

    file: str
    network: str  # what it is, for people
    megabytes: int

    @property
    def digest(self) -> str:
        """The first eight hex digits of its sha256, which its name ends with."""
        return Path(self.file).stem.rsplit("-", 1)[-1]


FILES = {
    "inception": Published(
        "weights-inception-2015-12-05-6726825d.pth",
        "Inception v3 of 2015-12-05 (TensorFlow), as torch-fidelity has it",
        91,
    ),
    "alexnet": Published(
        "alexnet-owt-7be5be79.pth", "AlexNet (one weird trick), ImageNet, torchvision", 233
    ),
    "vgg16": Published("vgg16-397923af.pth", "VGG-16, ImageNet, torchvision", 528),
}


@dataclass(frozen=True)
class Found:
    """The state of a file of weights.

    `reason` is None when it is usable, or one line that says what is wrong and what to do.
    """

    path: Path | None
    sha256: str = ""
    reason: str | None = None


def find(folder: Path | None, name: str) -> Found:
    """Find the file of network `name` (a key of FILES) in a folder.

    Never raises for what a user can get wrong.
    """
    wanted = FILES[name]
    if folder is None:
        return Found(
            None, reason=f"{WHERE} names no folder; put {wanted.file} into one and give its path"
        )
    path = folder / wanted.file
    try:
        entry = path.stat()
        digest = file_sha256(path, entry.st_mtime_ns, entry.st_size)
    except FileNotFoundError:
        return Found(
            None,
            reason=f"{WHERE}: there is no {wanted.file} in '{folder}'; put it there "
            "(docs/weights.md)",
        )
    except OSError as err:
        return Found(
            None,
            reason=f"{path}: cannot be read ({err.strerror}); correct {WHERE} or the file's rights",
        )
    if not digest.startswith(wanted.digest):
        problem = f"its sha256 begins with {digest[:8]}, the published file's with {wanted.digest}"
        return Found(path, digest, f"{path}: {problem}; it is damaged or another file, get it anew")
    return Found(path, digest)


@functools.lru_cache(16)
def file_sha256(path: Path, _changed: int, _size: int) -> str:
    """Return a file's sha256, read again when the file has changed.

    Half a gigabyte takes a second.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(folder: Path | None, name: str) -> tuple[dict[str, Tensor], str]:
    """Return the tensors of a published network and the file's sha256.

    ValueError, one line, when it cannot be used.
    """
    found = find(folder, name)
    if found.reason or not found.path:
        raise ValueError(found.reason)
    return read_tensors(found.path), found.sha256


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a .pth or .safetensors file; nothing in it is executed.

    Raises ValueError, one line, when it holds anything else.
    """
    import torch
    from safetensors.torch import load_file

    from synthaug.published.files import UNREADABLE, stand_in

    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as err:
        reason = stand_in(path) or first_line(err)
        raise ValueError(f"{path}: is no file of weights ({reason}); get it anew") from err
    if not isinstance(state, dict) or not all(
        isinstance(value, torch.Tensor) for value in state.values()
    ):
        raise ValueError(f"{path}: does not hold the named tensors of a network; get it anew")
    return {str(key): value for key, value in state.items()}
