"""jobs/base.yaml, written from the dataclasses.

Every key of a job with its default and comment.

    python -m synthaug.pipeline.config.base_yaml > jobs/base.yaml

A key's comment is the comment of its field: behind it, or in the lines above it.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import io
import json
import re
import textwrap
import tokenize
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from decimal import Decimal
from typing import Any

import yaml

from synthaug.detectors import DETECTORS, backend
from synthaug.generators import GENERATORS, load_system
from synthaug.pipeline.config import schema
from synthaug.pipeline.config.build import copy_paste_config, loop_config, teacher_config
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.scores import SCORES, load_score

HEAD = """\
# Every key of a job with its default. Other job files inherit from this one:
# `defaults: [base, _self_]`.
#
#   synthaug run jobs/base.yaml                               the embedded toy data
#   synthaug run jobs/base.yaml data.labelled=coco:my.json    any key can be given as key=value
#
# A value may copy another one of this file: `${data.labelled}`. Keys of one detector, generator
# or training only are commented out, because the same name may mean something else to another one.
# Written by `make base-yaml` from the dataclasses, which say what each key means: change it there.
"""
START = {  # keys without a default of their own, and the toy data that base.yaml itself runs on
    "name": "",
    "seed": 0,
    "output": "",
    "checks": "stop",
    "data.labelled": "toy:train",
    "data.unlabelled": "toy:unlabelled",
    "data.validation": "toy:val",
}
COMMENT_COLUMN = 35
WIDTH = 120
WORD = re.compile(r"[A-Za-z_][\w-]*")


# ---- Comments ----


def field_comments(cls: type) -> dict[str, str]:
    """Return the comment of each field of a dataclass, those of its bases included."""
    comments: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if is_dataclass(base):
            comments |= _own_comments(base)
    return comments


def _own_comments(cls: type) -> dict[str, str]:
    source = textwrap.dedent(inspect.getsource(cls))
    by_line = _comments_by_line(source)
    lines = source.splitlines()
    definition = ast.parse(source).body[0]
    assert isinstance(definition, ast.ClassDef)
    comments = {}
    for node in definition.body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        first = node.lineno
        while _explains_the_next(lines[first - 2]):  # lines count from 1
            first -= 1
        last = node.end_lineno or node.lineno
        parts = [by_line[line] for line in range(first, last + 1) if line in by_line]
        comments[node.target.id] = " ".join(parts)
    return comments


def _explains_the_next(line: str) -> bool:
    """Return whether a line is a comment; one like `# ---- sizes ----` is a heading."""
    text = line.strip()
    return text.startswith("#") and not text.startswith("# ----")


def _comments_by_line(source: str) -> dict[int, str]:
    comments = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            comments[token.start[0]] = token.string.lstrip("# ")
    return comments


# ---- Lines ----


def yaml_value(value: Any) -> str:
    """Return a default as YAML on one line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return format(Decimal(repr(value)), "f")
    if isinstance(value, str):
        is_plain = WORD.fullmatch(value) and yaml.safe_load(value) == value
        return value if is_plain else json.dumps(value)
    if isinstance(value, tuple):
        entries = [yaml_value(entry) for entry in value]
        return f"[{', '.join(entries)}]"
    assert value == {} or isinstance(value, int), value
    return str(value)


def line(text: str, comment: str) -> Iterator[str]:
    """Yield `text` with its comment beside it, wrapped at WIDTH."""
    if not comment:
        yield text
        return
    column = max(COMMENT_COLUMN, len(text) + 2)
    first, *rest = textwrap.wrap(comment, WIDTH - COMMENT_COLUMN - 2) or [""]
    yield f"{text:<{column}}# {first}"
    for more in rest:
        yield f"{'':<{COMMENT_COLUMN}}# {more}"


def default_of(field: Field[Any], key: str) -> Any:
    """Return a field's default, or what base.yaml starts with instead."""
    if key in START:
        return START[key]
    if field.default_factory is not MISSING:
        return field.default_factory()
    assert field.default is not MISSING, f"{key} has no default"
    return field.default


def section_lines(cls: type, key: str, indent: str = "  ", mark: str = "") -> Iterator[str]:
    """Yield the keys of a dataclass; `mark` stands before each of them."""
    comments = field_comments(cls)
    for field in fields(cls):
        default = default_of(field, f"{key}.{field.name}")
        comment = comments[field.name]
        if is_dataclass(default):
            yield from line(f"{indent}{mark}{field.name}:", comment)
            yield from section_lines(type(default), f"{key}.{field.name}", f"{indent}  ", mark)
        else:
            yield from line(f"{indent}{mark}{field.name}: {yaml_value(default)}", comment)


# ---- Components, of which a job chooses one ----


