"""Plain data becomes a Job: known keys, values of their types, all checks passed."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from synthaug.detectors import DETECTORS, backend
from synthaug.generators import GENERATORS, load_system
from synthaug.pipeline.config.schema import (
    DetectorJob,
    DetectorSection,
    GeneratorJob,
    GeneratorSection,
    Job,
    NoTraining,
    Score,
    SelfTrainJob,
    SelfTrainSection,
    Trial,
)
from synthaug.pipeline.core.errors import suggest
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.scores import SCORES, USUAL, load_score

TEACHER = "synthaug.detectors.mean_teacher"
COPY_PASTE = "synthaug.generators.copy_paste"


class FaultError(Exception):
    """A mistake at a dotted key; `load_job` adds the file or override that wrote it."""

    def __init__(self, key: str, text: str) -> None:
        message = text
        if key:
            message = f"{key}: {text}"
        super().__init__(message)
        self.key = key


def join(key: str, name: Any) -> str:
    """Return the dotted key of `name` inside `key`."""
    return f"{key}.{name}" if key else str(name)


def short(text: str) -> str:
    """Return what fits into a one-line message."""
    return text if len(text) <= 100 else f"{text[:100]}..."


def _show(value: Any) -> str:
    return short(repr(value))


def build(raw: Json, stem: str) -> Job:
    """Validate each section and return the Job.

    One without a name is called like its file.
    """
    hints = get_type_hints(Job)
    _refuse_unknown(raw, hints, "")
    if raw.get("name") in (None, ""):
        raw["name"] = stem
    if raw.get("output") in (None, ""):
        raw["output"] = f"runs/{raw['name']}"
    checks = _convert(hints["checks"], raw.get("checks", "stop"), "checks")
    values: Json = {"seed": 0, "checks": checks}
    for name, value in raw.items():
        if hints[name] in (int, str):
            values[name] = _convert(hints[name], value, name)
    values["detector"] = DetectorSection(
        *_component(raw.get("detector"), "detector", "backend", DetectorJob, DETECTORS, backend)
    )
    values["generator"] = GeneratorSection(
        *_component(
            raw.get("generator"), "generator", "system", GeneratorJob, GENERATORS, load_system
        )
    )
    values["train_generator"] = _loop(raw.get("train_generator"), values["generator"].system)
    self_train = _mapping(raw.get("self_train"), "self_train")
    values["self_train"] = SelfTrainSection(
        *_halves(self_train, "self_train", SelfTrainJob, teacher_config())
    )
    values["score"] = _score(raw.get("score"))
    values["trial"] = _trial(raw.get("trial"))
    for name in hints.keys() - values.keys():
        values[name] = _fill(hints[name], raw.get(name), name)
    return cast(Job, _make(Job, values, ""))


def teacher_config() -> Any:
    """Return the Config with the keys of self_train that are the mean teacher's."""
    return _import(TEACHER, "self_train").Config


def copy_paste_config() -> Any:
    """Return the Config with the keys of trial.copy_paste."""
    return _import(COPY_PASTE, "trial.copy_paste").Config


def loop_config(system: str) -> Any:
    """Return the dataclass of a system's section train_generator."""
    module = _load(load_system, system, "generator.system")
    return _settings(module.Loop, "generator.system") if module.LEARNS else NoTraining


def _settings(cls: Any, key: str) -> Any:
    """Return a component's class of settings; FaultError where it is no dataclass."""
    if not is_dataclass(cls):
        raise FaultError(
            key, f"{cls.__module__}.{cls.__name__} is no dataclass; make it a frozen one"
        )
    return cls


def _loop(raw: Any, system: str) -> Any:
    """Return the section train_generator.

    Keys of other systems' trainings do not concern it.
    """
    keys = _mapping(raw, "train_generator")
    loop = loop_config(system)
    unknown = keys.keys() - {f.name for f in fields(loop)}
    for key in _of_others(unknown, GENERATORS, loop_config):
        del keys[key]
    return _fill(loop, keys, "train_generator")


