"""The frame of every page of the report: its style and what it may load, which is nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ROOM = Path(__file__).parent  # templates and style lie beside the code


def num(value: float | None) -> str:
    """A share or a score; n/a where there is none."""
    return "n/a" if value is None else f"{value:.3f}"


def count(value: float | None) -> str:
    """A whole number, grouped by thousands."""
    return "n/a" if value is None else f"{round(value):,}"


def render(template: str, **values: Any) -> bytes:
    """Return the page a template makes of the values, UTF-8; every text in them is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True, loader=FileSystemLoader(ROOM), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"num": num, "count": count}
    style = Markup((ROOM / "report.css").read_text("utf-8"))  # noqa: S704 - our own file
    page = environment.get_template(template).render(style=style, **values)
    return f"{page.strip()}\n".encode()
