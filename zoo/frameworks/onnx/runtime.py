"""The half of the ONNX adapter that runs: the only file that imports ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np

from zoo.arrays import Array
from zoo.environment import UNTOLD, environment
from zoo.errors import FileFormatError, UnknownNameError, said

with environment(UNTOLD):
    import onnxruntime as ort
    from onnxruntime.capi import onnxruntime_pybind11_state as states  # pyright: ignore[reportAttributeAccessIssue]

ort.disable_telemetry_events()  # of Windows, which has another way

# ONNX Runtime prints nothing short of its own end: what it warns of (a weight no node reads) is nothing to act on, and
# its errors are raised as well.
_FATAL = 4

# The types of results that NumPy has numbers for.
_NUMERIC = frozenset(
    f"tensor({kind})"
    for kind in (
        "float",
        "double",
        "float16",
        "bool",
        *(f"{sign}int{n}" for sign in ("", "u") for n in (8, 16, 32, 64)),
    )
)

# Inputs of whole numbers, which are cut to them where others are fed.
_WHOLE = {"tensor(int32)": np.int32, "tensor(int64)": np.int64}

# A file that is no model, a graph or an operator it cannot run, inputs that do not fit, and its own failures.
_REFUSALS: tuple[type[Exception], ...] = (
    states.EPFail,
    states.Fail,
    states.InvalidArgument,
    states.InvalidGraph,
    states.InvalidProtobuf,
    states.NoModel,
    states.NoSuchFile,
    states.NotFound,
    states.NotImplemented,
    states.RuntimeException,
    ValueError,
)


def run(
    model: Path | bytes,
    inputs: Mapping[str, Array],
    outputs: Sequence[str] | None,
    weights: Mapping[str, Array] | None = None,
) -> dict[str, Array]:
    """One batch, of a graph that is run once; see `opened`."""
    return opened(model, outputs, weights)(inputs)


def _options(*, lean: bool) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL
    if lean:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.add_session_config_entry("session.disable_prepacking", "1")
    return options


def opened(
    model: Path | bytes,
    outputs: Sequence[str] | None,
    weights: Mapping[str, Array] | None = None,
    *,
    lean: bool = False,
) -> Callable[[Mapping[str, Array]], dict[str, Array]]:
    """What runs a graph: input name -> array, to output name -> array.

    Arrays are cut to whole numbers for inputs of those. What NumPy has no numbers for (a sequence, text, bfloat16) is
    left out.

    Args:
        model: a file or its bytes.
        outputs: the outputs wanted; None for all.
        weights: the initializers, where `model` leaves their data out; lent, not copied.
        lean: the runtime makes no copies of the weights in layouts of its own, which pay only where a graph runs often.

    Raises:
        FileFormatError: ONNX Runtime refuses the graph; what is returned, where it refuses the inputs.
    """
    options = _options(lean=lean)
    lent = [ort.OrtValue.ortvalue_from_numpy(np.asarray(x, order="C")) for x in (weights or {}).values()]
    if weights:
        options.add_external_initializers(list(weights), lent)
    where = model if isinstance(model, Path) else "the ONNX graph"
    source = str(model) if isinstance(model, Path) else model
    with _refusals(where):
        session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    kinds = {output.name: output.type for output in session.get_outputs()}
    whole = {item.name: _WHOLE[item.type] for item in session.get_inputs() if item.type in _WHOLE}
    names = [name for name, kind in kinds.items() if outputs or kind in _NUMERIC]
    for name in outputs or ():
        if name not in names:
            raise UnknownNameError(f"output of {where}", name, names)
    wanted = list(outputs or names)

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        fed = {name: array.astype(whole.get(name, array.dtype), copy=False) for name, array in inputs.items()}
        with _refusals(where):
            found = cast("list[Array]", session.run(wanted, fed) if wanted else [])
        return dict(zip(wanted, found, strict=True))

    return run


@contextmanager
def _refusals(where: Path | str) -> Generator[None, None, None]:
    try:
        yield
    except _REFUSALS as error:
        raise FileFormatError(where, f"ONNX Runtime refuses it: {said(error)}") from error
