"""What lies where weights should be: said where it is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthaug.published.files import stand_in


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "the file is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer"),
        (b" <!DOCTYPE HTML><p>404", "a web page: the download failed"),
        (b"\0" * 200, "nothing but zeros"),
        (b"PK\x03\x04", ""),
        (b"anything", ""),
    ],
)
def test_what_a_file_is_instead_of_weights(data: bytes, told: str, tmp_path: Path) -> None:
    file = tmp_path / "model.pth"
    file.write_bytes(data)
    found = stand_in(file)
    assert told in found
    assert bool(told) == bool(found)


def test_a_file_that_is_not_there_is_nothing_known(tmp_path: Path) -> None:
    assert stand_in(tmp_path / "model.pth") == ""
