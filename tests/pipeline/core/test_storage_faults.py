"""A folder on S3 outlives what a store does at times, and never holds half an object."""

from __future__ import annotations

import pickle
import random
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from synthaug.pipeline.core import storage
from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.core.storage import Folder
from tests import faulty_s3
from tests.faulty_s3 import BUSY, DROP, ERROR, HALF, HANG, LOST, Faults

pytest.importorskip("moto.server", reason="moto is not installed")

LARGE = 16 << 20  # bytes, of an object that is sent in parts


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    for name, value in faulty_s3.KEYS.items():
        monkeypatch.setenv(name, value)
    return Faults()


@pytest.fixture
def folder(faults: Faults) -> Iterator[Folder]:
    """An empty folder on S3."""
    with faulty_s3.served(faults) as address_of:
        yield Folder.at(address_of("run"))


def fail_once(faults: Faults, kind: str) -> list[str]:
    """Let one request fail, of those that can; returns the list of all that come from now on."""
    seen: list[str] = []
    failed: list[str] = []

    def following(request: str) -> str:
        seen.append(request)
        if failed or (kind == HALF and not request.startswith("GET")):
            return ""
        failed.append(request)
        return kind

    faults.next = following  # type: ignore[method-assign]
    return seen


USES: dict[str, Callable[[Folder], Any]] = {
    "read": lambda folder: folder.read_bytes("a"),
    "write": lambda folder: folder.write_bytes("b", b"new"),
    "exists": lambda folder: folder.exists("a"),
    "names": lambda folder: folder.names(),
    "size": lambda folder: folder.size("a"),
    "sha256": lambda folder: folder.sha256("a")[:8],
}
RESULTS = {"read": b"123" * 1000, "exists": True, "names": ["a"], "size": 3000}


@pytest.mark.parametrize("kind", [ERROR, BUSY, DROP, HALF, LOST])
@pytest.mark.parametrize("name", USES)
def test_a_request_that_fails_is_made_again(
    folder: Folder, faults: Faults, kind: str, name: str
) -> None:
    folder.write_bytes("a", b"123" * 1000)
    healthy = USES[name](folder)
    requests = fail_once(faults, kind)
    assert USES[name](folder) == healthy
    assert len(requests) >= 2 or kind == HALF
    assert folder.exists("b") == (name == "write")


@pytest.mark.slow
def test_a_request_without_an_answer_is_made_again(folder: Folder, faults: Faults) -> None:
    folder.write_bytes("a", b"123")
    assert len(fail_once(faults, HANG)) == 0
    assert folder.read_bytes("a") == b"123"


def test_no_number_of_failures_in_a_life_is_too_large(folder: Folder, faults: Faults) -> None:
    """AWS's "standard" way gives up for good after a hundred, however rare they are."""
    folder.write_bytes("a", b"123")
    rng = random.Random(1)
    failed: list[str] = []

    def often(request: str) -> str:
        if rng.random() < 0.5:
            failed.append(request)
            return ERROR
        return ""

    faults.next = often  # type: ignore[method-assign]
    with ThreadPoolExecutor(20) as readers:
        assert set(readers.map(folder.exists, ["a"] * 120)) == {True}
    assert len(failed) > 100


@pytest.mark.parametrize("size", [0, 3, 70, 5000])
def test_an_answer_longer_than_what_was_asked_for_is_no_end(
    folder: Folder, faults: Faults, size: int
) -> None:
    """Of a small object, or a few bytes of a large one, pyarrow itself does not ask again."""
    content = bytes(range(250)) * 20
    folder.write_bytes("a", content[:size])
    told: list[str] = []

    def second_and_third(request: str) -> str:
        told.append(request)
        return BUSY if request.startswith("GET") and len(told) in (2, 3) else ""

    faults.next = second_and_third  # type: ignore[method-assign]
    with folder.open_input("a") as file:
        assert file.read_at(2, 0) == content[: min(2, size)]
        assert file.read(1) == content[: min(1, size)]
        assert file.read() == content[1:size]
        assert (file.tell(), file.size(), file.read(9)) == (size, size, b"")


def test_an_outage_is_waited_for(folder: Folder, faults: Faults) -> None:
    folder.write_bytes("a", b"123")
    faults.go_down(1.0)
    folder.write_bytes("b", b"456")
    assert folder.read_bytes("b") == b"456"
    assert faults.seen[DROP] >= 4, "the store was asked again at longer and longer intervals"


def test_a_store_that_stays_away_is_told(faults: Faults, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_ATTEMPTS", 3)
    with faulty_s3.served(faults) as address_of:
        folder = Folder.at(address_of("run"))
        faults.go_down(60.0)
        with pytest.raises(OSError, match="NETWORK_CONNECTION"):
            folder.read_bytes("a")


def test_an_upload_that_fails_half_way_leaves_the_old_object(
    faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "_ATTEMPTS", 2)
    with faulty_s3.served(faults) as address_of:
        folder = Folder.at(address_of("run"))
        folder.write_bytes("a", b"old")
        puts: list[str] = []

        def only_the_first_part(request: str) -> str:
            if request.startswith("PUT"):
                puts.append(request)
            return ERROR if len(puts) > 1 else ""

        faults.next = only_the_first_part  # type: ignore[method-assign]
        with pytest.raises(OSError, match="INTERNAL_FAILURE during UploadPart"):
            folder.write_bytes("a", bytes(LARGE))
        assert len(puts) >= 2, "it was not sent in parts"
        faults.next = lambda _: ""  # type: ignore[method-assign]
        assert folder.read_bytes("a") == b"old"


class StopError(Exception):
    """Stands for what a signal raises."""


@pytest.mark.parametrize("size", [LARGE, 3 << 20])
def test_a_signal_during_an_upload_leaves_no_half_object(folder: Folder, size: int) -> None:
    content = bytes(size)

    def stop(*_: Any) -> None:
        raise StopError

    def write_until_stopped(name: str, seconds: float) -> None:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        folder.write_bytes(name, content)
        signal.pause()

    before = signal.signal(signal.SIGALRM, stop)
    try:
        for milliseconds in (1, 4, 16, 64):
            with pytest.raises(StopError):
                write_until_stopped(f"after-{milliseconds}", milliseconds / 1000)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert set(folder.sizes().values()) <= {size}


def test_a_folder_that_is_sent_holds_no_key(folder: Folder) -> None:
    sent = pickle.dumps(folder)
    assert folder.path.encode() in sent
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "access_key"):
        assert name.encode() not in sent
    assert pickle.loads(sent) == folder


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("s3://", "it names no bucket"),
        ("s3://key:secret@bucket/x", "keys come from the environment"),
        ("s3://bucket/x?region=eu&colour=red", "option 'colour' is unknown; known are region"),
        ("s3://bucket/x?region", "bad query field"),
    ],
)
def test_an_address_of_no_use_is_told(address: str, reason: str) -> None:
    with pytest.raises(JobError, match=reason) as told:
        Folder.at(address)
    assert str(told.value).startswith(f"{address}: not a usable S3 address (")


def test_names_stay_as_they_are_written(folder: Folder) -> None:
    own = folder.sub("my runs").sub("50%25 of it")
    own.write_bytes("a b.txt", b"1")
    again = Folder.at(own.uri)
    assert again == own
    assert again.names() == ["a b.txt"]
    assert folder.sub("my runs").folders() == ["50%25 of it"]
