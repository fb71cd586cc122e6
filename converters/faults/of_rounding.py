"""What float32 itself gets wrong: nobody's fault, and no fault of a file."""

from __future__ import annotations

import numpy as np

from converters.faults.case import Case, left_by
from converters.faults.of_norms import running_sum
from converters.faults.types import Edit, evaluate
from converters.metric import OF_ONE, error
from converters.verdicts import DEFAULT_BUDGET, Diagnosis
from converters.weights import Array
from zoo import reference as oracle
from zoo.layers import LRN, Layer, Sigmoid, TanH, Unary

# A function that is next to 0 somewhere, made of terms near 1 by way of exp.
BY_EXP = "rounding_of_exp"

# Numbers too small for float32 to hold in full, which runtimes take for 0.
DENORMAL = "denormals_taken_for_zero"


def float32_alone(layer: Layer, read: Array, observed: Array, *, budget: float = DEFAULT_BUDGET) -> Diagnosis | None:
    """Whether a layer is off by float32's own error, and by nothing else; arguments as of `running_sum`."""
    if isinstance(layer, LRN):
        return running_sum(layer, read, observed, budget=budget)
    bends = isinstance(layer, TanH | Sigmoid) or (isinstance(layer, Unary) and layer.function == "elu")
    return _by_exp(layer, read, observed, budget) if bends else None


def _by_exp(layer: Layer, read: Array, observed: Array, budget: float) -> Diagnosis | None:
    """Whether all that is wrong is what rounding leaves of 1 - exp(x), which numbers near 0 show in full."""
    if observed.shape != read.shape or not np.isfinite(observed).all():
        return None
    right = oracle.apply(layer, [np.asarray(read, np.float64)], {})
    off, peak = error(observed, right)
    difference = float(np.abs(observed - right).max(initial=0.0))
    of_one = max(1.0, *(abs(number) for number in layer.numbers)) if isinstance(layer, Unary) else 1.0
    if off <= budget or difference > OF_ONE * of_one:
        return None
    return Diagnosis(
        fault=BY_EXP,
        layer=layer.name,
        message=(
            f"{layer.name}: float32's own error: this runtime makes it of numbers near 1, by exp; what rounds them off "
            f"is {off:.1e} of a layer as small as this one ({peak:.1e})"
        ),
        remedy="the file is not at fault; a runtime that has the function itself has no such error",
        error=difference if isinstance(layer, Sigmoid) else off,  # which is of one, however little it gives
    )


def denormals_flushed(case: Case) -> Diagnosis | None:
    """Whether a layer is right but for its denormal parameters, which were taken for 0."""
    for place in case.chain:
        site, changed = case.site(place), dict[str, Array]()
        for name, tensor in site.parameters.items():
            small = (tensor != 0) & (np.abs(tensor) < np.finfo(np.float32).tiny)
            if small.any():
                changed[name] = np.where(small, np.float32(0), tensor)
        if not changed:
            continue
        left = left_by(case, place, evaluate(site, Edit(layers=(place,), parameters=changed)))
        if left is not None:
            return Diagnosis(
                fault=DENORMAL,
                layer=place.name,
                message=(
                    f"{place.name}: {' and '.join(changed)} below {np.finfo(np.float32).tiny:.1e}, float32's smallest "
                    "number in full, were taken for 0, as most runtimes do"
                ),
                remedy="the file is not at fault; scale such weights up, and what reads them down",
                error=left,
            )
    return None
