from __future__ import annotations

from synthaug.pipeline.core.json_values import json_digest


def test_the_order_of_keys_does_not_count_and_that_of_entries_does() -> None:
    assert json_digest({"a": 1, "b": [1, 2]}) == json_digest({"b": [1, 2], "a": 1})
    assert json_digest([1, 2]) != json_digest([2, 1])


def test_the_digest_is_sha256_of_the_text() -> None:
    empty = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert empty == json_digest({})