def _component(
    raw: Any,
    section: str,
    choice: str,
    training: Any,
    room: Mapping[str, str],
    load: Callable[[str], Any],
) -> tuple[str, Any, Any]:
    """Return the component's name, its training and its Config.

    From one mapping with the keys of all three.
    """
    keys = _mapping(raw, section)
    choice_key = join(section, choice)
    default = next(iter(room))
    chosen = keys.pop(choice, default)
    name = _choose(tuple(room), chosen, choice_key)
    component = _load(load, name, choice_key)
    config = _settings(component.Config, choice_key)
    own = _field_names(training)
    theirs = _field_names(config)
    if own & theirs:
        raise FaultError(
            choice_key,
            f"{room[name]}.Config has {', '.join(sorted(own & theirs))}, which section {section} "
            "has for all components; rename it there",
        )
    # a job may inherit from one that chose another component
    unknown = keys.keys() - own - theirs
    for key in _of_others(unknown, room, lambda name: load(name).Config):
        del keys[key]
    _refuse_unknown(keys, own | theirs | {choice}, section)
    return name, *_halves(keys, section, training, config)


def _field_names(cls: Any) -> set[str]:
    return {field.name for field in fields(cls)}


def _halves(keys: Mapping[str, Any], section: str, training: Any, config: Any) -> tuple[Any, Any]:
    """Return the two dataclasses whose keys one mapping holds."""
    own = _field_names(training)
    theirs = _field_names(config)
    _refuse_unknown(keys, own | theirs, section)
    own_keys = {key: value for key, value in keys.items() if key in own}
    their_keys = {key: value for key, value in keys.items() if key in theirs}
    return _fill(training, own_keys, section), _fill(config, their_keys, section)


def _of_others(
    keys: Collection[str], room: Mapping[str, str], config_of: Callable[[str], Any]
) -> set[str]:
    """Return those of some unknown keys that another component of the room has."""
    known: set[str] = set()
    if not keys:
        return known
    for name in room:
        try:
            known |= _field_names(config_of(name))
        except (ModuleNotFoundError, ValueError, FaultError):  # not installed, or not complete
            continue
    return known & set(keys)


def _score(raw: Any) -> Score:
    """Return the section score, with the settings of the scores that are measured."""
    keys = _mapping(raw, "score")
    written = _convert(tuple[str, ...], keys.pop("names", ["usual"]), "score.names")
    for i, name in enumerate(written):
        _choose(("usual", *SCORES), name, "score.names")
        if name in written[:i]:
            raise FaultError("score.names", f"'{name}' is there twice")
    names = [n for n in SCORES if n in written or ("usual" in written and n in USUAL)]
    hints = get_type_hints(Score)
    own = {}
    for field in fields(Score):
        if field.name not in ("names", "settings"):
            value = keys.pop(field.name, field.default)
            own[field.name] = _convert(hints[field.name], value, f"score.{field.name}")
    _refuse_unknown(keys, {"names", *own, *SCORES}, "score")
    settings = {}
    for name in SCORES:
        if name in names:
            settings[name] = _score_settings(name, keys.get(name))
        elif name in keys:  # not measured, but typos are told all the same
            _score_settings(name, keys[name])
    return Score(written, settings, **own)


def _score_settings(name: str, raw: Any) -> Any:
    config = _settings(_load(load_score, name, "score.names").Config, "score.names")
    return _fill(config, raw, f"score.{name}")


def _trial(raw: Any) -> Trial:
    keys = _mapping(raw, "trial")
    copy_paste = _fill(copy_paste_config(), keys.pop("copy_paste", None), "trial.copy_paste")
    return replace(cast(Trial, _fill(Trial, keys, "trial")), copy_paste=copy_paste)


def _import(module: str, key: str) -> Any:
    return _load(importlib.import_module, module, key)


def _load(load: Callable[[str], Any], name: str, key: str) -> Any:
    """Return a component.

    FaultError when it lacks a library or a part of its contract.
    """
    try:
        return load(name)
    except ValueError as err:
        raise FaultError(key, str(err)) from err
    except ModuleNotFoundError as err:
        raise FaultError(
            key, f"needs the library '{err.name}', which is not installed; install it"
        ) from err


def _mapping(raw: Any, key: str) -> Json:
    """Return a copy of a section; one whose keys are all commented out is empty."""
    if raw is not None and not isinstance(raw, dict):
        raise FaultError(key, f"{_show(raw)} is not a mapping of keys to values")
    for name in raw or {}:
        if not isinstance(name, str):
            raise FaultError(
                key,
                f"the key {_show(name)} is not text; write it in quotes, in the file and not in an "
                "override",
            )
    return dict(raw or {})


