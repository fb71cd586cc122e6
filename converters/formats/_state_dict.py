"""Which tensors of what somebody saved are the network: its state dict, and the moving averages of it."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeAlias, TypeVar, cast

from zoo.arrays import Array
from zoo.errors import FileFormatError
from zoo.wire.torch_pickle import Saved, Tensor, foreign

_LOG = logging.getLogger(__name__)

State: TypeAlias = Mapping[str, Tensor]
# Where a dictionary of tensors was found: the keys that lead to it.
_Place: TypeAlias = tuple[str, ...]
_Shaped = TypeVar("_Shaped", Tensor, Array)

# Where several dictionaries of tensors lie side by side, the one under the first of these keys is the network.
_KEYS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params", "module")
# What leads to what an optimizer keeps of each parameter.
_OPTIMIZER = re.compile(r"optim|momentum", re.IGNORECASE)
# Names of the parts that a weight is computed of -> what computes it, and what to do (torch.nn.utils, torch.ao).
_COMPUTED = {
    r"(^|\.)parametrizations\.|(^|[._])weight_[gv]$": "is parametrized (weight_norm, spectral_norm); before saving, "
    "torch.nn.utils.parametrize.remove_parametrizations",
    r"\.(weight|bias)_(orig|mask)$": "is pruned; before saving, torch.nn.utils.prune.remove",
    r"\._packed_params(\.|$)": "is quantised; save the state_dict() of the model it was made of",
}
# What training scripts call a moving average, in a key that leads to it or at the start of each of its names
# (torchvision's references, timm, Swin, BasicSR; torch.optim.swa_utils, ema-pytorch).
_AVERAGE = re.compile(r"(^|[_.])(ema|swa|averaged|shadow)([_.]|$)", re.IGNORECASE)
# Lightning's WeightAveraging keeps the averages under the usual key, and the weights themselves under this one.
_UNAVERAGED = "current_model_state"
_LIGHTNING = "pytorch-lightning_version"
# So many values are looked at: a dictionary may hold itself.
_MOST = 10_000


def states(path: Path, saved: Saved) -> tuple[State, State | None]:
    """The state dict among what a file holds, and the moving averages beside it, if there are any.

    Raises:
        FileFormatError: there is none.
    """
    found = next((places for axes in (2, 1, 0) if (places := dict(_dicts(saved.value, axes)))), None)
    if found is None:
        raise _nothing(path, saved)
    averages = {place: state for place, state in found.items() if any(map(_AVERAGE.search, place))}
    weights = {place: state for place, state in found.items() if place not in averages}
    if (_UNAVERAGED,) in weights and len(weights) > 1:
        averages = {place: state for place, state in weights.items() if place != (_UNAVERAGED,)}
        weights = {(_UNAVERAGED,): weights[_UNAVERAGED,]}
    place, state = _network(weights or averages)
    if not weights:
        _LOG.info("%s: %r, a moving average, is all there is; taken", path, ".".join(place))
        averages = {}
    _warn_of_parts(path, state)
    raw, beside = split(path, _tensors(state))
    if beside is None and averages:
        _, averaged = _network(averages)
        beside = _tensors(averaged)
    _say(path, saved.value, place, state, averages)
    return raw, beside


def writer(saved: Saved) -> str:
    """What wrote a file, where that is more than torch."""
    version = cast("dict[object, object]", saved.value).get(_LIGHTNING) if isinstance(saved.value, dict) else None
    return f"PyTorch Lightning {version}" if isinstance(version, str) else ""


def _warn_of_parts(path: Path, state: Mapping[object, object]) -> None:
    """Say which layer has no weight, but what it is computed of."""
    for part, told in _COMPUTED.items():
        name = next((key for key in state if isinstance(key, str) and re.search(part, key)), None)
        if name:
            _LOG.warning("%s: the layer of %s %s", path, name, told)


def _dicts(value: object, axes: int) -> Iterator[tuple[_Place, dict[object, object]]]:
    """Every dictionary with a tensor of as many axes, and the keys that lead to it; those of optimizers are none."""
    waiting: list[tuple[_Place, object]] = [((), value)]
    for _ in range(_MOST):
        if not waiting:
            return
        place, inner = waiting.pop(0)
        if isinstance(inner, list | tuple):
            inner = {str(i): item for i, item in enumerate(cast("list[object]", inner)) if isinstance(item, dict)}
        if not isinstance(inner, dict) or "param_groups" in inner:
            continue
        items = {key: item for key, item in cast("dict[object, object]", inner).items() if isinstance(key, str)}
        if not place:
            items = {key: item for key, item in items.items() if isinstance(item, Tensor) or not _OPTIMIZER.search(key)}
        if any(isinstance(item, Tensor) and (len(item.shape) >= axes) for item in items.values()):
            yield place, cast("dict[object, object]", inner)
        else:
            waiting += [((*place, key), item) for key, item in items.items() if isinstance(item, dict | list | tuple)]


def _network(found: Mapping[_Place, dict[object, object]]) -> tuple[_Place, Mapping[object, object]]:
    """The one of several dictionaries that is the network: by its key, or all of them as its parts."""
    for key in _KEYS:
        named = [place for place in found if key in place]
        if len(named) == 1:
            return named[0], found[named[0]]
    if len(found) == 1:
        return next(iter(found.items()))
    return (), {".".join((*place, str(key))): item for place, state in found.items() for key, item in state.items()}


def _tensors(state: Mapping[object, object]) -> dict[str, Tensor]:
    return {str(key): item for key, item in state.items() if isinstance(item, Tensor)}


def split(path: Path, state: Mapping[str, _Shaped]) -> tuple[dict[str, _Shaped], dict[str, _Shaped] | None]:
    """The weights among tensors, and the averages that a module keeps of itself beside them, if there are any."""
    averages = {name: tensor for name, tensor in state.items() if _AVERAGE.search(name.partition(".")[0])}
    weights = {name: tensor for name, tensor in state.items() if name not in averages}
    if not averages or any(len(tensor.shape) > 1 for tensor in weights.values()):
        return weights, averages or None
    _LOG.info("%s: it holds moving averages alone; taken", path)
    return dict(state), None


def _say(
    path: Path, value: object, place: _Place, state: Mapping[object, object], averages: Mapping[_Place, object]
) -> None:
    """What was taken, and what was left out, once."""
    if not place:
        return
    beside = f", {'.'.join(next(iter(averages)))!r} as its moving averages" if averages else ""
    taken = {place[0], *(other[0] for other in averages)}
    keys = cast("dict[object, object]", value) if isinstance(value, dict) else {}
    left = [str(key) for key in keys if key not in taken]
    left += [str(key) for key, item in state.items() if not isinstance(item, Tensor)]
    _LOG.info(
        "%s: %r taken as the state dict%s; left out: %s", path, ".".join(place), beside, ", ".join(left) or "nothing"
    )


def _nothing(path: Path, saved: Saved) -> FileFormatError:
    value = saved.value
    if saved.foreign:
        return foreign(path, saved.foreign)
    if not isinstance(value, dict):
        return FileFormatError(path, f"holds a {type(value).__name__}, expected a state dict (name -> tensor)")
    if not value:
        return FileFormatError(path, "holds an empty state dict")
    if "param_groups" in value:
        return FileFormatError(path, "holds an optimizer's state, its momenta and no weights; give the model's file")
    if not all(isinstance(key, str) for key in cast("dict[object, object]", value)):
        return FileFormatError(path, "holds a dictionary whose keys are not names, expected a state dict")
    name, item = next(iter(cast("dict[object, object]", value).items()))
    return FileFormatError(path, f"{name} is a {type(item).__name__}, expected a tensor")
