"""Folders write whole files or none, and never outside themselves."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
from pathlib import Path

import pytest

from synthaug.pipeline.core.errors import DatasetError, JobError
from synthaug.pipeline.core.storage import Folder, check_writable, file_digest, inside, link_all
from tests import faulty_s3, paths


@pytest.fixture(params=["local", "s3"])
def folder(request, tmp_path, monkeypatch):
    """Each kind of storage, empty."""
    if request.param == "local":
        yield Folder.at(tmp_path / "new" / "folder")
        return
    pytest.importorskip("moto.server", reason="moto is not installed")
    for name, value in faulty_s3.KEYS.items():
        monkeypatch.setenv(name, value)
    with faulty_s3.served(faulty_s3.Faults()) as address_of:
        yield Folder.at(address_of("pre/fix"))


def test_folders_inside_are_named_and_tell_when_they_changed(folder):
    assert folder.folders() == []
    assert folder.changed() == 0
    for name in ("b-2", "a-1"):
        folder.sub(name).write_bytes("x", name.encode())
    folder.write_bytes("file", b"")
    assert folder.folders() == ["a-1", "b-2"]
    assert folder.sub("a-1").changed() >= folder.sub("b-2").changed() > 0
    assert folder.sub("c-3").changed() == 0


def test_the_state_of_a_run_is_read_wherever_it_lies(folder):
    from synthaug.pipeline.commands.status import lines

    folder.write_bytes("job.yaml", b"seed: 1")
    folder.sub("steps").sub("ingest-1").write_json("manifest.json", {"seconds": 12.4})
    told = [line.split(maxsplit=1) for line in lines(folder.uri)]
    assert told[0] == ["ingest", "done in 12 s"]
    assert told[1] == ["leaks", "not started"]


def test_a_folder_reads_back_what_was_written(folder):
    assert folder.names() == []
    folder.write_bytes("b.bin", b"12345")
    folder.write_json("a.json", {"b": [1], "a": "é"})
    folder.sub("inner").write_bytes("c", b"")
    assert folder.names() == ["a.json", "b.bin"]
    assert folder.read_bytes("b.bin") == b"12345"
    assert folder.read_bytes("a.json") == b'{\n "a": "\\u00e9",\n "b": [\n  1\n ]\n}\n'
    assert folder.read_json("a.json") == {"a": "é", "b": [1]}
    assert hashlib.sha256(b"12345").hexdigest() == folder.sha256("b.bin")
    assert folder.read_bytes("inner/c") == b""
    with folder.open_input("b.bin") as file:
        file.seek(3)
        assert file.read() == b"45"
    folder.delete("b.bin")
    folder.delete("b.bin")
    assert (folder.exists("b.bin"), folder.exists("a.json")) == (False, True)


def test_a_folder_survives_its_uri_and_pickle(folder):
    folder.write_bytes("x", b"1")
    assert Folder.at(folder.uri).read_bytes("x") == b"1"
    assert pickle.loads(pickle.dumps(folder)).read_bytes("x") == b"1"
    assert Folder.at(Folder.at(folder.uri).uri).read_bytes("./x") == b"1"


def test_split_tells_a_file_from_a_folder(folder):
    folder.write_bytes("x", b"1")
    assert (folder, "") == folder.split()
    assert (folder, "x") == folder.sub("x").split()


def test_an_exception_inside_leaves_the_old_file_and_nothing_else(folder):
    folder.write_bytes("x", b"old")
    for output in (folder.atomic_output, lambda name: _path_as_file(folder, name)):
        with pytest.raises(KeyboardInterrupt), output("x") as out:
            _write_half(out)
    assert folder.read_bytes("x") == b"old"
    assert folder.names() == ["x"]
    with folder.atomic_output("x") as out:
        out.write(b"new")
    assert folder.read_bytes("x") == b"new"


def _write_half(out):
    out.write(b"new, but half")
    raise KeyboardInterrupt


def _path_as_file(folder, name):
    from contextlib import contextmanager

    @contextmanager
    def opened():
        with folder.atomic_path(name) as path, path.open("wb") as out:
            yield out

    return opened()


def test_atomic_path_hands_over_the_file(folder):
    with folder.atomic_path("weights.bin") as path:
        path.write_bytes(b"w" * 3_000_000)
        assert not folder.exists("weights.bin")
    assert folder.read_bytes("weights.bin") == b"w" * 3_000_000
    assert folder.names() == ["weights.bin"]


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "", "..", "a\0b"])
def test_names_cannot_leave_the_folder(folder, name):
    for use in (folder.read_bytes, folder.sub, folder.delete, lambda n: folder.write_bytes(n, b"")):
        with pytest.raises(JobError, match="not a name inside"):
            use(name)


def test_sweep_removes_leftovers_only(tmp_path):
    (tmp_path / f"a.parquet.{os.getpid() + 1}.tmp").write_bytes(b"half")
    (tmp_path / "a.parquet").write_bytes(b"whole")
    assert Folder.at(tmp_path).sweep() == 1
    assert Folder.at(tmp_path).names() == ["a.parquet"]


def test_broken_json_is_a_dataset_error(tmp_path):
    (tmp_path / "m.json").write_text('{"a": ')
    with pytest.raises(DatasetError, match=r"m\.json: not valid JSON"):
        Folder.at(tmp_path).read_json("m.json")


def test_nan_is_no_json(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        Folder.at(tmp_path).write_json("m.json", {"ap": float("nan")})
    assert Folder.at(tmp_path).names() == []


def test_local_path(tmp_path):
    assert tmp_path / "x" == Folder.at(tmp_path).local_path("x")
    assert tmp_path == Folder.at(str(tmp_path)).local_path()
    assert tmp_path / "y" == Folder.at(f"file://{tmp_path}/y").local_path()


def test_unknown_storage_is_a_job_error():
    with pytest.raises(JobError, match="storage 'gopher' is unknown"):
        Folder.at("gopher://x/y")


def test_check_writable_leaves_no_trace(tmp_path):
    check_writable(str(tmp_path / "a" / "b"))
    assert list(tmp_path.iterdir()) == []


def test_check_writable_names_the_reason(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for uri, reason in {
        str(tmp_path / "file"): "it is a file",
        str(tmp_path / "file" / "x"): "Not a directory",
    }.items():
        with pytest.raises(JobError, match=reason) as caught:
            check_writable(uri)
        assert str(caught.value).startswith(f"output: cannot write to {uri}: ")
        assert str(caught.value).endswith("; choose another folder with --output")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(JobError, match="No space left on device"):
        check_writable(str(tmp_path / "full"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_check_writable_refuses_a_read_only_folder(tmp_path):
    if os.geteuid() == 0:
        with pytest.raises(JobError, match="cannot write to /proc/synthaug"):
            check_writable("/proc/synthaug")
        return
    tmp_path.chmod(0o500)
    with pytest.raises(JobError, match="Permission denied"):
        check_writable(str(tmp_path))


def test_inside_finds_files_and_refuses_to_leave(tmp_path):
    root, secret = tmp_path / "root", tmp_path / "secret"
    (root / "sub").mkdir(parents=True)
    secret.write_bytes(b"abc")
    (root / "sub" / "x").write_bytes(b"12")
    (root / "link").symlink_to(secret)
    (root / "good").symlink_to(root / "sub" / "x")
    os.mkfifo(root / "pipe")
    assert (root / "sub/x", 2) == inside(root, "sub/x")
    assert (root / "good", 2) == inside(root, "good")
    for name in ("../secret", str(secret), "link", "sub/../../secret"):
        with pytest.raises(PermissionError):
            inside(root, name)
    for name in ("none", "sub", "pipe", "", "a\0b", "n" * 300):
        with pytest.raises(FileNotFoundError):
            inside(Path(root), name)


def test_a_local_copy_can_be_read_by_path(folder):
    folder.write_bytes("sub/x.bin", b"123")
    with folder.local_copy("sub/x.bin") as path:
        assert b"123" == path.read_bytes()
        assert folder.is_local == path.is_relative_to(folder.path)


def test_s3_has_no_local_paths(folder):
    if folder.is_local:
        assert Path(folder.path) == folder.create().local_path()
        return
    assert folder == folder.create()  # there is nothing to create
    with pytest.raises(JobError, match=r"^s3://.*: this needs a local folder"):
        folder.local_path("x")


def test_a_result_appears_in_another_folder_and_replaces_what_differs(folder, tmp_path):
    folder.write_bytes("a/x", b"new")
    target = Folder.at(tmp_path / "published")
    target.write_bytes("a/x", b"old")
    for _ in range(2):
        link_all(folder, target, ["a/x"])
        assert b"new" == target.read_bytes("a/x")
    assert folder.is_local == (2 == (tmp_path / "published/a/x").stat().st_nlink)


def test_without_links_a_result_is_copied(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    source, target = Folder.at(tmp_path / "a"), Folder.at(tmp_path / "b")
    source.write_bytes("x", b"1")
    link_all(source, target, ["x"])
    assert (b"1", ["x"]) == (target.read_bytes("x"), target.names())


def test_the_digest_of_no_file_is_empty(tmp_path):
    (tmp_path / "x").write_bytes(b"12345")
    assert hashlib.sha256(b"12345").hexdigest() == file_digest(str(tmp_path / "x"))
    assert "" == file_digest("")


def test_no_name_is_put_behind_an_address():
    """An address may end with options (?region=...): `sub` puts a name where it belongs."""
    found = []
    for path in sorted((paths.ROOT / "pipeline").rglob("*.py")):
        text = path.read_text()
        found += [
            (path.name, match) for match in re.findall(r".*\.uri(?:\}/| \+ |\.rpart).*", text)
        ]
    assert found == []
