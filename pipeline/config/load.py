"""One YAML file with `key=value` overrides becomes one frozen Job.

It is checked to the last key. The only door to Hydra.

Hydra composes: the file, the neighbours it inherits from, the overrides. What comes out is plain
data and is checked (build.py) against the sections (schema.py) and the `Config` of each component
the job names. Nothing in a job is ever executed: no `_target_`, no resolver, no YAML tag; a
reference `${a.b}` copies one value, and OmegaConf never resolves.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import yaml

from synthaug.pipeline.config.build import FaultError, build, join, short
from synthaug.pipeline.config.renamed import Source, rename_old_keys, source_of
from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.config.shipped_jobs import (
    FOLDER,
    find_base,
    find_job,
    shipped_names,
)
from synthaug.pipeline.core.errors import JobError, suggest
from synthaug.pipeline.core.json_values import Json

log = logging.getLogger(__name__)

OVERRIDE = 1_000_000  # level of what the command line says: above every file
MAX_BYTES = 1_000_000  # of one job file
MAX_DEPTH = 20  # of nested brackets; the parser recurses
RESERVED = "key '{}' is reserved: a job file names components, it does not execute them"
KEY = re.compile(
    r"[A-Za-z_][\w-]*(\.[A-Za-z_][\w-]*)*", re.ASCII
)  # what Hydra's grammar takes for a key
NEIGHBOUR = re.compile(r"\w[\w.-]{0,99}")
REFERENCE = re.compile(r"\$\{\s*([A-Za-z]\w*(?:\.\w+)*)\s*\}")
PLAIN_VALUE = re.compile(
    r"[^'\"\[\]{}(),$\\]+"
)  # an override value without anything of Hydra's grammar in it
QUOTED = re.compile(r"""'(\\.|[^'\\])*'|"(\\.|[^"\\])*\"""")
EXPONENT = re.compile(
    r"[-+]?[0-9._]+[eE][-+]?[0-9]+"
)  # a number to OmegaConf (1e-4) where YAML 1.1 sees text
DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9_]{0,17})")


# ---- Files: what Hydra must not see is refused before it looks ----


def _scan_file(path: Path, sources: dict[str, Source], children: tuple[str, ...]) -> None:
    """Check a file and the ones it inherits from.

    Notes which keys each of them writes.
    """
    if path.stem in children:
        raise JobError(
            f"{path}: inherits from itself through {' <- '.join(children)}; remove it from "
            "'defaults'"
        )
    root = _parse(path, _read(path))
    own_keys = []
    for key, value in root.value:
        if key.value != "defaults":
            own_keys.append((key, value))
            continue
        for name in _neighbours(value, path):
            _scan_file(find_base(name, path), sources, (*children, path.stem))
    level = 1 + max((source.level for source in sources.values()), default=0)
    try:
        _scan(yaml.MappingNode(root.tag, own_keys), "", Source(str(path), level), sources)
        for key, value in own_keys:
            if isinstance(value, yaml.SequenceNode):
                raise FaultError(key.value, "is a list; no section or key of a job is one")
    except FaultError as fault:
        raise JobError(f"{path}: {fault}") from fault


def _neighbours(node: yaml.Node, path: Path) -> list[str]:
    names = [entry.value for entry in node.value] if isinstance(node, yaml.SequenceNode) else []
    texts = [name for name in names if isinstance(name, str) and NEIGHBOUR.fullmatch(name)]
    if len(texts) != len(names) or names[-1:] != ["_self_"]:
        raise JobError(
            f"{path}: defaults: must name files of this folder without .yaml, then _self_: [base, "
            "_self_]"
        )
    return texts[:-1]


def _read(path: Path) -> str:
    if not path.suffix and not path.exists():
        raise JobError(f"{path}: no job of this name ships{suggest(path.name, shipped_names())}")
    if path.suffix != ".yaml":
        raise JobError(f"{path}: a job file ends in .yaml; rename it")
    if not path.is_file():
        raise JobError(
            f"{path}: no such "
            f"file{suggest(path.name, [p.name for p in path.parent.glob('*.yaml')])}"
        )
    if path.stat().st_size > MAX_BYTES:
        raise JobError(
            f"{path}: is larger than {MAX_BYTES} bytes, which is no job file; {_longest_line(path)}"
        )
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as err:
        raise JobError(f"{path}: is not UTF-8 text (byte {err.start}); save it as UTF-8") from err
    except OSError as err:
        raise JobError(f"{path}: cannot be read: {err.strerror}") from err


