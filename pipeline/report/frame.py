"""The one environment of all templates, and the frame of a page.

The frame holds its style and the one script it may run.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthaug.pipeline.report import number_text

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

STATIC = Path(__file__).parent / "static"  # scripts and styles
TEMPLATES = Path(__file__).parent / "templates"
FILTERS = (
    number_text.num,
    number_text.count,
    number_text.plain,
    number_text.percent,
    number_text.share,
    number_text.ap,
    number_text.ap_difference,
    number_text.p_value,
)


@cache
def environment() -> Environment:
    """Return the environment of all templates.

    Every text is escaped, an unknown name is an error.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(
        autoescape=True,
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    for function in FILTERS:
        templates.filters[function.__name__] = function
    return templates


def escaped(html: str) -> Markup:
    """Mark HTML or SVG whose texts are escaped already.

    No template escapes it again.
    """
    from markupsafe import Markup

    return Markup(html)  # noqa: S704 - the one place; callers escape where they draw


def render_section(template: str, **values: Any) -> Markup:
    """Return the part of a page that a template makes of the values.

    Every text in them is escaped.
    """
    return escaped(environment().get_template(template).render(**values))


def render_page(template: str, **values: Any) -> bytes:
    """Return the page that a template makes of the values, UTF-8.

    Every text in them is escaped.
    """
    page = environment().get_template(template).render(**values)
    return f"{page.strip()}\n".encode()


def render_framed(template: str, data: Mapping[str, Any] | None = None, **values: Any) -> bytes:
    """Return a page inside frame.html.j2, which holds the style and the script.

    `data`, the gallery's, is written as JSON in which no character can end its element (`tojson`
    escapes <, > and &).
    """
    scripts = ["report.js"]
    if data:
        scripts.append("gallery.js")
    text, digest = script(scripts)
    style = (STATIC / "report.css").read_text("utf-8")
    return render_page(
        template,
        style=escaped(style),
        script=escaped(text),
        digest=digest,
        data=data,
        **values,
    )


def script(names: Sequence[str]) -> tuple[str, str]:
    """Return a page's script, made of files in STATIC, and its digest.

    The digest is for a content security policy.
    """
    text = "".join((STATIC / name).read_text("utf-8") for name in names)
    assert "</script" not in text and "<!--" not in text
    digest = hashlib.sha256(text.encode()).digest()
    return text, f"sha256-{base64.b64encode(digest).decode()}"