def _refuse_unknown(keys: Mapping[str, Any], known: Collection[str], section: str) -> None:
    for key in keys:
        if key not in known:
            raise FaultError(join(section, key), f"unknown key{suggest(key, known)}")


def _fill(cls: Any, raw: Any, key: str) -> Any:
    """Return a dataclass from a mapping.

    Every key known, every value of its type, every check of its own passed.
    """
    values = _mapping(raw, key)
    hints = get_type_hints(cls)
    _refuse_unknown(values, _field_names(cls), key)
    for f in fields(cls):
        if f.name not in values and f.default is MISSING and f.default_factory is MISSING:
            raise FaultError(join(key, f.name), "is missing; give it a value")
    converted = {}
    for name, value in values.items():
        converted[name] = _convert(hints[name], value, join(key, name))
    return _make(cls, converted, key)


def _make(cls: Any, values: Mapping[str, Any], key: str) -> Any:
    """Construct, and put a dataclass's own complaint under its dotted key.

    A complaint is `field: what is wrong`.
    """
    try:
        return cls(**values)
    except ValueError as err:
        complaint = " ".join(str(err).split())
        head, colon, rest = complaint.partition(": ")
        known = values.keys() | _field_names(cls)
        if colon and head.split(".")[0] in known:
            raise FaultError(join(key, head), rest) from err
        raise FaultError(key, complaint) from err


def _convert(hint: Any, value: Any, key: str) -> Any:
    """Return a YAML value as the type a dataclass field asks for.

    OmegaConf would turn tuples into lists and `no` into the text False, and would resolve any `${`
    it meets.
    """
    origin = get_origin(hint)
    args = get_args(hint)
    if value == "???":
        raise FaultError(key, "is still ???; give it a value")
    if is_dataclass(hint):
        return _fill(hint, value, key)
    if origin is Literal:
        return _choose(args, value, key)
    if origin is Union:
        return _convert_either(args, value, key)
    if origin is dict:
        return {
            name: _convert(args[1], entry, join(key, name))
            for name, entry in _mapping(value, key).items()
        }
    if origin is not tuple:
        return _convert_scalar(hint, value, key)
    if not isinstance(value, list):
        raise FaultError(key, f"{_show(value)} is not a list; write it in [ ]")
    kinds = args
    if args[-1] is ...:
        kinds = (args[0],) * len(value)
    if len(value) != len(kinds):
        raise FaultError(key, f"has {len(value)} entries, not {len(kinds)}")
    entries = []
    for i, (kind, entry) in enumerate(zip(kinds, value, strict=True)):
        entries.append(_convert(kind, entry, join(key, i)))
    return tuple(entries)


def _convert_either(hints: tuple[Any, ...], value: Any, key: str) -> Any:
    """Return a value of a field that takes a number, or one of some words."""
    number, words = hints
    if isinstance(value, str) and value != "???":
        return _choose(get_args(words), value, key)
    return _convert(number, value, key)


def _choose(known: tuple[Any, ...], value: Any, key: str) -> Any:
    if any(value == name and type(value) is type(name) for name in known):
        return value
    names = [str(name) for name in known]
    near = suggest(str(value), names)
    if not near.startswith("; did"):
        near = ""
    raise FaultError(key, f"{_show(value)} is not one of {', '.join(names)}{near}")


def _convert_scalar(hint: Any, value: Any, key: str) -> Any:
    assert hint in (bool, int, float, str), f"{key}: job files do not know the type {hint}"
    if type(value) is hint and hint is not float:
        if hint is int and abs(value) >= 2**63:
            raise FaultError(key, f"{_show(value)} does not fit into 64 bits")
        return value
    if hint is str:
        raise FaultError(key, f"{_show(value)} is not text to YAML; write it in quotes")
    if hint is bool:
        raise FaultError(key, f"{_show(value)} is not true or false")
    if hint is int:
        raise FaultError(key, f"{_show(value)} is not an integer")
    try:
        result = (
            math.nan if value is None or isinstance(value, (bool, list, dict)) else float(value)
        )
    except (ValueError, OverflowError):
        result = math.nan
    if not math.isfinite(result):
        raise FaultError(key, f"{_show(value)} is not a number")
    return result
