"""The studio over HTTP: refusals, answers, and errors in one sentence."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra `studio` is not installed")
pytest.importorskip("httpx", reason="Starlette's test client needs httpx")

from synthaug.pipeline.studio.server.app import MOST_BYTES, STATIC, application
from synthaug.pipeline.studio.server.guard import HEADER, Guard
from tests.studio_room import HOSTILE, session_in

HOST = "127.0.0.1:4321"
GUARD = Guard("the-token", 4321)


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Any]:
    """A client that has no token."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # which httpx the test client takes is its own affair
        from starlette.testclient import TestClient
    app = application(session_in(tmp_path), GUARD)
    with TestClient(app, base_url=f"http://{HOST}", follow_redirects=False) as client:
        yield client


@pytest.fixture
def client(bare: Any) -> Any:
    """A client that has opened the address that is printed."""
    answer = bare.get("/?token=the-token")
    assert (303, "/") == (answer.status_code, answer.headers["location"])
    return bare


def ask(client: Any, address: str, **body: Any) -> Any:
    answer = client.post(f"/api/{address}", json=body)
    assert 200 == answer.status_code, answer.text
    return answer.json()


def test_the_printed_address_leaves_a_cookie_that_scripts_cannot_read(bare: Any) -> None:
    cookie = bare.get("/?token=the-token").headers["set-cookie"]
    assert "synthaug-studio-4321=the-token" in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie


def test_the_page_asks_nobody_but_the_studio(client: Any) -> None:
    page = client.get("/")
    assert 200 == page.status_code
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    static = files("synthaug.pipeline.studio.server").joinpath("static")
    texts = [page.text, *(static.joinpath(name).read_text() for name in STATIC)]
    for text in texts:
        assert not re.search(r"https?://|//[a-z]+\.", text)
        assert "innerHTML" not in text and "eval(" not in text
    for name in STATIC:
        assert 200 == client.get(f"/{name}").status_code


@pytest.mark.parametrize("path", ["/", "/studio.js", "/layout.json", "/image.png", "/nothing"])
def test_nothing_is_read_without_the_token(bare: Any, path: str) -> None:
    answer = bare.get(path)
    assert 401 == answer.status_code
    assert "token" in answer.json()["error"]
    assert 401 == bare.get(path, params={"token": "guess"}).status_code


def test_nothing_is_done_without_the_token(bare: Any) -> None:
    for name in ("state", "edit", "save", "plan", "open"):
        assert 401 == bare.post(f"/api/{name}", json={}).status_code
    held = bare.post("/api/state", json={}, headers={HEADER: "the-token"})
    assert 200 == held.status_code


def test_another_origin_is_refused_even_with_the_token(client: Any) -> None:
    answer = client.post("/api/state", json={}, headers={"origin": "http://evil.example"})
    assert 403 == answer.status_code
    assert "access-control-allow-origin" not in answer.headers
    assert (
        200 == client.post("/api/state", json={}, headers={"origin": f"http://{HOST}"}).status_code
    )


def test_another_host_name_is_refused_even_with_the_token(client: Any) -> None:
    """DNS rebinding: a name of the attacker's that points to 127.0.0.1."""
    for path in ("/", "/?token=the-token", "/layout.json"):
        answer = client.get(path, headers={"host": "evil.example:4321"})
        assert 403 == answer.status_code
        assert "set-cookie" not in answer.headers


def test_an_edit_comes_back_as_the_new_state(client: Any) -> None:
    before = ask(client, "clear")
    edit = {"edit": "add", "class": HOSTILE, "box": [5, 5, 30, 30]}
    after = ask(client, "edit", edit=edit)
    assert before["image"] != after["image"]
    assert HOSTILE == after["items"][0]["class"]
    assert before["image"] == ask(client, "undo")["image"]
    assert after["image"] == ask(client, "redo")["image"]


def test_save_and_reload_give_the_same_bytes(client: Any) -> None:
    ask(client, "edit", edit={"edit": "restyle", "object": 0})
    image = client.get("/image.png").content
    layout = client.get("/layout.json")
    assert 'filename="layout.json"' in layout.headers["content-disposition"]
    ask(client, "save", name="one")
    ask(client, "clear")
    assert image != client.get("/image.png").content
    ask(client, "load_saved", name="one")
    assert image == client.get("/image.png").content
    ask(client, "clear")
    ask(client, "load", layout=layout.json(), name="mine.json")
    assert image == client.get("/image.png").content
    assert ["one"] == ask(client, "saved")


def test_every_address_that_the_page_asks_is_there(client: Any) -> None:
    static = files("synthaug.pipeline.studio.server").joinpath("static")
    script = static.joinpath("studio.js").read_text()
    names = set(re.findall(r'(?:ask|change)\("(\w+)"', script)) | {"samples", "interpolation"}
    assert len(names) > 12
    for name in names:
        assert 404 != client.post(f"/api/{name}", json={}).status_code, name


def test_real_images_are_shown_and_opened(client: Any) -> None:
    found = ask(client, "thumbnails", split="validation", start=0)
    assert 4 == len(found)
    state = ask(client, "open", split="validation", index=2)
    assert found[2]["name"] == state["origin"]


@pytest.mark.parametrize(
    ("name", "body", "words"),
    [
        ("edit", {"edit": {"edit": "remove", "object": 99}}, "no object 99"),
        ("edit", {"edit": "remove"}, "no JSON object"),
        ("edit", {"edit": {"edit": "remove", "object": 0}, "gesture": 5}, "'gesture'"),
        ("open", {"split": "validation"}, "'index' must be a whole number"),
        ("open", {"split": "validation", "index": True}, "'index' must be a whole number"),
        ("open", {"split": "validation", "index": -1}, "counted from 0"),
        ("save", {"name": "../../x"}, "a name has"),
        ("load", {"layout": 3}, "no JSON object"),
        ("load", {}, "no JSON object"),
        ("plan", {"copies": 10**9}, "copies"),
        ("verdicts", {}, "nothing judges here"),
    ],
)
def test_errors_are_one_sentence(client: Any, name: str, body: Any, words: str) -> None:
    answer = client.post(f"/api/{name}", json=body)
    assert 400 == answer.status_code
    sentence = answer.json()["error"]
    assert words in sentence and "\n" not in sentence and "Traceback" not in sentence


def test_what_is_no_json_is_refused(client: Any) -> None:
    kind = {"content-type": "application/json"}
    for data in (b"{", b"[1]", b"\xff", b"[" * 100_000):
        assert 400 == client.post("/api/state", content=data, headers=kind).status_code
    form = {"content-type": "text/plain"}  # which a page of another site may send without asking
    answer = client.post("/api/state", content=b"{}", headers=form)
    assert 400 == answer.status_code
    large = b" " * (MOST_BYTES + 1)
    answer = client.post("/api/state", content=large, headers=kind)
    assert "over 8 MiB" in answer.json()["error"]
    assert 405 == client.get("/api/state").status_code
