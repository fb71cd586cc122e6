"""A `Recipe` as a file that people edit (YAML), and as plain data within other files."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, cast, get_args

import yaml

from zoo.errors import FileFormatError, UnknownNameError, ZooError
from zoo.layers import ModelSpec
from zoo.recipe import (
    CosineAnnealingLR,
    MultiStepLR,
    Phases,
    PolyLR,
    Recipe,
    ReduceLROnPlateau,
    Rule,
    Schedule,
    StepLR,
    Uniform,
    check_patterns,
)
from zoo.spec_json import build
from zoo.wire.regular import check_regular
from zoo.wire.yaml_loader import StrictLoader


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
    check_regular(path)
    try:
        return from_plain(yaml.load(path.read_text(encoding="utf-8"), _Loader))
    except (OSError, UnicodeDecodeError) as error:
        raise FileFormatError(path, f"cannot be read ({error})") from error
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, UnknownNameError) as error:
        raise FileFormatError(path, f"no recipe: {error}; see: zoo show MODEL --recipe") from error


def check(recipe: Recipe, spec: ModelSpec) -> None:
    """Refuse numbers that cannot train, and layers that the network has not; raises `ZooError`."""
    bounds = {
        "batch_size": (1, math.inf),
        "epochs": (1, math.inf),
        "rate": (0, math.inf),
        "bias_factor": (0, math.inf),
        "momentum": (0, 1),
        "weight_decay": (0, math.inf),
        "bias_decay": (0, math.inf),
        "label_smoothing": (0, 1),
        "warmup_epochs": (0, math.inf),
        "warmup_start": (0, 1),
    }
    for name, (least, most) in bounds.items():
        value = getattr(recipe, name)
        if not least <= value < most or (name == "rate" and value == 0):
            raise ZooError(f"recipe {recipe.name!r}: {name} is {value}, expected a number {_range(name, least, most)}")
    for layer, multiple in recipe.layer_rates.items():
        if not 0 <= multiple < math.inf:
            raise ZooError(f"recipe {recipe.name!r}: layer_rates {layer!r} is {multiple}, expected 0 or more")
    for name, rule in recipe.initial.items():
        wide = rule.bound if isinstance(rule, Uniform) else getattr(rule, "std", 0.0)
        if not 0 <= wide < math.inf:
            raise ZooError(f"recipe {recipe.name!r}: initial {name!r} is as wide as {wide}, expected 0 or more")
    _check_schedule(recipe)
    check_patterns(recipe, spec)


def _check_schedule(recipe: Recipe) -> None:
    problem = None
    match recipe.schedule:
        case StepLR(step_size=size, gamma=factor) if size < 1 or not 0 <= factor < math.inf:
            problem = f"a step_size of {size} with a gamma of {factor}"
        case MultiStepLR(milestones=milestones, gamma=factor) if list(milestones) != sorted(milestones) or not all(
            0 <= m < math.inf for m in (*milestones, factor)
        ):
            problem = f"milestones of {list(milestones)} with a gamma of {factor}, expected them in order"
        case ReduceLROnPlateau(factor=factor, patience=patience, drops=drops) if (
            not 0 <= factor < 1 or patience < 0 or drops < 0
        ):
            problem = f"a factor of {factor}, {drops} times, after {patience} epochs"
        case CosineAnnealingLR(eta_min=least) if not 0 <= least <= recipe.rate:
            problem = f"an eta_min of {least}, expected 0 to {recipe.rate}"
        case PolyLR(power=power) if not 0 <= power < math.inf:
            problem = f"a power of {power}, expected 0 or more"
        case Phases(phases=phases) if not phases or min(phase.epoch for phase in phases) != 0:
            problem = "no phase that begins at epoch 0"
        case Phases() if recipe.warmup_epochs:
            problem = "rates set by hand, so that warmup_epochs changes nothing"
        case _:
            pass
    if problem:
        raise ZooError(f"recipe {recipe.name!r}: its schedule, a {type(recipe.schedule).__name__}, has {problem}")


def _range(name: str, least: float, most: float) -> str:
    lower = "above 0" if name == "rate" else f"of at least {least}"
    return lower if most == math.inf else f"{lower} and below {most}"