def component_lines(configs: Mapping[str, type], key: str) -> Iterator[str]:
    """Yield a block for each component's own keys.

    Components with the same keys share one.

    A component that has all keys of an earlier one, with the same defaults, names only its others.
    """
    blocks: list[tuple[list[str], type, Json]] = []
    for name, config in configs.items():
        content = _defaults(config, key)
        for names, _, other in blocks:
            if content == other:
                names.append(name)
                break
        else:
            blocks.append(([name], config, content))
    for names, config, content in blocks:
        parent = _parent(content, blocks)
        title = ", ".join(names)
        shared: Json = {}
        if parent is not None:
            parent_names, _, shared = parent
            title = f"{title}: also the keys of {', '.join(parent_names)}"
        yield f"  # ---- {title} ----"
        comments = field_comments(config)
        for name, default in content.items():
            if name not in shared:
                yield from line(f"  # {name}: {yaml_value(default)}", comments[name])


def _defaults(config: type, key: str) -> Json:
    return {field.name: default_of(field, f"{key}.{field.name}") for field in fields(config)}


Block = tuple[list[str], type, Json]


def _parent(content: Mapping[str, Any], blocks: list[Block]) -> Block | None:
    """Return the block of which all keys and defaults are among others in `content`."""
    for block in blocks:
        _, _, other = block
        if len(other) < len(content) and other.items() <= content.items():
            return block
    return None


# ---- The file ----


def base_yaml() -> str:
    """Return the content of jobs/base.yaml."""
    comments = field_comments(schema.Job)
    lines: list[str] = HEAD.splitlines()
    for field in fields(schema.Job):
        name = field.name
        if name in START:
            if name == "name":
                lines.append("")
            lines += line(f"{name}: {yaml_value(START[name])}", comments[name])
            continue
        lines += ["", *line(f"{name}:", comments[name]), *SECTIONS[name]()]
    return "\n".join(lines) + "\n"


def _detector() -> Iterator[str]:
    first = next(iter(DETECTORS))
    yield from line(f"  backend: {first}", " | ".join(DETECTORS))
    yield from section_lines(schema.DetectorJob, "detector")
    configs = {name: backend(name).Config for name in DETECTORS}
    yield from component_lines(configs, "detector")


def _self_train() -> Iterator[str]:
    yield from section_lines(schema.SelfTrainJob, "self_train")
    yield from section_lines(teacher_config(), "self_train")


def _generator() -> Iterator[str]:
    first = next(iter(GENERATORS))
    yield from line(f"  system: {first}", " | ".join(GENERATORS))
    yield from section_lines(schema.GeneratorJob, "generator")
    configs = {name: load_system(name).Config for name in GENERATORS}
    yield from component_lines(configs, "generator")


def _train_generator() -> Iterator[str]:
    loops = {name: loop_config(name) for name in GENERATORS}
    trained = {name: loop for name, loop in loops.items() if fields(loop)}
    yield from component_lines(trained, "train_generator")


def _score() -> Iterator[str]:
    comments = field_comments(schema.Score)
    yield from line("  names: [usual]", comments["names"])
    for field in fields(schema.Score):
        if field.name not in ("names", "settings"):
            value = yaml_value(default_of(field, field.name))
            yield from line(f"  {field.name}: {value}", comments[field.name])
    for name in SCORES:
        score = load_score(name)
        yield from line(f"  {name}:", _title(SCORES[name]))
        yield from section_lines(score.Config, f"score.{name}", "    ")


def _title(module: str) -> str:
    """Return the first line of a module's docstring."""
    text = inspect.getdoc(importlib.import_module(module)) or ""
    return text.partition("\n")[0]


def _trial() -> Iterator[str]:
    comments = field_comments(schema.Trial)
    for field in fields(schema.Trial):
        if field.name == "copy_paste":
            yield from line("  copy_paste:", comments["copy_paste"])
            yield from section_lines(copy_paste_config(), "trial.copy_paste", "    ")
        else:
            yield from line(
                f"  {field.name}: {yaml_value(default_of(field, field.name))}",
                comments[field.name],
            )


def _plain(cls: type, name: str) -> Callable[[], Iterator[str]]:
    return lambda: section_lines(cls, name)


SECTIONS: dict[str, Callable[[], Iterator[str]]] = {
    "data": _plain(schema.Data, "data"),
    "detector": _detector,
    "self_train": _self_train,
    "pseudo_label": _plain(schema.PseudoLabel, "pseudo_label"),
    "generator": _generator,
    "train_generator": _train_generator,
    "joint": _plain(schema.Joint, "joint"),
    "plan": _plain(schema.Plan, "plan"),
    "synthesize": _plain(schema.Synthesize, "synthesize"),
    "verify": _plain(schema.Verify, "verify"),
    "export": _plain(schema.Export, "export"),
    "score": _score,
    "trial": _trial,
    "report": _plain(schema.Report, "report"),
    "cluster": _plain(schema.Cluster, "cluster"),
}


if __name__ == "__main__":
    print(base_yaml(), end="")
