"""A `Recipe` as a file that people edit (YAML), and as plain data within other files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, cast, get_args

import yaml

from zoo.errors import FileFormatError, UnknownNameError, ZooError
from zoo.layers import ModelSpec
from zoo.recipe import (
    CosineAnnealingLR,
    MultiStepLR,
    Phase,
    Phases,
    Recipe,
    Rule,
    Schedule,
    check_patterns,
)
from zoo.spec_json import build
from zoo.wire.yaml_loader import StrictLoader, read_yaml

_MOST_BYTES = 1 << 17
_TOO_LARGE = 10**18


def to_plain(recipe: Recipe) -> dict[str, Any]:
    """The recipe as dictionaries, lists, words and numbers, every field written out."""
    return cast("dict[str, Any]", _plain(recipe))


def from_plain(value: Any) -> Recipe:
    """The inverse of `to_plain`; fields may be left out where they have a default.

    Raises:
        ValueError, TypeError, KeyError, UnknownNameError: it is no recipe.
    """
    return cast(Recipe, build(Recipe, value))


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(item) for item in cast("tuple[Any, ...]", value)]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in cast("Mapping[str, Any]", value).items()}
    if not is_dataclass(value):
        return value
    kind = {"kind": type(value).__name__} if isinstance(value, (*get_args(Schedule), *get_args(Rule))) else {}
    return kind | {field.name: _plain(getattr(value, field.name)) for field in fields(value)}


def dumps(recipe: Recipe) -> str:
    """The recipe as YAML; what `read_recipe` reads."""
    return yaml.safe_dump(to_plain(recipe), sort_keys=False, width=120, default_flow_style=None)


class _Loader(StrictLoader):
    """YAML in which 5e-4 is a number, as everywhere else (YAML 1.1 wants 5.0e-4)."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read_recipe(path: Path) -> Recipe:
    """A recipe from a YAML file.

    Raises:
        FileFormatError: no such file, no YAML, an unknown key or a value of the wrong kind; the message names it.
    """
    plain = read_yaml(path, _MOST_BYTES, _Loader)
    try:
        return from_plain(plain)
    except (ValueError, TypeError, UnknownNameError) as error:
        raise FileFormatError(path, f"no recipe: {error}; see: zoo show MODEL --recipe") from error


# Where a number stands -> the least that it may be, and what it must stay below; else 0 and _TOO_LARGE.
_BOUNDS: Mapping[str, tuple[float, float]] = {
    "batch_size": (1, _TOO_LARGE),
    "epochs": (1, _TOO_LARGE),
    "momentum": (0, 1),
    "statistics_rate": (0, 1),
    "label_smoothing": (0, 1),
    "warmup_start": (0, 1),
    "schedule: step_size": (1, _TOO_LARGE),
    "schedule: factor": (0, 1),
}


def check(recipe: Recipe, spec: ModelSpec) -> None:
    """Refuse numbers that cannot train, and layers that the network has not; raises `ZooError`."""
    for keys, number in _numbers(to_plain(recipe)):
        where = ": ".join(keys)
        least, most = _BOUNDS.get(where, (0, _TOO_LARGE))
        if keys[0] == "initial" and keys[-1] == "value":  # a constant
            least = -_TOO_LARGE
        if not least <= number < most:
            end = f" and below {most:,}" if most == 1 or number >= most else ""
            raise _wrong(recipe, f"{where} is {number}, expected a number of at least {least}{end}")
    if recipe.rate == 0:
        raise _wrong(recipe, f"rate is {recipe.rate}, expected a number above 0")
    side = max(spec.inputs[0].shape)
    if recipe.augmentation.pad >= side:
        raise _wrong(recipe, f"augmentation: pad is {recipe.augmentation.pad}, expected less than the input's {side}")
    if problem := _schedule_problem(recipe):
        raise _wrong(recipe, f"its schedule, a {type(recipe.schedule).__name__}, has {problem}")
    check_patterns(recipe, spec)


def _wrong(recipe: Recipe, what: str) -> ZooError:
    return ZooError(f"recipe {recipe.name!r}: {what}")


def _numbers(plain: Any, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], float]]:
    """Every number of plain data, with the keys that lead to it."""
    if isinstance(plain, Mapping):
        for key, value in cast("Mapping[str, Any]", plain).items():
            yield from _numbers(value, (*keys, key))
    elif isinstance(plain, list):
        for value in cast("list[Any]", plain):
            yield from _numbers(value, keys)
    elif isinstance(plain, int | float) and not isinstance(plain, bool):
        yield keys, plain


def _schedule_problem(recipe: Recipe) -> str | None:
    match recipe.schedule:
        case Phases(phases=phases):
            return _problem_of_phases(phases, recipe.warmup_epochs)
        case MultiStepLR(milestones=milestones) if list(milestones) != sorted(milestones):
            return f"milestones of {list(milestones)}, expected them in order"
        case MultiStepLR(milestones=milestones, unit="run") if max(milestones, default=0) >= 1:
            return f"milestones of {list(milestones)}, expected shares of the run, below 1"
        case CosineAnnealingLR(eta_min=least) if least > recipe.rate:
            return f"an eta_min of {least}, expected 0 to {recipe.rate}"
        case _:
            return None


def _problem_of_phases(phases: tuple[Phase, ...], warmup_epochs: int) -> str | None:
    begins = [phase.epoch for phase in phases]
    if not begins or min(begins) != 0:
        return "no phase that begins at epoch 0"
    if len(set(begins)) != len(begins):
        return f"phases that begin at {begins}, expected one at each epoch"
    if not any(rate > 0 for phase in phases for rate in (phase.rate, phase.bias_rate, *phase.layers.values())):
        return "no rate above 0"
    return "rates set by hand, so that warmup_epochs changes nothing" if warmup_epochs else None
