"""One YAML file with `key=value` overrides becomes one frozen Job, checked to the last key.

Hydra composes: the file, the neighbours it inherits from, the overrides. What comes out is plain data and is judged
here, against the dataclasses below and the `Config` of each component the job names. Nothing in a job is ever executed:
no `_target_`, no resolver, no YAML tag; a reference `${a.b}` copies one value, and OmegaConf is never asked to resolve.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

import yaml

from detectors import DETECTORS
from generators import GENERATORS
from pipeline.errors import JobError, suggest
from pipeline.scores import SCORES

MAX_BYTES = 1_000_000  # of one job file
MAX_DEPTH = 20  # of nested brackets; the parser recurses
LOOP = "generators.train"  # whose Config holds the optimiser settings of every generator
OUTSIDE = ("name", "seed", "output", "cluster")  # of every section's content
EXECUTION = {"synthesize": ("workers",)}  # keys that change who works, never what comes out
RESERVED = "key '{}' is reserved: a job file names components, it does not execute them"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
KEY = re.compile(r"[A-Za-z_][\w-]*(\.[A-Za-z_][\w-]*)*", re.ASCII)  # what Hydra's grammar takes for a key
NEIGHBOUR = re.compile(r"\w[\w.-]*")
REFERENCE = re.compile(r"\$\{\s*([A-Za-z]\w*(?:\.\w+)*)\s*\}")
PLAIN_VALUE = re.compile(r"[^'\"\[\]{}(),$\\]+")  # an override value without anything of Hydra's grammar in it
QUOTED = re.compile(r"""'(\\.|[^'\\])*'|"(\\.|[^"\\])*\"""")
EXPONENT = re.compile(r"[-+]?[0-9._]+[eE][-+]?[0-9]+")  # a number to OmegaConf (1e-4) where YAML 1.1 sees text
DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9_]{0,17})")

Sampling = Literal["uniform", "repeat_factor"]


# ---- The sections: every key that is not a component's own, with its default and its range ----


def _at_least(low: float, section: Any, *names: str) -> None:
    for name in names:
        if getattr(section, name) < low:
            raise ValueError(f"{name}: {getattr(section, name)} is less than {low}")


def _between_0_and_1(section: Any, *names: str) -> None:
    for name in names:
        if not 0 <= getattr(section, name) <= 1:
            raise ValueError(f"{name}: {getattr(section, name)} is not between 0 and 1")


@dataclass(frozen=True)
class Data:
    """Which data sets, as references `format:path?option=value`; relative paths are joined to `root`."""

    labelled: str
    root: str = "."
    unlabelled: str = ""  # "" = no pseudo-labels
    unlabelled_truth: str = ""  # its labels only report precision and recall of the pseudo-labels
    validation: str = ""  # "" = hold out a part of `labelled`
    validation_fraction: float = 0.15  # of the labelled images
    max_pixels: int = 50_000_000  # H * W of one image
    on_bad: Literal["stop", "skip"] = "stop"

    def __post_init__(self) -> None:
        if not self.labelled:
            raise ValueError("labelled: names no data set; write for example coco:data/train.json?images=data/images")
        if not 0 < self.validation_fraction < 1:
            raise ValueError(f"validation_fraction: {self.validation_fraction} is not between 0 and 1, both excluded")
        _at_least(1, self, "max_pixels")


@dataclass(frozen=True)
class DetectorJob:
    """How the detector is trained."""

    steps: int = 600
    batch: int = 16  # images
    save_every: int = 100  # steps
    sampling: Sampling = "repeat_factor"
    repeat_threshold: float = 0.01  # classes in a smaller share of the images are repeated
    threads: int = 0  # 0 = all cores
    workers: int = 1

    def __post_init__(self) -> None:
        _at_least(1, self, "steps", "batch", "save_every", "workers")
        _at_least(0, self, "threads")
        _between_0_and_1(self, "repeat_threshold")


@dataclass(frozen=True)
class GeneratorJob:
    """How the generator is trained, and on which objects."""

    steps: int = 2000
    batch: int = 16  # images
    save_every: int = 200  # steps
    sampling: Sampling = "uniform"
    repeat_threshold: float = 0.01
    threads: int = 0  # 0 = all cores
    workers: int = 1
    min_area: float = 0.0  # share of the image below which an object is left out
    min_objects: int = 1  # images with fewer are left out
    max_objects: int = 8  # images with more keep this many
    flip: bool = True  # half of the images mirrored

    def __post_init__(self) -> None:
        _at_least(1, self, "steps", "batch", "save_every", "workers", "max_objects")
        _at_least(0, self, "threads", "min_objects")
        _between_0_and_1(self, "repeat_threshold", "min_area")
        if self.min_objects > self.max_objects:
            raise ValueError(f"min_objects: {self.min_objects} is more than max_objects {self.max_objects}")


