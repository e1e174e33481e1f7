"""`synthaug validate` whole: exit codes, files, several sets; the mended set is read back."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from synthaug.pipeline.cli import main
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.scene import Dataset
from synthaug.pipeline.formats.reference import open_dataset

WIDTH, HEIGHT = 64, 48
GOOD = [4, 4, 20, 20]


class Set:
    """A COCO set in a folder, to be spoilt and written."""

    def __init__(self, folder: Path, images: int = 8) -> None:
        self.folder = folder
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        for number in range(1, images + 1):
            self.picture(f"p{number}.png", number)
            self.label(number, GOOD)

    def picture(self, name: str, seed: int, **options: Any) -> int:
        noise = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        Image.fromarray(noise).save(self.folder / name, **options)
        key = 10 * (len(self.images) + 1)
        self.images.append({"id": key, "file_name": name, "width": WIDTH, "height": HEIGHT})
        return key

    def label(self, image: int, box: list[float], **more: Any) -> None:
        key = len(self.annotations) + 1
        row = {"id": key, "image_id": 10 * image, "category_id": 3, "bbox": box}
        self.annotations.append(row | more)

    def write(self) -> None:
        categories = [{"id": 3, "name": "cell"}]
        document = {
            "images": self.images,
            "annotations": self.annotations,
            "categories": categories,
        }
        (self.folder / "t.json").write_text(json.dumps(document))

    def validate(self, *words: str) -> Result:
        self.write()
        runner = CliRunner()
        return runner.invoke(main, ["validate", "coco:t.json", "--root", str(self.folder), *words])


@pytest.fixture
def data(tmp_path: Path) -> Set:
    (tmp_path / "set").mkdir()
    return Set(tmp_path / "set")


def digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def test_a_good_set_is_in_order_and_its_first_line_says_so(data: Set) -> None:
    result = data.validate("--strict")
    assert result.exit_code == 0, result.output
    assert "8 images, 8 objects, 1 classes: in order" in result.output
    assert result.stderr == ""


def test_the_last_line_names_the_command_for_a_job_of_this_data(
    data: Set, monkeypatch: pytest.MonkeyPatch
) -> None:
    data.write()
    monkeypatch.chdir(data.folder)
    result = CliRunner().invoke(main, ["validate", "coco:t.json"])
    last = result.output.splitlines()[-1]
    assert last == "next:    synthaug init coco:t.json   # a job for this data"
    result = CliRunner().invoke(main, ["validate", "coco:t.json", "--fix", "mended"])
    assert result.output.splitlines()[-1].startswith("next:    synthaug init mended")
    result = CliRunner().invoke(main, ["init", "mended", "--minutes", "9"])
    assert result.exit_code == 0, result.output


def test_every_wrong_record_is_told_and_the_exit_code_is_two(data: Set) -> None:
    data.label(1, [50, 4, 30, 20])
    data.label(2, [4, 4, 0, 20])
    result = data.validate()
    assert result.exit_code == 2
    assert "8 images, 8 objects, 1 classes: 2 records are wrong" in result.output
    for key in (9, 10):
        assert f"annotation {key}" in result.stdout
    assert result.stderr.startswith("error: t.json: annotation 9: bbox lies 16 pixels outside")
    assert result.stderr.count("\n") == 1


def test_what_is_left_out_on_demand_is_a_warning(data: Set) -> None:
    data.label(1, [50, 4, 30, 20])
    data.write()
    words = ["validate", "coco:t.json?on_bad=skip", "--root", str(data.folder)]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0
    assert "in order but for 1 warning" in result.output
    assert "annotation 9" in result.output
    strict = CliRunner().invoke(main, [*words, "--strict"])
    assert strict.exit_code == 1
    assert strict.stderr == "error: in order but for 1 warning, and --strict was given\n"


def test_on_bad_stop_ends_at_the_first(data: Set) -> None:
    data.label(1, [50, 4, 30, 20])
    data.write()
    words = ["validate", "coco:t.json?on_bad=stop", "--root", str(data.folder)]
    result = CliRunner().invoke(main, words)
    assert (2, "") == (result.exit_code, result.stdout)
    assert "annotation 9" in result.stderr


def test_a_broken_picture_is_wrong_and_named(data: Set) -> None:
    (data.folder / "p3.png").write_bytes(b"\x89PNG\r\n\x1a\nrest")
    result = data.validate()
    assert result.exit_code == 2
    assert "p3.png" in result.stderr
    assert "7 images, 7 objects" in result.stdout


def test_the_same_picture_in_two_sets_is_told(data: Set, tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    val = Set(tmp_path / "val", 1)
    val.write()
    result = data.validate(f"coco:{tmp_path}/val/t.json")
    assert result.exit_code == 0
    assert f"pictures in coco:t.json and in coco:{tmp_path}/val/t.json" in result.output
    assert "p1.png (id 10) = p1.png (id 10)" in result.output
    assert "all: in order but for 1 warning" in result.output


def test_the_json_file_holds_every_name_and_the_page_escapes_them(
    data: Set, tmp_path: Path
) -> None:
    for number in range(1, 7):
        data.label(number, [4, 4, 0, 20], id=f"<script>{number}")
    out = tmp_path / "told.json"
    page = tmp_path / "told.html"
    assert data.validate("--json", str(out), "--html", str(page)).exit_code == 2
    told = json.loads(out.read_text())
    assert "error" == told["state"]
    assert 6 == len(told["findings"][0]["names"])
    assert 8 == told["sets"][0]["images"]
    html = page.read_text()
    assert "&lt;script&gt;1" in html
    assert "<script>1" not in html
    assert html.count("<img ") == 8


def test_a_file_that_cannot_be_written_is_named(data: Set, tmp_path: Path) -> None:
    result = data.validate("--json", str(tmp_path / "no" / "such.json"))
    assert result.exit_code == 2
    assert "--json: cannot write" in result.stderr


# --- mended ---


def spoilt(data: Set) -> None:
    """Every fault that is mended, once."""
    data.label(1, [60, 4, 10, 20])  # reaches out by 6 pixels
    data.label(1, [4, 4, -3, 20])  # no extent
    data.label(2, GOOD)  # twice
    data.label(3, [10, 10, 0.5, 9])  # under a pixel
    tag = Image.Exif()
    tag[0x0112] = 6
    data.picture("turned.jpg", 99, exif=tag)
    data.images[-1] |= {"width": HEIGHT, "height": WIDTH}
    data.label(9, [4, 40, 20, 20])
    data.picture("again.png", 4)  # p4 once more
    data.label(10, GOOD)
    data.picture("other.png", 5)  # p5 with other labels
    data.label(11, [5, 5, 9, 9])
    (data.folder / "p6.png").write_bytes(b"nothing")


def opened(folder: Path) -> Dataset:
    return open_dataset("coco:instances.json", folder, "DATASET")


def test_the_mended_set_is_in_order_and_every_change_is_named(data: Set, tmp_path: Path) -> None:
    spoilt(data)
    data.write()
    before = digest(data.folder)
    out = tmp_path / "mended"
    result = data.validate("--fix", str(out))
    assert result.exit_code == 0, result.output
    assert digest(data.folder) == before, "the source is only read"
    changes = (out / "changes.txt").read_text().splitlines()
    assert len(changes) == 7, changes
    for reason, name in (
        ("box reaching out", "annotation 9"),
        ("empty box", "annotation 10"),
        ("duplicate object", "object 11 of p2.png"),
        ("side under a pixel", "object 12 of p3.png"),
        ("stored upright", "turned.jpg"),
        ("picture there before", "again.png (id 100), which is p4.png (id 40)"),
        ("unreadable", "p6.png"),
    ):
        (line,) = (line for line in changes if reason in line)
        assert name in line
    table = opened(out)
    words = ["validate", "coco:instances.json", "--root", str(out)]
    assert ": in order but for 1 warning" in CliRunner().invoke(main, words).output
    assert 9 == len(table)
    boxes = {s.image_id: s.objects.boxes.tolist() for s in table}
    assert [[4, 4, 24, 24], [60, 4, 64, 24]] == boxes["10"]
    assert [[4, 4, 24, 24]] == boxes["20"] == boxes["30"] == boxes["40"]
    assert [[4, 40, 24, 60]] == boxes["90"]
    assert {"60", "100"}.isdisjoint(boxes)


def test_the_turned_picture_lies_as_its_boxes_do(data: Set, tmp_path: Path) -> None:
    spoilt(data)
    assert data.validate("--fix", str(tmp_path / "out")).exit_code == 0
    before = open_dataset("coco:t.json?on_bad=skip", data.folder, "x")
    (old,) = (scene for scene in before if scene.image_id == "90")
    (new,) = (scene for scene in opened(tmp_path / "out") if scene.image_id == "90")
    assert new.image.path is not None
    with Image.open(new.image.path) as image:
        assert (HEIGHT, WIDTH) == image.size
        assert 0x0112 not in image.getexif()
    assert np.array_equal(decode(old), decode(new))


def test_a_set_in_order_is_written_as_it_is(data: Set, tmp_path: Path) -> None:
    result = data.validate("--fix", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    assert "nothing had to be changed" in result.output
    for number in range(1, 9):
        name = f"p{number}.png"
        assert (tmp_path / "out/images" / name).read_bytes() == (data.folder / name).read_bytes()


def test_a_folder_that_is_there_is_refused_before_anything_is_read(
    data: Set, tmp_path: Path
) -> None:
    result = data.validate("--fix", str(tmp_path))
    assert result.exit_code == 2
    assert "is there already" in result.stderr
    assert result.stdout == ""


def test_boxes_of_another_convention_are_not_cut(data: Set, tmp_path: Path) -> None:
    """x1 y1 x2 y2 in place of width and height: most reach out of the image."""
    for number in range(1, 9):
        data.label(number, [20, 20, 60, 40])
    result = data.validate("--fix", str(tmp_path / "out"))
    assert result.exit_code == 2
    assert "8 of 16 boxes reach out of their image" in result.stderr
    assert not (tmp_path / "out").exists()


def test_two_sets_are_not_mended_at_once(data: Set, tmp_path: Path) -> None:
    result = data.validate("coco:t.json", "--fix", str(tmp_path / "out"))
    assert result.exit_code == 2
    assert "one data set at a time" in result.stderr


def test_pictures_of_one_name_in_two_folders_both_stay(tmp_path: Path) -> None:
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
    data = Set(tmp_path, 0)
    for number, place in enumerate("ab", start=1):
        data.picture(f"{place}/x.png", number)
        data.label(number, GOOD)
    assert data.validate("--fix", str(tmp_path / "out")).exit_code == 0
    table = opened(tmp_path / "out")
    names = [Path(scene.image.path or "").name for scene in table]
    assert ["x.png", "2_x.png"] == names
    assert not np.array_equal(decode(table[0]), decode(table[1]))


@pytest.mark.parametrize("what", ["image", "object"])
def test_where_nothing_is_there_nothing_is_in_order(data: Set, tmp_path: Path, what: str) -> None:
    data.annotations.clear()
    if what == "image":
        data.images.clear()
    result = data.validate("--json", str(tmp_path / "s.json"))
    assert result.exit_code == 2
    assert "classes: nothing to learn from" in result.stdout
    assert "in order" not in result.output
    assert json.loads((tmp_path / "s.json").read_text())["state"] == "error"


def test_crowds_alone_are_nothing_to_learn_from(data: Set) -> None:
    for annotation in data.annotations:
        annotation["iscrowd"] = 1
    result = data.validate()
    assert result.exit_code == 2
    assert "8 images, 8 objects, 1 classes: nothing to learn from" in result.stdout
    assert "8  crowds (ignore regions), and not one object to be learnt" in result.stdout
    assert "hold not one object to be learnt; name a labelled set" in result.stderr


def test_pages_that_are_not_read_are_told(data: Set) -> None:
    pages = [Image.new("RGB", (WIDTH, HEIGHT), color) for color in ("red", "blue")]
    key = data.picture("pages.tif", 1)
    pages[0].save(data.folder / "pages.tif", save_all=True, append_images=pages[1:])
    data.label(key // 10, GOOD)
    result = data.validate()
    assert result.exit_code == 0
    assert "files of several pages or frames" in result.stdout
    assert "pages.tif" in result.stdout
