"""Who is let in: the token's holder, from this machine's own page."""

from __future__ import annotations

import pytest

from synthaug.pipeline.studio.server.guard import HEADER, Guard

GUARD = Guard("the-token", 4321)
HERE = {"host": "127.0.0.1:4321"}


@pytest.mark.parametrize("host", ["127.0.0.1:4321", "localhost:4321", "[::1]:4321"])
def test_this_machine_is_let_in_by_each_of_its_names(host: str) -> None:
    assert "" == GUARD.foreign({"host": host})
    assert "" == GUARD.foreign({"host": host, "origin": f"http://{host}"})


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example:4321",
        "127.0.0.1",
        "127.0.0.1:80",
        "127.0.0.1.evil.example:4321",
        "localhost.:4321",
        "192.168.0.5:4321",
    ],
)
def test_any_other_name_is_foreign(host: str) -> None:
    assert f"'{host}'" in GUARD.foreign({"host": host})


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "https://127.0.0.1:4321", "http://127.0.0.1:99", "null", "", "file://"],
)
def test_any_other_origin_is_foreign(origin: str) -> None:
    assert f"'{origin}'" in GUARD.foreign({**HERE, "origin": origin})


def test_the_token_comes_in_a_header_a_cookie_or_the_address() -> None:
    assert GUARD.has_token({HEADER: "the-token"}, {})
    assert GUARD.has_token({"cookie": "a=b; synthaug-studio-4321=the-token"}, {})
    assert GUARD.has_token({}, {"token": "the-token"})


@pytest.mark.parametrize(
    ("headers", "parameters"),
    [
        ({}, {}),
        ({HEADER: "the-toke"}, {}),
        ({HEADER: "the-token "}, {}),
        ({HEADER: ""}, {"token": ""}),
        ({"cookie": "synthaug-studio-4322=the-token"}, {}),
        ({"cookie": "synthaug-studio-4321"}, {}),
        ({}, {"token": "the-token\udcff"}),
        ({}, {"Token": "the-token"}),
    ],
)
def test_nothing_else_is_a_token(headers: dict[str, str], parameters: dict[str, str]) -> None:
    assert not GUARD.has_token(headers, parameters)
