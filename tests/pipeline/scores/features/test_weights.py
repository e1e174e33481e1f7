"""Files of weights: absent, damaged, foreign, hostile."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from synthaug.pipeline.scores.features import weights
from synthaug.pipeline.scores.features.weights import FILES, Published, find, read


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small published file, `tiny`, in order."""
    torch.save({"a": torch.ones(2)}, tmp_path / "new.pth")
    digest = hashlib.sha256((tmp_path / "new.pth").read_bytes()).hexdigest()
    (tmp_path / "new.pth").rename(tmp_path / f"tiny-{digest[:8]}.pth")
    monkeypatch.setitem(weights.FILES, "tiny", Published(f"tiny-{digest[:8]}.pth", "a test's", 1))
    return tmp_path


def test_a_file_in_order(small: Path) -> None:
    state, digest = read(small, "tiny")
    assert state["a"].tolist() == [1, 1]
    assert len(digest) == 64
    assert find(small, "tiny").reason is None


def test_names_end_with_their_digest() -> None:
    for entry in FILES.values():
        assert len(entry.digest) == 8
        assert int(entry.digest, 16) >= 0


@pytest.mark.parametrize(
    ("folder", "says"),
    [(None, "score.weights names no folder"), (Path("/nowhere"), "there is no weights-inception")],
)
def test_what_is_not_there(folder: Path | None, says: str) -> None:
    assert says in (find(folder, "inception").reason or "")
    with pytest.raises(ValueError, match=says):
        read(folder, "inception")


def test_a_damaged_file(small: Path) -> None:
    """One bit is enough."""
    path = small / FILES["tiny"].file
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    found = find(small, "tiny")
    assert "its sha256 begins with" in (found.reason or "")
    assert "\n" not in (found.reason or "")


def test_a_folder_in_its_place(small: Path) -> None:
    path = small / FILES["tiny"].file
    path.unlink()
    path.mkdir()
    assert "cannot be read" in (find(small, "tiny").reason or "")


def test_a_hostile_file_is_refused_and_not_run(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even one with the right digest."""
    mark = small / "ran"

    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(mark),)

    data = pickle.dumps({"a": Evil()})
    name = f"evil-{hashlib.sha256(data).hexdigest()[:8]}.pth"
    (small / name).write_bytes(data)
    monkeypatch.setitem(weights.FILES, "evil", Published(name, "a test's", 1))
    with pytest.raises(ValueError, match="is no file of weights"):
        read(small, "evil")
    assert not mark.exists()


@pytest.mark.parametrize("content", [[1, 2], {"a": 3}])
def test_other_contents_are_refused(
    small: Path, monkeypatch: pytest.MonkeyPatch, content: Any
) -> None:
    torch.save(content, small / "x.pth")
    with pytest.raises(ValueError, match="does not hold the named tensors"):
        weights.read_tensors(small / "x.pth")
