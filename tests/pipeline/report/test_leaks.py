"""Leaks on the page.

Real and synthetic images apart, a warning at a leak alone, every name escaped.
"""

import re

from synthaug.pipeline.report.leaks import copies, splits

LEAK = {
    "first": ["labelled", "<i>a"],
    "second": ["validation", "b"],
    "same_pixels": True,
    "distance": 0.0,
    "files": ["<i>a", "other <u>.png"],
    "kind": "leak",
}
SHARED = {
    **LEAK,
    "second": ["unlabelled", "c"],
    "same_pixels": False,
    "distance": 0.0123,
    "kind": "shared",
}
MANIFEST = {
    "sha256": "0123456789abcdef",
    "splits": {"labelled": {"count": 10}, "<s>": {"count": 6}},
    "pairs": {"leak: labelled and validation": 2, "leak: a and b": 1, "shared: a and b": 9},
    "shown": [LEAK, SHARED],
}


def words_of(html):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html))


def test_leaks_are_counted_and_warned_of_and_duplicates_are_not():
    text = words_of(splits(MANIFEST))
    assert "3 pairs of images are both trained on and measured on:" in text
    one = {**MANIFEST, "pairs": {"leak: a and b": 1}}
    assert "1 pair of images is both trained on and measured on:" in words_of(splits(one))
    none = {**MANIFEST, "pairs": {"shared: a and b": 9}}
    assert "measured on:" not in words_of(splits(none))
    assert "<details open>" in splits(MANIFEST)
    assert "<details>" in splits(none)


def test_each_pair_is_listed_with_its_files_and_distance():
    text = words_of(splits(MANIFEST))
    assert "labelled b other &lt;u&gt;.png validation a leak same pixels" in text
    assert "unlabelled shared 0.0123" in text
    assert text.count("other &lt;u&gt;.png") == 2
    assert "(10 labelled, 6 &lt;s&gt;)" in text
    assert "Splits 0123456789ab (splits.json)" in text


def test_names_are_escaped():
    html = splits(MANIFEST)
    assert not re.search(r"<(i|u|s)>", html)


def test_copies_are_told_of_synthetic_images():
    manifest = {"images": 16, "copies": 2, "pairs": {"memorised: a and b": 2}, "shown": []}
    html = copies(manifest)
    assert "2 of 16 synthetic images are near copies of a real one" in html
    assert html.startswith('<section id="copies">')
    assert "<details" not in html


def test_where_nothing_was_compared_there_is_no_section():
    assert splits({}) == copies({}) == ""
