"""Numbers of other types as float32: without a change, or refused with how many would change."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from zoo.arrays import BFLOAT16, Array
from zoo.errors import FileFormatError

_LOG = logging.getLogger(__name__)


def type_name(array: Array) -> str:
    """What its numbers are, in the frameworks' common word."""
    return "bfloat16" if array.dtype == BFLOAT16 else array.dtype.name


def as_float32(tensors: Mapping[str, Array], names: Iterable[str], source: str, *, narrow: bool) -> dict[str, Array]:
    """`tensors`, those of `names` as float32; what was widened or rounded is said.

    Args:
        tensors: of a file.
        names: which of them are parameters; names that are not there are passed over.
        source: the file, for messages.
        narrow: round what float32 cannot hold to the nearest.

    Raises:
        FileFormatError: numbers that float32 cannot hold, without `narrow`.
    """
    found, widened, changed = dict(tensors), Counter[str](), dict[str, int]()
    for name in dict.fromkeys(names):
        tensor = found.get(name)
        if tensor is None or tensor.dtype == np.float32 or not (tensor.dtype == BFLOAT16 or tensor.dtype.kind in "fiu"):
            continue
        found[name], lost = _converted(tensor)
        widened[type_name(tensor)] += 1
        if lost:
            changed[name] = lost
    if changed:
        types = ", ".join(dict.fromkeys(type_name(tensors[name]) for name in changed))
        total = sum(tensors[name].size for name in changed)
        told = f"{sum(changed.values()):,} of {total:,} numbers of {types} do not fit float32 ({', '.join(changed)})"
        if not narrow:
            raise FileFormatError(source, f"{told}; --narrow rounds them to the nearest")
        _LOG.warning("%s: %s; rounded to the nearest", source, told)
    kept = [f"{count} {name}" for name, count in widened.items()]
    if kept and not changed:
        _LOG.info("%s: %s tensors became float32, every number as it was", source, ", ".join(kept))
    return found


def _converted(tensor: Array) -> tuple[Array, int]:
    """A tensor in float32, and how many of its numbers changed."""
    if tensor.dtype == BFLOAT16:
        return (tensor["bfloat16"].astype(np.uint32) << 16).view(np.float32), 0
    with np.errstate(over="ignore"):  # infinite then, and refused as such
        single = tensor.astype(np.float32)
    if tensor.dtype.itemsize < single.itemsize or tensor.dtype.newbyteorder("=") == np.float32:
        return single, 0
    # In float64, where every float32 and every int32 is exact; larger integers differ by more than that hides.
    double = tensor.astype(np.float64, copy=False)
    return single, int(np.count_nonzero((single != double) & ~np.isnan(double)))