@dataclass(frozen=True)
class DetectorSection:
    """`detector:`, one mapping in YAML: the back-end, its training, and the keys of the back-end's own Config."""

    backend: str
    training: DetectorJob
    config: Any


@dataclass(frozen=True)
class GeneratorSection:
    """`generator:`, one mapping in YAML: the system, its training, and the keys of the system's own Config."""

    system: str
    training: GeneratorJob
    config: Any


@dataclass(frozen=True)
class PseudoLabel:
    """Which detections become labels of the unlabelled images."""

    threshold: float = 0.5  # score from which on
    batch: int = 16  # images

    def __post_init__(self) -> None:
        _between_0_and_1(self, "threshold")
        _at_least(1, self, "batch")


@dataclass(frozen=True)
class Plan:
    """How many images, and which classes they show."""

    count: int = 1000  # images
    target: Literal["natural", "sqrt", "balanced", "counts"] = "balanced"
    counts: dict[str, int] = field(default_factory=dict)  # class name -> objects, for target "counts"
    jitter: float = 0.05  # how far boxes move, share of their size
    flip: float = 0.5  # probability that a layout is mirrored
    shard: int = 64  # images per shard

    def __post_init__(self) -> None:
        _at_least(1, self, "count", "shard")
        _between_0_and_1(self, "jitter", "flip")
        if (self.target == "counts") != bool(self.counts):
            raise ValueError("counts: class names with numbers of objects belong to target 'counts', and only to it")
        for name, number in self.counts.items():
            if number < 0:
                raise ValueError(f"counts: {number} objects of '{name}' is less than 0")


@dataclass(frozen=True)
class Synthesize:
    """How images are produced."""

    batch: int = 16  # images; fixed, because the batch changes the last bits of floats
    size: Literal["source", "generator"] = "source"
    format: Literal["png", "jpeg"] = "png"
    workers: int = 0  # 0 = one per core
    threads: int = 1  # per worker
    truncation: float = 2.0  # latents are redrawn until |z| is at most this; 0 = no truncation
    min_mask_area: int = 16  # pixels

    def __post_init__(self) -> None:
        _at_least(1, self, "batch", "threads")
        _at_least(0, self, "workers", "truncation", "min_mask_area")


@dataclass(frozen=True)
class Export:
    """What is written for others besides the Parquet table and the COCO file."""

    images: bool = True


@dataclass(frozen=True)
class Score:
    """Which scores are measured; `settings` has the Config of each."""

    names: tuple[str, ...]
    settings: dict[str, Any]


@dataclass(frozen=True)
class Report:
    """What the HTML page shows."""

    samples: int = 24  # images
    title: str = ""  # "" = the job's name

    def __post_init__(self) -> None:
        _at_least(0, self, "samples")


@dataclass(frozen=True)
class Cluster:
    """Where the work is done; never a reason for other results."""

    executor: Literal["ray", "serial"] = "ray"
    address: str = ""  # "" = start a local Ray
    workers: int = 0  # 0 = number of cores
    memory_mb: int = 512  # object store of the local Ray

    def __post_init__(self) -> None:
        _at_least(0, self, "workers")
        _at_least(1, self, "memory_mb")


