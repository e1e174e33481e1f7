"""A session: what the page is told, what is painted when, and files that bring back every byte."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from synthaug.pipeline.core.scene import Scene
from synthaug.pipeline.studio.session import PLANNED, SAMPLES, Session
from tests.studio_room import HOSTILE, FlatPainter, session_in, toy_table


def pixels(address: str) -> Any:
    data = base64.b64decode(address.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(data)))


def boxes(state: Any) -> list[Any]:
    return [item["box"] for item in state["items"]]


def first_move(session: Session) -> dict[str, Any]:
    state = session.state()
    item = state["items"][-1]  # the one in front
    x0, y0, x1, y1 = item["box"]
    return {"edit": "move", "object": item["number"], "box": [x0, y0, x1 - 3, y1 - 2]}


def test_it_begins_with_the_first_validation_image(tmp_path: Path) -> None:
    session = session_in(tmp_path)
    state = session.state()
    scene = toy_table()[0]
    assert list(scene.size) == state["size"]
    assert len(scene.objects) == len(state["items"])
    assert "validation/toy-val-00000000" == state["origin"]
    assert (*scene.size, 3) == pixels(state["image"]).shape
    names = [kind["name"] for kind in session.about()["classes"]]
    assert HOSTILE == names[0]
    json.dumps([state, session.about()])


def test_an_edit_changes_the_image_and_can_be_undone(tmp_path: Path) -> None:
    session = session_in(tmp_path)
    before = session.state()
    after = session.edit(first_move(session))
    assert before["image"] != after["image"]
    assert (1, 0) == (after["undo"], after["redo"])
    assert before["image"] == session.undo()["image"]
    assert after["image"] == session.redo()["image"]


def test_masks_are_drawn_over_what_is_seen(tmp_path: Path) -> None:
    session = session_in(tmp_path)
    session.clear()
    state = session.edit({"edit": "add", "class": HOSTILE, "box": [8, 16, 24, 48]})
    drawn = pixels(state["masks"])[..., 3] > 0
    zoom = drawn.shape[0] // state["size"][0]
    rows, columns = np.nonzero(drawn)
    edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert [value * zoom for value in (8, 16, 24, 48)] == edges
    assert [8, 16, 24, 48] == state["items"][0]["seen"]


def test_a_drag_is_drafted_and_painted_in_full_at_its_end(tmp_path: Path) -> None:
    painter = FlatPainter(toy_table().categories)
    session = session_in(tmp_path, painter)
    session.clear()
    session.edit({"edit": "add", "class": HOSTILE, "box": [0, 0, 9, 9]})
    for x in (1, 2, 3):
        session.edit({"edit": "move", "object": 0, "box": [x, 0, 9 + x, 9]}, "drag", draft=True)
    assert 3 == painter.drafts
    painted = painter.painted
    state = session.edit({"edit": "move", "object": 0, "box": [3, 0, 12, 9]}, "drag")
    assert (3, painted + 1) == (painter.drafts, painter.painted)
    assert [[3, 0, 12, 9]] == boxes(state)
    assert [[0, 0, 9, 9]] == boxes(session.undo())


def test_nothing_is_painted_twice(tmp_path: Path) -> None:
    painter = FlatPainter(toy_table().categories)
    session = session_in(tmp_path, painter)
    session.edit(first_move(session))
    painted = painter.painted
    session.undo()
    session.redo()
    session.state()
    assert painted == painter.painted


def test_what_cannot_be_leaves_everything_as_it_was(tmp_path: Path) -> None:
    session = session_in(tmp_path)
    before = session.state()
    with pytest.raises(ValueError, match="no object 77"):
        session.edit({"edit": "remove", "object": 77})
    with pytest.raises(ValueError, match="no class 'unicorn'"):
        session.load({"objects": [{"class": "unicorn", "box": [0, 0, 1, 1]}]}, "a file")
    with pytest.raises(ValueError, match="there are no 'secret' images"):
        session.open_photo("secret", 0)
    with pytest.raises(ValueError, match="has 4 images"):
        session.open_photo("validation", 4)
    assert before == session.state()


def test_samples_are_those_that_taking_one_paints(tmp_path: Path) -> None:
    session = session_in(tmp_path)
    samples = session.samples()
    assert SAMPLES == len(samples) == len({sample["image"] for sample in samples})
    chosen = samples[3]
    state = session.edit({"edit": "resample", "seed": chosen["seed"]})
    assert chosen["image"] == state["image"]


def test_interpolation_begins_as_it_is_and_a_step_of_it_can_be_taken(tmp_path: Path) -> None:
    session = session_in(tmp_path)
    way = session.interpolation(0)
    assert session.state()["image"] == way[0]["image"]
    taken = {"edit": "interpolate", "object": 0, "seed": way[5]["seed"], "t": way[5]["t"]}
    assert way[5]["image"] == session.edit(taken)["image"]


def test_a_saved_layout_brings_back_every_byte(tmp_path: Path) -> None:
    session = session_in(tmp_path)
    session.edit(first_move(session))
    session.edit({"edit": "restyle", "object": 0})
    session.edit({"edit": "interpolate", "object": 1, "seed": 5, "t": 0.3})
    image, document = session.image(), session.document()
    session.save("layout")
    session.clear()
    assert image != session.image()
    assert "layout" == session.load_saved("layout")["saved_as"]
    assert (image, document) == (session.image(), session.document())
    other = session_in(tmp_path)
    assert ["layout"] == other.saved()
    other.load_saved("layout")
    assert image == other.image()


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../up", "a/b", "a\\b", ".hidden", "x" * 65, "a\n"]
)
def test_a_name_is_no_path(tmp_path: Path, name: str) -> None:
    session = session_in(tmp_path / "studio")
    with pytest.raises(ValueError, match="a name has"):
        session.save(name)
    with pytest.raises(ValueError, match="a name has"):
        session.load_saved(name)
    assert not (tmp_path / "studio").exists()


def test_a_layout_that_is_not_saved_is_not_loaded(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no layout is saved as 'other'"):
        session_in(tmp_path).load_saved("other")


def test_layouts_sent_to_the_plan_gather_in_one_file(tmp_path: Path) -> None:
    session = session_in(tmp_path)
    session.send_to_plan(5)
    session.edit(first_move(session))
    told = session.send_to_plan(7)
    assert (2, 12) == (told["layouts"], told["images"])
    entries = json.loads((tmp_path / PLANNED).read_text())["layouts"]
    assert [5, 7] == [entry["copies"] for entry in entries]
    assert session.document() == entries[1]["layout"]
    with pytest.raises(ValueError, match="copies"):
        session.send_to_plan(0)


def test_the_judge_is_asked_about_what_is_seen(tmp_path: Path) -> None:
    asked: list[Scene] = []

    def judge(scene: Scene) -> list[tuple[int, str | None, float]]:
        asked.append(scene)
        return [(int(scene.objects.id[0]), "kept", 0.75), (int(scene.objects.id[1]), None, 0.0)]

    session = session_in(tmp_path, judge=judge)
    session.clear()
    for box in ([0, 0, 9, 9], [20, 20, 30, 30], [21, 21, 29, 29]):
        session.edit({"edit": "add", "class": HOSTILE, "box": box})
    session.edit({"edit": "add", "class": HOSTILE, "box": [0, 0, 9, 9]})
    told = {entry["number"]: entry for entry in session.verdicts()}
    (scene,) = asked
    assert [2, 3, 4] == scene.objects.id.tolist()  # object 0 lies under object 3
    assert "not seen" == told[0]["verdict"]
    assert ("kept", 0.75) == (told[1]["verdict"], told[1]["score"])
    assert ("not judged", None) == (told[2]["verdict"], told[2]["score"])
    assert ("synthetic",) * 3 == scene.objects.source


def test_without_a_judge_it_is_said_why(tmp_path: Path) -> None:
    session = session_in(tmp_path)
    assert not session.about()["judge"]
    with pytest.raises(ValueError, match="nothing judges here"):
        session.verdicts()


def test_thumbnails_are_small_and_end_with_the_table(tmp_path: Path) -> None:
    found = session_in(tmp_path).thumbnails("validation", 1)
    assert [1, 2, 3] == [photo["index"] for photo in found]
    assert max(pixels(found[0]["image"]).shape) <= 96