def _longest_line(path: Path) -> str:
    """Return which line at the beginning of a file is the longest, for a message."""
    with path.open("rb") as file:
        text = file.read(MAX_BYTES).decode("utf-8", "replace")
    lines = text.splitlines()
    at = max(range(len(lines)), key=lambda index: len(lines[index]))
    key = lines[at][:100].partition(":")[0].strip()
    return f"its longest line is {at + 1}, {key!r}: shorten it"


@functools.lru_cache(maxsize=4)  # nearly every job inherits from base.yaml
def _parse(path: Path, text: str) -> yaml.MappingNode:
    """Return the YAML nodes of a file's text.

    There are neither aliases nor tags in it, nor brackets so deep that a parser chokes.
    """
    depth = 0
    if re.search(r"^\s*#\s*@package", text, re.MULTILINE):
        raise JobError(f"{path}: a '# @package' line is not supported; remove it")
    try:
        for event in yaml.parse(text, yaml.SafeLoader):
            line = f"{path}: line ?"
            if event.start_mark:
                line = f"{path}: line {event.start_mark.line + 1}"
            if isinstance(event, yaml.AliasEvent):
                raise JobError(
                    f"{line}: YAML aliases are not supported; write ${{a.b}} to repeat the value "
                    "of key a.b"
                )
            if isinstance(event, (yaml.ScalarEvent, yaml.CollectionStartEvent)) and event.tag:
                raise JobError(
                    f"{line}: YAML tags such as {event.tag} are not supported; remove it"
                )
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(
                event, yaml.CollectionEndEvent
            )
            if depth > MAX_DEPTH:
                raise JobError(
                    f"{line}: is nested more than {MAX_DEPTH} deep, which is no job file"
                )
        root = yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError as err:
        raise JobError(f"{path}: is not valid YAML: {_without_advice(err)}") from err
    if root is None:
        return yaml.MappingNode("tag:yaml.org,2002:map", [])
    if not isinstance(root, yaml.MappingNode):
        raise JobError(f"{path}: must hold keys with values, such as 'seed: 1'")
    return root


def _scan(node: yaml.Node, key: str, source: Source, sources: dict[str, Source]) -> None:
    """Refuse what YAML 1.1 would silently turn into something else.

    Notes who wrote each key.
    """
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for name, value in node.value:
            _scan_key(name, key, seen)
            seen.add(name.value)
            sources[join(key, name.value)] = source
            _scan(value, join(key, name.value), source, sources)
    elif isinstance(node, yaml.SequenceNode):
        for entry in node.value:
            _scan(entry, key, source, sources)
    elif node.tag.endswith(":int") and not DECIMAL.fullmatch(node.value):
        raise FaultError(
            key,
            f"{node.value} is not a plain decimal number; write one, or put it in quotes if it is "
            "text",
        )


def _scan_key(node: yaml.Node, key: str, seen: set[str]) -> None:
    line = f"line {node.start_mark.line + 1}"
    if not isinstance(node, yaml.ScalarNode):
        raise FaultError(key, f"a key must be text ({line})")
    name = node.value
    if not node.style and (not node.tag.endswith(":str") or EXPONENT.fullmatch(name)):
        raise FaultError(
            key, f"YAML does not read the key {name} as text ({line}); write it in quotes: '{name}'"
        )
    if name in seen:
        raise FaultError(join(key, name), f"is written twice ({line}); remove one")
    if join(key, name) == "hydra":
        raise FaultError(
            name, f"unknown key ({line}); Hydra itself is not configured in a job file"
        )
    if name.startswith("_"):
        raise FaultError(join(key, name), RESERVED.format(name))


# ---- The door: file and overrides in, Job out ----


def load_job(
    path: Path,
    overrides: Sequence[str] = (),
    output: str | None = None,
    warn: Callable[[str], None] = log.warning,
) -> Job:
    """Read a job file, or a shipped job by its name, with `key=value` overrides.

    `output` beats the key of that name. A key that has another name now is told to `warn`, in
    one line. Raises JobError, one line: the file or override, the dotted key, what is wrong, what
    to do.
    """
    path = find_job(path)
    sources: dict[str, Source] = {}  # dotted key -> the file or override that wrote it last
    _scan_file(path, sources, ())
    parsed = [_parse_override(text, sources) for text in overrides]
    try:
        raw = _compose(path, parsed)
        if output is not None:
            raw["output"] = output
            sources["output"] = Source("--output", OVERRIDE)
        rename_old_keys(raw, sources, warn)
        return build(_resolve(raw, raw, ""), path.stem)
    except FaultError as fault:
        source = source_of(fault.key, sources) or Source(str(path), 0)
        raise JobError(f"{source.name}: {fault}") from fault


