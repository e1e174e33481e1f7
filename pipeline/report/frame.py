"""The frame of every page of the report: its style and what it may load, which is one script of ours."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOM = Path(__file__).parent / "static"  # templates and style lie beside the code


def num(value: float | None) -> str:
    """A share or a score; n/a where there is none."""
    return "n/a" if value is None else f"{value:.3f}"


def count(value: float | None) -> str:
    """A whole number, grouped by thousands."""
    return "n/a" if value is None else f"{round(value):,}"


def plain(value: float | None) -> str:
    """Any number, with the figures that tell it from its neighbours."""
    if value is None:
        return "n/a"
    if isinstance(value, int) or (value.is_integer() and abs(value) >= 10):
        return f"{value:,.0f}"
    size = abs(value)
    return (
        f"{value:,.1f}"
        if size >= 100
        else f"{value:.3f}"
        if size >= 0.01 or not size
        else f"{value:.2g}"
    )


def script(names: Sequence[str]) -> tuple[str, str]:
    """Return the page's script, made of files beside the code, and its digest as a content security policy names it."""
    text = "".join((ROOM / name).read_text("utf-8") for name in names)
    assert "</script" not in text and "<!--" not in text
    return text, f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def render(template: str, data: Mapping[str, Any] | None = None, **values: Any) -> bytes:
    """Return the page a template makes of the values, UTF-8; every text in them is escaped.

    `data`, the gallery's, is written as JSON in which no character can end its element (`tojson` escapes <, > and &).
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True,
        loader=FileSystemLoader(ROOM.with_name("templates")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    environment.filters |= {"num": num, "count": count, "plain": plain}
    text, digest = script(("report.js", "gallery.js") if data else ("report.js",))
    own = {"style": Markup((ROOM / "report.css").read_text("utf-8")), "script": Markup(text)}  # noqa: S704 - our files
    page = environment.get_template(template).render(**own, digest=digest, data=data, **values)
    return f"{page.strip()}\n".encode()
