"""One environment for every template.

Texts are escaped, unknown names are errors, one script may run.
"""

import base64
import hashlib
import json
import re

import pytest
from jinja2 import DictLoader, UndefinedError

from synthaug.pipeline.report import frame
from synthaug.pipeline.report.frame import STATIC, TEMPLATES, environment, render_framed

HOSTILE = "</script><script>alert(1)</script><!--"


def render(source, **values):
    """Render a template of the test with the house's environment."""
    overlay = environment().overlay(loader=DictLoader({"t": source}))
    return overlay.get_template("t").render(**values)


def framed(monkeypatch, source, data=None, **values):
    """Return a page whose body is `source`, as text."""
    templates = {
        "t": "{% extends 'frame.html.j2' %}{% block body %}" + source + "{% endblock %}",
        "frame.html.j2": (TEMPLATES / "frame.html.j2").read_text("utf-8"),
    }
    overlay = environment().overlay(loader=DictLoader(templates))
    monkeypatch.setattr(frame, "environment", lambda: overlay)
    return render_framed("t", data, **values).decode()


def test_every_text_is_escaped_in_words_and_in_attributes():
    page = render("<p title='{{ text }}'>{{ text }}</p>", text=f"{HOSTILE}'\"")
    assert "<script>" not in page
    assert page.count("'") == 2
    assert page.count('"') == 0


def test_a_text_that_looks_like_a_template_stays_a_text():
    assert render("{{ text }}", text="{{ 7 * 7 }}{% raw %}") == "{{ 7 * 7 }}{% raw %}"


def test_html_that_was_escaped_where_it_was_drawn_is_not_escaped_again():
    assert render("{{ svg }}", svg=frame.escaped("<svg/>")) == "<svg/>"
    assert render("{{ svg }}", svg="<svg/>") == "&lt;svg/&gt;"


@pytest.mark.parametrize("source", ["{{ unknown }}", "{% if unknown %}{% endif %}", "{{ a.b.c }}"])
def test_a_name_that_nobody_gave_is_an_error(source):
    with pytest.raises(UndefinedError):
        render(source, a={})


def test_every_template_knows_every_filter_it_names():
    """Compiling a template looks its filters up."""
    names = sorted(path.name for path in TEMPLATES.iterdir())
    assert len(names) > 10
    for name in names:
        environment().get_template(name)


def test_only_the_script_of_the_page_may_run(monkeypatch):
    page = framed(monkeypatch, "{{ text }}", text=HOSTILE)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.S)
    assert script == (STATIC / "report.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page
    assert "default-src 'none'" in page


def test_data_of_a_gallery_cannot_end_its_element_and_comes_back_whole(monkeypatch):
    data = {"classes": [HOSTILE, "&amp; ' \" 🐄"], "n": 3}
    page = framed(monkeypatch, "", data)
    (content,) = re.findall(r'id="gallery-data">(.*?)</script>', page, re.S)
    assert json.loads(content) == data
    assert "<" not in content
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.S)
    assert script.endswith((STATIC / "gallery.js").read_text("utf-8"))


def test_a_page_is_utf_8_and_ends_with_one_line_break(monkeypatch):
    page = framed(monkeypatch, "\n\n🐄\n\n")
    assert page.startswith("<!doctype html>")
    assert page.endswith("</html>\n")
    assert "🐄" in page