def _compose(path: Path, overrides: Sequence[str]) -> Json:
    """Let Hydra merge the file, its neighbours and the overrides.

    Into plain data, nothing resolved.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(config_dir=str(path.absolute().parent), version_base="1.3"):
            inherited = f"hydra.searchpath=[{FOLDER.as_uri()}]"  # for a job in another folder
            composed = compose(config_name=path.stem, overrides=[inherited, *overrides])
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as err:
        raise FaultError("", _without_advice(err)) from err
    raw = OmegaConf.to_container(composed, resolve=False)
    return cast(Json, raw)


def _without_advice(err: Exception) -> str:
    """Return what YAML, Hydra or OmegaConf say is wrong, on one line."""
    if isinstance(err, yaml.MarkedYAMLError) and err.problem_mark:
        return f"{err.problem} (line {err.problem_mark.line + 1})"
    complaint, _, _ = str(err).partition("See https://")
    return " ".join(complaint.split())


def _parse_override(text: str, sources: dict[str, Source]) -> str:
    """Return the override in Hydra's add-or-override form.

    So that a key the YAML does not mention is no error.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    where = f"override '{short(' '.join(text.split()))}'"
    key, equals, value = text.partition("=")
    if key[:1] in ("+", "~"):
        raise JobError(
            f"{where}: write plain key=value, without '{key[: len(key) - len(key.lstrip('+~'))]}'"
        )
    if not equals or not KEY.fullmatch(key):
        raise JobError(
            f"{where}: is not key=value, such as plan.count=100; put odd keys in the job file"
        )
    if "(" in QUOTED.sub("", value):  # range(...) sweeps, shuffle(...) is different each time
        raise JobError(
            f"{where}: a job has plain values, no calls; put text with brackets in quotes"
        )
    if key.split(".")[0] == "hydra":
        raise JobError(f"{where}: hydra: unknown key; Hydra itself is not configured by a job")
    parser = OverridesParser.create()
    try:
        override = parser.parse_override(text)
    except (
        HydraException,
        ValueError,
        RecursionError,
    ):  # a number of thousands of digits, brackets as deep
        if not PLAIN_VALUE.fullmatch(value) or not value.isprintable():
            raise JobError(
                f"{where}: cannot be read; put the value in quotes: '{key}=\"...\"'"
            ) from None
        # such as toy:train?labels=false: Hydra wants quotes around the second '='
        text = f'{key}="{value}"'
        override = parser.parse_override(text)
    if override.is_sweep_override():
        raise JobError(
            f"{where}: gives several values, a job has one; put text with commas in quotes, lists "
            "in [ ]"
        )
    sources[key] = Source(where, OVERRIDE)
    return f"++{text}"


def _resolve(value: Any, raw: Mapping[str, Any], key: str) -> Any:
    """Return composed data with each `${a.b}` replaced by the single value it names.

    Any other use of `${` is refused, and so are reserved keys: only here an override's escapes and
    mappings are undone.
    """
    if isinstance(value, dict):
        for name in value:
            if str(name).startswith("_"):
                raise FaultError(join(key, name), RESERVED.format(name))
        return {name: _resolve(entry, raw, join(key, name)) for name, entry in value.items()}
    if isinstance(value, list):
        return [_resolve(entry, raw, key) for entry in value]
    if not isinstance(value, str) or "${" not in value:
        return value
    whole = REFERENCE.fullmatch(value)
    result = (
        _target(whole[1], raw, key)
        if whole
        else REFERENCE.sub(lambda m: str(_target(m[1], raw, key)), value)
    )
    if "${" in str(result):
        raise FaultError(
            key, f"'{value}' is not allowed; only references to keys are, such as ${{data.root}}"
        )
    return result


def _target(name: str, raw: Mapping[str, Any], key: str) -> Any:
    value: Any = raw
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            raise FaultError(key, f"refers to '{name}', which the job file does not write")
        value = value[part]
    if isinstance(value, (dict, list)) or "${" in str(value):
        raise FaultError(
            key, f"refers to '{name}', which is not a single plain value; references do not chain"
        )
    return value