@dataclass(frozen=True)
class Job:
    """Everything a run needs to know; made by `load_job`."""

    name: str
    seed: int
    output: str
    data: Data
    detector: DetectorSection
    pseudo_label: PseudoLabel
    generator: GeneratorSection
    train_generator: Any  # Config of the adversarial loop: the optimisers' settings
    plan: Plan
    synthesize: Synthesize
    export: Export
    score: Score
    report: Report
    cluster: Cluster

    def __post_init__(self) -> None:
        _at_least(0, self, "seed")
        if not NAME.fullmatch(self.name):
            raise ValueError(f"name: '{self.name}' may have only letters, digits, '.', '_' and '-', and at most 100")

    def to_yaml(self) -> str:
        """Return the resolved job as a file that `load_job` reads back as an equal job."""
        from omegaconf import OmegaConf

        return OmegaConf.to_yaml(OmegaConf.create(_plain(self)))

    def sha256(self) -> str:
        """Return the hex digest of what decides the results: not of the output folder, the cluster or the workers."""
        content: dict[str, Any] = {f.name: section_dict(self, f.name) for f in fields(self) if f.name not in OUTSIDE}
        text = json.dumps({**content, "name": self.name, "seed": self.seed}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def section_dict(job: Job, section: str) -> dict[str, Any]:
    """Return one section as plain JSON-able data, to be hashed; without the keys that only say who does the work."""
    assert section not in OUTSIDE, f"{section} decides no step's result"
    content = _plain(getattr(job, section))
    return {key: value for key, value in content.items() if key not in EXECUTION.get(section, ())}


def _plain(value: Any) -> Any:
    """Return dataclasses, tuples and dicts as YAML knows them; component sections as the one mapping they came from."""
    if isinstance(value, DetectorSection):
        return {"backend": value.backend, **_plain(value.training), **_plain(value.config)}
    if isinstance(value, GeneratorSection):
        return {"system": value.system, **_plain(value.training), **_plain(value.config)}
    if isinstance(value, Score):
        return {"names": list(value.names), **_plain(value.settings)}
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value


# ---- The judge: plain data in, dataclasses out ----


class _FaultError(Exception):
    """What is wrong at a dotted key; `load_job` adds which file or override wrote it."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(f"{key}: {text}" if key else text)
        self.key = key


def _join(key: str, name: Any) -> str:
    return f"{key}.{name}" if key else str(name)


def _short(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:100]}..."


def _show(value: Any) -> str:
    return _short(repr(value))


def _one_line(err: Exception) -> str:
    """Return what a library said, without its advice, on one line."""
    if isinstance(err, yaml.MarkedYAMLError) and err.problem_mark:
        return f"{err.problem} (line {err.problem_mark.line + 1})"
    return " ".join(str(err).split("See https://")[0].split())


def _build(raw: dict[str, Any], stem: str) -> Job:
    """Judge each section and make the Job; a job without a name is called like its file."""
    hints = get_type_hints(Job)
    _refuse_unknown(raw, hints, "")
    raw["name"] = stem if raw.get("name") in (None, "") else raw["name"]
    raw["output"] = f"runs/{raw['name']}" if raw.get("output") in (None, "") else raw["output"]
    values = {"seed": 0, **{name: _convert(hints[name], raw[name], name) for name in raw if hints[name] in (int, str)}}
    detector = _component(raw.get("detector"), "detector", "backend", DetectorJob, DETECTORS)
    generator = _component(raw.get("generator"), "generator", "system", GeneratorJob, GENERATORS)
    values["detector"], values["generator"] = DetectorSection(*detector), GeneratorSection(*generator)
    hints["train_generator"] = _import(LOOP, "train_generator").Config
    values["score"] = _score(raw.get("score"))
    for name in hints.keys() - values.keys():
        values[name] = _fill(hints[name], raw.get(name), name)
    return cast(Job, _make(Job, values, ""))


def _component(raw: Any, section: str, choice: str, training: Any, room: Mapping[str, str]) -> tuple[str, Any, Any]:
    """Return the component's name, its training and its Config from one mapping with the keys of all three."""
    keys = _mapping(raw, section)
    name = _choose(tuple(room), keys.pop(choice, next(iter(room))), _join(section, choice))
    config = _import(room[name], _join(section, choice)).Config
    own, theirs = ({f.name for f in fields(cls)} for cls in (training, config))
    assert not own & theirs, f"{room[name]}.Config and {training.__name__} both have {own & theirs}"
    _refuse_unknown(keys, own | theirs | {choice}, section)
    halves = [{key: value for key, value in keys.items() if key in names} for names in (own, theirs)]
    return name, _fill(training, halves[0], section), _fill(config, halves[1], section)


def _score(raw: Any) -> Score:
    keys = _mapping(raw, "score")
    names = _convert(tuple[str, ...], keys.pop("names", list(SCORES)), "score.names")
    for i, name in enumerate(names):
        _choose(tuple(SCORES), name, "score.names")
        if name in names[:i]:
            raise _FaultError("score.names", f"'{name}' is there twice")
    _refuse_unknown(keys, {"names", *SCORES}, "score")
    used = {*names, *keys}  # settings of a score that is not measured are judged too, for their typos
    settings = {
        name: _fill(_import(SCORES[name], "score.names").Config, keys.get(name), f"score.{name}")
        for name in SCORES
        if name in used
    }
    return Score(names, {name: settings[name] for name in names})


def _import(module: str, key: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as err:
        raise _FaultError(key, f"needs the library '{err.name}', which is not installed; install it") from err


def _mapping(raw: Any, key: str) -> dict[str, Any]:
    """Return a copy of a section; one whose keys are all commented out is empty."""
    if raw is not None and not isinstance(raw, dict):
        raise _FaultError(key, f"{_show(raw)} is not a mapping of keys to values")
    for name in raw or {}:
        if not isinstance(name, str):
            raise _FaultError(
                key, f"the key {_show(name)} is not text; write it in quotes, in the file and not in an override"
            )
    return dict(raw or {})


def _refuse_unknown(keys: Mapping[str, Any], known: Collection[str], section: str) -> None:
    for key in keys:
        if key not in known:
            raise _FaultError(_join(section, key), f"unknown key{suggest(key, known)}")


def _fill(cls: Any, raw: Any, key: str) -> Any:
    """Return a dataclass from a mapping: every key known, every value of its type, every check of its own passed."""
    values, hints = _mapping(raw, key), get_type_hints(cls)
    _refuse_unknown(values, {f.name for f in fields(cls)}, key)
    for f in fields(cls):
        if f.name not in values and f.default is MISSING and f.default_factory is MISSING:
            raise _FaultError(_join(key, f.name), "is missing; give it a value")
    return _make(cls, {name: _convert(hints[name], value, _join(key, name)) for name, value in values.items()}, key)


def _make(cls: Any, values: Mapping[str, Any], key: str) -> Any:
    """Construct, and put a dataclass's own complaint, `field: what is wrong`, under its dotted key."""
    try:
        return cls(**values)
    except ValueError as err:
        head, colon, rest = _one_line(err).partition(": ")
        if colon and head in values.keys() | {f.name for f in fields(cls)}:
            raise _FaultError(_join(key, head), rest) from err
        raise _FaultError(key, _one_line(err)) from err


def _convert(hint: Any, value: Any, key: str) -> Any:
    """Return a YAML value as the type a dataclass field asks for.

    OmegaConf would turn tuples into lists and `no` into the text False, and would resolve any `${` it meets.
    """
    origin, args = get_origin(hint), get_args(hint)
    if value == "???":
        raise _FaultError(key, "is still ???; give it a value")
    if origin is Literal:
        return _choose(args, value, key)
    if origin is dict:
        return {name: _convert(args[1], entry, _join(key, name)) for name, entry in _mapping(value, key).items()}
    if origin is not tuple:
        return _convert_scalar(hint, value, key)
    if not isinstance(value, list):
        raise _FaultError(key, f"{_show(value)} is not a list; write it in [ ]")
    kinds = [args[0]] * len(value) if args[-1] is ... else args
    if len(value) != len(kinds):
        raise _FaultError(key, f"has {len(value)} entries, not {len(kinds)}")
    return tuple(_convert(kind, entry, _join(key, i)) for i, (kind, entry) in enumerate(zip(kinds, value, strict=True)))


def _choose(known: tuple[Any, ...], value: Any, key: str) -> Any:
    if any(value == name and type(value) is type(name) for name in known):
        return value
    names = [str(name) for name in known]
    near = suggest(str(value), names)
    raise _FaultError(key, f"{_show(value)} is not one of {', '.join(names)}{near if near.startswith('; did') else ''}")


def _convert_scalar(hint: Any, value: Any, key: str) -> Any:
    assert hint in (bool, int, float, str), f"{key}: job files do not know the type {hint}"
    if type(value) is hint and hint is not float:
        if hint is int and abs(value) >= 2**63:
            raise _FaultError(key, f"{_show(value)} does not fit into 64 bits")
        return value
    if hint is str:
        raise _FaultError(key, f"{_show(value)} is not text to YAML; write it in quotes")
    if hint is bool:
        raise _FaultError(key, f"{_show(value)} is not true or false")
    if hint is int:
        raise _FaultError(key, f"{_show(value)} is not an integer")
    try:
        result = math.nan if value is None or isinstance(value, (bool, list, dict)) else float(value)
    except (ValueError, OverflowError):
        result = math.nan
    if not math.isfinite(result):
        raise _FaultError(key, f"{_show(value)} is not a number")
    return result


# ---- Files: what Hydra must not see is refused before it looks ----


def _scan_file(path: Path, origin: dict[str, str], children: tuple[str, ...]) -> None:
    """Check a file and the neighbours it inherits from, and note which keys each of them writes."""
    if path.stem in children:
        raise JobError(f"{path}: inherits from itself through {' <- '.join(children)}; remove it from 'defaults'")
    root = _parse(path)
    entries = [(key, value) for key, value in root.value if key.value == "defaults"]
    for _, value in entries:
        for name in _neighbours(value, path):
            _scan_file(path.with_name(f"{name}.yaml"), origin, (*children, path.stem))
    root.value = [pair for pair in root.value if pair not in entries]
    try:
        _scan(root, "", str(path), origin)
    except _FaultError as fault:
        raise JobError(f"{path}: {fault}") from fault


def _neighbours(node: yaml.Node, path: Path) -> list[str]:
    names = [entry.value for entry in node.value] if isinstance(node, yaml.SequenceNode) else []
    texts = [name for name in names if isinstance(name, str) and NEIGHBOUR.fullmatch(name)]
    if len(texts) != len(names) or names[-1:] != ["_self_"]:
        raise JobError(f"{path}: defaults: must name files of this folder without .yaml, then _self_: [base, _self_]")
    return texts[:-1]


def _read(path: Path) -> str:
    if path.suffix != ".yaml":
        raise JobError(f"{path}: a job file ends in .yaml; rename it")
    if not path.is_file():
        raise JobError(f"{path}: no such file{suggest(path.name, [p.name for p in path.parent.glob('*.yaml')])}")
    if path.stat().st_size > MAX_BYTES:
        raise JobError(f"{path}: is larger than {MAX_BYTES} bytes, which is no job file")
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as err:
        raise JobError(f"{path}: is not UTF-8 text (byte {err.start}); save it as UTF-8") from err
    except OSError as err:
        raise JobError(f"{path}: cannot be read: {err.strerror}") from err


def _parse(path: Path) -> yaml.MappingNode:
    """Return the YAML nodes of a file, with neither aliases nor tags, nor brackets so deep that a parser chokes."""
    text, depth = _read(path), 0
    if re.search(r"^\s*#\s*@package", text, re.MULTILINE):
        raise JobError(f"{path}: a '# @package' line is not supported; remove it")
    try:
        for event in yaml.parse(text, yaml.SafeLoader):
            line = f"{path}: line {event.start_mark.line + 1 if event.start_mark else '?'}"
            if isinstance(event, yaml.AliasEvent):
                raise JobError(f"{line}: YAML aliases are not supported; write ${{a.b}} to repeat the value of key a.b")
            if tag := getattr(event, "tag", None):
                raise JobError(f"{line}: YAML tags such as {tag} are not supported; remove it")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise JobError(f"{line}: is nested more than {MAX_DEPTH} deep, which is no job file")
        root = yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError as err:
        raise JobError(f"{path}: is not valid YAML: {_one_line(err)}") from err
    if root is None:
        return yaml.MappingNode("tag:yaml.org,2002:map", [])
    if not isinstance(root, yaml.MappingNode):
        raise JobError(f"{path}: must hold keys with values, such as 'seed: 1'")
    return root


def _scan(node: yaml.Node, key: str, source: str, origin: dict[str, str]) -> None:
    """Refuse what YAML 1.1 would silently turn into something else, and note who wrote each key."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for name, value in node.value:
            _scan_key(name, key, seen)
            seen.add(name.value)
            origin[_join(key, name.value)] = source
            _scan(value, _join(key, name.value), source, origin)
    elif isinstance(node, yaml.SequenceNode):
        for entry in node.value:
            _scan(entry, key, source, origin)
    elif node.tag.endswith(":int") and not DECIMAL.fullmatch(node.value):
        raise _FaultError(
            key, f"{node.value} is not a plain decimal number; write one, or put it in quotes if it is text"
        )


def _scan_key(node: yaml.Node, key: str, seen: set[str]) -> None:
    line = f"line {node.start_mark.line + 1}"
    if not isinstance(node, yaml.ScalarNode):
        raise _FaultError(key, f"a key must be text ({line})")
    name = node.value
    if not node.style and (not node.tag.endswith(":str") or EXPONENT.fullmatch(name)):
        raise _FaultError(key, f"YAML does not read the key {name} as text ({line}); write it in quotes: '{name}'")
    if name in seen:
        raise _FaultError(_join(key, name), f"is written twice ({line}); remove one")
    if _join(key, name) == "hydra":
        raise _FaultError(name, f"unknown key ({line}); Hydra itself is not configured in a job file")
    if name.startswith("_"):
        raise _FaultError(_join(key, name), RESERVED.format(name))


# ---- The door: file and overrides in, Job out ----


def load_job(path: Path, overrides: Sequence[str] = (), output: str | None = None) -> Job:
    """Read a job file with `key=value` overrides; `output` beats the key of that name.

    Raises JobError, one line: the file or override, the dotted key, what is wrong, what to do.
    """
    origin: dict[str, str] = {}  # dotted key -> the file or override that wrote it last
    _scan_file(path, origin, ())
    parsed = [_parse_override(text, origin) for text in overrides]
    try:
        raw = _compose(path, parsed)
        if output is not None:
            raw["output"], origin["output"] = output, "--output"
        return _build(_resolve(raw, raw, ""), path.stem)
    except _FaultError as fault:
        parts = fault.key.split(".")
        written = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
        source = next((origin[key] for key in written if key in origin), str(path))
        raise JobError(f"{source}: {fault}") from fault


def _compose(path: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Let Hydra merge the file, its neighbours and the overrides into plain data, nothing resolved."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(config_dir=str(path.absolute().parent), version_base="1.3"):
            composed = compose(config_name=path.stem, overrides=list(overrides))
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as err:
        raise _FaultError("", _one_line(err)) from err
    raw = OmegaConf.to_container(composed, resolve=False)
    return cast(dict[str, Any], raw)


def _parse_override(text: str, origin: dict[str, str]) -> str:
    """Return the override in Hydra's add-or-override form, so that a key the YAML does not mention is no error."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    where = f"override '{_short(' '.join(text.split()))}'"
    key, equals, value = text.partition("=")
    if key[:1] in ("+", "~"):
        raise JobError(f"{where}: write plain key=value, without '{key[: len(key) - len(key.lstrip('+~'))]}'")
    if not equals or not KEY.fullmatch(key):
        raise JobError(f"{where}: is not key=value, such as plan.count=100; put odd keys in the job file")
    if "(" in QUOTED.sub("", value):  # range(...) sweeps, shuffle(...) is different each time
        raise JobError(f"{where}: a job has plain values, no calls; put text with brackets in quotes")
    if key.split(".")[0] == "hydra":
        raise JobError(f"{where}: hydra: unknown key; Hydra itself is not configured by a job")
    parser = OverridesParser.create()
    try:
        override = parser.parse_override(text)
    except (HydraException, ValueError, RecursionError):  # a number of thousands of digits, brackets as deep
        if not PLAIN_VALUE.fullmatch(value) or not value.isprintable():
            raise JobError(f"{where}: cannot be read; put the value in quotes: '{key}=\"...\"'") from None
        text = f'{key}="{value}"'  # such as toy:train?labels=false: Hydra wants quotes around the second '='
        override = parser.parse_override(text)
    if override.is_sweep_override():
        raise JobError(f"{where}: gives several values, a job has one; put text with commas in quotes, lists in [ ]")
    origin[key] = where
    return f"++{text}"


def _resolve(value: Any, raw: Mapping[str, Any], key: str) -> Any:
    """Return composed data with each `${a.b}` replaced by the single value it names.

    Any other use of `${` is refused, and so are reserved keys: only here an override's escapes and mappings are undone.
    """
    if isinstance(value, dict):
        for name in value:
            if str(name).startswith("_"):
                raise _FaultError(_join(key, name), RESERVED.format(name))
        return {name: _resolve(entry, raw, _join(key, name)) for name, entry in value.items()}
    if isinstance(value, list):
        return [_resolve(entry, raw, key) for entry in value]
    if not isinstance(value, str) or "${" not in value:
        return value
    whole = REFERENCE.fullmatch(value)
    result = _target(whole[1], raw, key) if whole else REFERENCE.sub(lambda m: str(_target(m[1], raw, key)), value)
    if "${" in str(result):
        raise _FaultError(key, f"'{value}' is not allowed; only references to keys are, such as ${{data.root}}")
    return result


def _target(name: str, raw: Mapping[str, Any], key: str) -> Any:
    value: Any = raw
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            raise _FaultError(key, f"refers to '{name}', which the job file does not write")
        value = value[part]
    if isinstance(value, (dict, list)) or "${" in str(value):
        raise _FaultError(key, f"refers to '{name}', which is not a single plain value; references do not chain")
    return value
