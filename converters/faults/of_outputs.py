"""What a network's answer is, where it is not what it should be: a known function of the reference's, by its name.

A layer's own activation says where a network went wrong; its declared answer is what the user gets. A softmax that
became its logarithm, classes in another order, logits divided by a temperature: each is a function of the right
logits, and is told by computing it. How far honest noise of the logits may move a number is carried through every
function as an interval, so that a probability near 0 or 1 excuses nothing and condemns nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from converters.metric import error
from converters.verdicts import DEFAULT_BUDGET, Diagnosis
from converters.weights import Array
from zoo.layers import Layer, Softmax

# The two answers that are right: the layer's own, and, for a softmax, the logits it reads.
IDENTICAL = "identical"
LOGITS = "softmax_lost"

# Below this float32 loses digits, and below exp(_LOWEST) it has no number but 0.
_TINY, _LOWEST = 1e-35, -80.0

# Rows (samples and positions) by which permuted classes are paired; the pairing is then held against all of them.
_ROWS = 16

# So many of them are moved on to make room for one.
_CHAIN = 2

# Fewer numbers than this fit any line.
_ENOUGH = 4

_ADD_IT = "declare the layer's own result as the graph's output"
_SENTENCES: dict[str, tuple[str, str]] = {
    IDENTICAL: ("the answer is the right one", "there is nothing to do"),
    LOGITS: ("the answer is the logits: the softmax is missing", "add it, or compare logits with logits"),
    "softmax_log": (
        "the answer is the logarithm of the probabilities (log-softmax)",
        "use softmax for log-softmax, or exp of the answer; networks trained with NLLLoss end in log-softmax",
    ),
    "softmax_twice": ("the answer is the softmax of the probabilities: softmax was taken twice", "remove one of them"),
    "softmax_axis": (
        "the softmax runs along another axis",
        "take it over the classes: axis 1 in NCHW, the last in NHWC",
    ),
    "softmax_temperature": ("a temperature: the logits were scaled before the softmax", "remove the factor"),
    "softmax_added": (
        "the answer is the softmax of what it should be",
        "remove the softmax, which is not the network's",
    ),
    "sigmoid_for_softmax": ("the answer is the sigmoid of the logits, not their softmax", "use softmax"),
    "output_sigmoid": ("the answer went through a sigmoid", "remove it"),
    "output_exp": ("the answer went through an exponential", "remove the exponential, or divide by its sum"),
    "output_rectified": ("the answer went through a ReLU", "remove it: nothing rectifies the last layer"),
    "output_constant": ("the answer is one number throughout, whatever is fed", _ADD_IT),
    "output_negated": ("the answer's sign is reversed", "remove the negation"),
    "output_scaled": ("the answer is scaled", "remove the factor"),
    "output_shifted": ("the answer is shifted by a constant", "remove what is added"),
    "output_affine": ("the answer is scaled and shifted", "remove both"),
    "output_one_hot": ("the answer is 1 for the best class and 0 for every other", _ADD_IT),
    "output_argmax": ("the answer is the number of the best class (argmax)", _ADD_IT),
    "output_top_k_indices": ("the answer is the numbers of the best classes (top-k)", _ADD_IT),
    "output_top_k": ("the answer is the largest values alone, sorted (top-k)", _ADD_IT),
    "classes_permuted": (
        "the output classes are in another order",
        "reorder the answer, or use the list of classes that belongs to the weights",
    ),
    "classes_left_out": ("the answer holds some of the classes only", "declare all of them"),
    "output_transposed": ("the answer's axes are in another order", "transpose it, or read it so"),
}


@dataclass(frozen=True, kw_only=True)
class _Claim:
    """What the answer would be under one fault.

    Attributes:
        fault: its name.
        value: the answer, float64.
        low, high: how far honest noise may move it.
        also: what to add to the sentence.
    """

    fault: str
    value: Array
    low: Array
    high: Array
    also: str = ""

    def holds(self, y: Array) -> bool:
        """Whether `y`, of the same shape, is it."""
        return y.shape == self.value.shape and bool(((y >= self.low) & (y <= self.high)).all())


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """The right answer, and how exactly it can be known.

    Attributes:
        values: what the last layer gives; what it reads, if it is a softmax. Float64.
        noise: how far each of `values` may honestly be off: (N, 1, ...).
        axis: of the classes.
        softmax: whether the last layer is one.
        budget: relative error that any step may add.
    """

    values: Array
    noise: Array
    axis: int
    softmax: bool
    budget: float

    def bases(self) -> Iterator[_Claim]:
        """The right answer, and the logits behind it."""
        if self.softmax:
            yield self.probabilities(self.axis, IDENTICAL)
        yield _within(LOGITS if self.softmax else IDENTICAL, self.values, self.noise)

    def probabilities(self, axis: int | tuple[int, ...], fault: str, factor: float = 1.0, also: str = "") -> _Claim:
        """The softmax of the values along an axis; noise d of the logits moves a probability by exp(2 d) at most."""
        noise = self.noise if axis == self.axis else self.noise.max(initial=0.0)
        p = _softmax(factor * self.values, axis)
        wide = np.exp(np.minimum(2 * abs(factor) * noise + self.budget, 80.0))
        return _Claim(fault=fault, value=p, low=p / wide - _TINY, high=p * wide + _TINY, also=also)


def explain_output(layer: Layer, values: Array, observed: Array, *, budget: float = DEFAULT_BUDGET) -> Diagnosis | None:
    """Which known function of the right answer a declared output is.

    Args:
        layer: the network's last layer.
        values: what it gives; what it *reads* (the logits) if it is a `Softmax`. N x K or N x K x H x W. The
            reference's, or the subject's own, to judge the tail by itself.
        observed: what the subject declares: any shape, floats or whole numbers.
        budget: relative error that is no difference.

    Returns:
        A diagnosis whose ``fault`` is `IDENTICAL` for the right answer, `LOGITS` for the logits in place of the
        probabilities, and else a fault; `rivals` are others that give the same numbers here. None where nothing known
        explains the answer, it is not finite throughout, or `values` are not.
    """
    z, y = np.asarray(values, np.float64), np.asarray(observed).astype(np.float64)
    if z.ndim < 2 or not z.size or not y.size or not np.isfinite(z).all() or np.isnan(y).any():
        return None
    peaks = np.abs(z).max(axis=tuple(range(1, z.ndim)), keepdims=True)
    softmax = isinstance(layer, Softmax)
    axis = layer.axis % z.ndim if isinstance(layer, Softmax) else 1
    answer = _Answer(values=z, noise=budget * peaks, axis=axis, softmax=softmax, budget=budget)
    y = y.reshape(z.shape) if np.squeeze(y).shape == np.squeeze(z).shape else y
    bases = list(answer.bases())
    right = next((base for base in bases if base.holds(y)), None)
    if right is not None:
        return _diagnosis(layer.name, [right], y)
    for kind in (_functions, _fitted, _lines, _ranks, _axes, _classes):
        found = [claim for claim in kind(answer, bases, y) if claim.holds(y)]
        if found:
            return _diagnosis(layer.name, found, y)
    return None


def _diagnosis(layer: str, found: Sequence[_Claim], y: Array) -> Diagnosis:
    best, *rivals = found
    names = list(dict.fromkeys(claim.fault for claim in rivals if claim.fault != best.fault))
    sentence, remedy = _SENTENCES[best.fault]
    also = f" ({best.also})" if best.also else ""
    other = "".join(f"; or, with the same numbers here, {_SENTENCES[name][0]}" for name in names)
    finite = np.isfinite(best.value) & np.isfinite(y)
    left = error(np.where(finite, y, 0.0), np.where(finite, best.value, 0.0), fallback=1.0)[0]
    return Diagnosis(
        fault=best.fault,
        layer=layer,
        message=f"{layer}: {sentence}{also}{other}",
        remedy=remedy,
        error=left,
        rivals=tuple(names),
    )


def _within(fault: str, value: Array, by: Array | float, also: str = "") -> _Claim:
    return _Claim(fault=fault, value=value, low=value - by, high=value + by, also=also)


def _softmax(z: Array, axis: int | tuple[int, ...]) -> Array:
    raised = np.exp(z - z.max(axis=axis, keepdims=True))
    return raised / raised.sum(axis=axis, keepdims=True)


def _rising(fault: str, answer: _Answer, function: Callable[[Array], Array], absolute: float = 0.0) -> _Claim:
    """A function of the values that rises everywhere; what lies beyond float32 is infinite."""

    def single(x: Array, sign: float) -> Array:
        y = np.minimum(function(x), np.finfo(np.float64).max / 4)
        y = y + sign * (answer.budget * np.abs(y) + absolute + _TINY)
        return np.where(y > np.finfo(np.float32).max, np.inf, y)

    with np.errstate(over="ignore"):
        low, value, high = (single(answer.values + sign * answer.noise, sign) for sign in (-1.0, 0.0, 1.0))
    return _Claim(fault=fault, value=value, low=low, high=high)


def _functions(answer: _Answer, bases: Sequence[_Claim], y: Array) -> Iterator[_Claim]:
    """Functions without a parameter."""
    z, budget = answer.values, answer.budget
    yield _log_softmax(answer)
    if answer.softmax:
        yield _twice(answer, bases[0])
        yield from _other_axes(answer)
        p = bases[0]
        wide = budget * np.e
        yield _Claim(fault="output_exp", value=np.exp(p.value), low=np.exp(p.low) - wide, high=np.exp(p.high) + wide)
    else:
        yield answer.probabilities(answer.axis, "softmax_added")
    # Runtimes approximate a sigmoid to so much of its peak, which is 1, not of each number.
    yield _rising("sigmoid_for_softmax" if answer.softmax else "output_sigmoid", answer, _sigmoid, absolute=budget)
    yield _rising("output_exp", answer, np.exp)
    yield _rising("output_rectified", answer, lambda x: np.maximum(x, 0.0))
    near = z >= z.max(axis=answer.axis, keepdims=True) - 2 * answer.noise
    alone = near & (near.sum(axis=answer.axis, keepdims=True) == 1)
    yield _Claim(fault="output_one_hot", value=alone * 1.0, low=alone * 1.0, high=near * 1.0)
    yield _within("output_constant", np.full_like(z, y.flat[0]), budget * abs(float(y.flat[0])), f"{y.flat[0]:.6g}")


def _other_axes(answer: _Answer) -> Iterator[_Claim]:
    """The softmax along another axis than the classes'."""
    rank = answer.values.ndim
    for other in range(rank):
        if other != answer.axis:
            yield answer.probabilities(other, "softmax_axis", also=f"along axis {other}, not {answer.axis}")
    if rank > 2:
        every = tuple(range(1, rank))
        yield answer.probabilities(every, "softmax_axis", also="over all of a sample's numbers at once")
    ones = np.ones_like(answer.values)
    yield _within("softmax_axis", ones, answer.budget, "along one that holds a single number: every answer is 1")


def _sigmoid(x: Array) -> Array:
    return 0.5 * (1 + np.tanh(0.5 * x))


def _log_softmax(answer: _Answer) -> _Claim:
    """Also as Log(Softmax), whose smallest numbers are the logarithm of 0."""
    z, axis = answer.values, answer.axis
    top = z.max(axis=axis, keepdims=True)
    value = z - top - np.log(np.exp(z - top).sum(axis=axis, keepdims=True))
    # A softmax close to 1 keeps seven digits of itself, not of its logarithm.
    wide = 2 * answer.noise + answer.budget * np.maximum(np.abs(value).max(axis=axis, keepdims=True), 1.0)
    small = value < _LOWEST
    low, high = np.where(small, -np.inf, value - wide), np.where(small, value + wide + 1.0, value + wide)
    return _Claim(fault="softmax_log", value=value, low=low, high=high)


def _twice(answer: _Answer, p: _Claim) -> _Claim:
    again = _softmax(p.value, answer.axis)
    off = np.minimum(np.maximum(p.high - p.value, p.value - p.low).max(axis=answer.axis, keepdims=True), 1.0)
    wide = np.exp(2 * off + answer.budget)
    return _Claim(fault="softmax_twice", value=again, low=again / wide, high=again * wide)


def _fitted(answer: _Answer, bases: Sequence[_Claim], y: Array) -> Iterator[_Claim]:
    """Functions whose one number is found by least squares."""
    if y.shape != answer.values.shape or y.size < _ENOUGH or not np.isfinite(y).all():
        return
    if answer.softmax:
        yield from _temperature(answer, y)
    for base in bases:
        noise, right = _noise(answer, base), _called(answer, base)
        power = float((base.value**2).sum())
        factor = float((base.value * y).sum()) / power if power else 0.0
        shift = float((y - base.value).mean())
        negated = bool((np.abs(base.value + y) <= noise).all())
        if negated:
            yield _within("output_negated", -base.value, noise, f"-1 times {right}")
        elif factor and abs(factor - 1) > answer.budget:  # or else nothing was done but noise
            told = f"{factor:.5g} times {right}"
            yield _within("output_scaled", factor * base.value, abs(factor) * noise, told)
        if np.any(abs(shift) > noise):
            yield _within(
                "output_shifted", base.value + shift, noise + answer.budget * abs(shift), f"{right} {shift:+.5g}"
            )


def _lines(answer: _Answer, bases: Sequence[_Claim], y: Array) -> Iterator[_Claim]:
    """Scaled and shifted."""
    if y.shape != answer.values.shape or y.size < _ENOUGH or not np.isfinite(y).all():
        return
    for base in bases:
        risen = base.value - base.value.mean()
        spread = float((risen**2).sum())
        slope = float((risen * y).sum()) / spread if spread else 0.0
        start = float((y - slope * base.value).mean())
        if slope and (abs(slope - 1) > answer.budget or np.any(abs(start) > _noise(answer, base))):
            noise = abs(slope) * _noise(answer, base) + answer.budget * abs(start)
            told = f"{slope:.5g} times {_called(answer, base)}, {start:+.5g}"
            yield _within("output_affine", slope * base.value + start, noise, told)


def _noise(answer: _Answer, base: _Claim) -> Array:
    return np.maximum(base.high - base.value, base.value - base.low) + answer.budget * np.abs(base.value)


def _called(answer: _Answer, base: _Claim) -> str:
    if not answer.softmax:
        return "what it should be"
    return "the logits" if base.fault == LOGITS else "the probabilities"


def _temperature(answer: _Answer, y: Array) -> Iterator[_Claim]:
    """softmax(z / t): the logarithms of probabilities differ as the logits do, 1 / t times."""
    shown = y > _TINY
    if (y < 0).any() or not shown.any():
        return
    top = answer.values.argmax(axis=answer.axis, keepdims=True)
    logs = np.log(np.where(shown, y, 1.0))
    z = answer.values - np.take_along_axis(answer.values, top, answer.axis)
    rise = logs - np.take_along_axis(logs, top, answer.axis)
    use = shown & np.take_along_axis(shown, top, answer.axis)
    if np.count_nonzero(z[use]) < _ENOUGH:
        return
    power = float((z * z)[use].sum())
    factor = float((z * rise)[use].sum()) / power if power else 0.0
    if factor:
        told = f"divided by {1 / factor:.6g}"
        yield answer.probabilities(answer.axis, "softmax_temperature", factor, told)


def _ranks(answer: _Answer, bases: Sequence[_Claim], y: Array) -> Iterator[_Claim]:
    """The best classes: their numbers, or their values alone."""
    z = np.moveaxis(answer.values, answer.axis, -1)
    rows = z.reshape(-1, z.shape[-1])
    count = y.size // len(rows)
    if y.size % len(rows) or not 0 < count <= rows.shape[1] or len(y) != len(answer.values):
        return
    laid = y.reshape(len(rows), 1) if count == 1 else np.moveaxis(y, min(answer.axis, y.ndim - 1), -1)
    if laid.shape[-1] != count:
        return
    laid = laid.reshape(len(rows), count)
    descending = -np.sort(-rows, axis=1)[:, :count]
    noise = np.broadcast_to(answer.noise, answer.values.shape).max(axis=answer.axis).reshape(-1, 1)
    whole = np.isfinite(laid).all() and bool(((laid == np.round(laid)) & (laid >= 0) & (laid < rows.shape[1])).all())
    if whole:
        picked = np.take_along_axis(rows, laid.astype(np.int64), axis=1)
        distinct = all(len(set(row)) == count for row in laid.tolist())
        if distinct and bool((np.abs(picked - descending) <= 2 * noise).all()):
            yield _within("output_argmax" if count == 1 else "output_top_k_indices", y, 0.0)
    for base in bases if 1 < count < rows.shape[1] else ():
        ordered = [np.moveaxis(part, answer.axis, -1).reshape(rows.shape) for part in (base.low, base.high)]
        low, high = (-np.sort(-part, axis=1)[:, :count] for part in ordered)
        if bool(((laid >= low) & (laid <= high)).all()):
            yield _Claim(fault="output_top_k", value=y, low=y, high=y, also=f"{count} of {rows.shape[1]}")


def _axes(_: _Answer, bases: Sequence[_Claim], y: Array) -> Iterator[_Claim]:
    """The right numbers, with their axes in another order."""
    names = "NC" if y.ndim == 2 else "NCHW"
    for base in bases:
        for order in permutations(range(y.ndim)) if y.ndim == base.value.ndim <= len(names) else ():
            value, low, high = (part.transpose(order) for part in (base.value, base.low, base.high))
            told = ", ".join(names[i] for i in order)
            yield _Claim(fault="output_transposed", value=value, low=low, high=high, also=told)


def _classes(answer: _Answer, bases: Sequence[_Claim], y: Array) -> Iterator[_Claim]:
    """The right numbers, with the classes in another order, or some of them."""
    axis, shape = answer.axis, answer.values.shape
    if y.ndim != len(shape) or [*y.shape[:axis], *y.shape[axis + 1 :]] != [*shape[:axis], *shape[axis + 1 :]]:
        return
    if y.shape[axis] > shape[axis]:
        return
    candidates = [*bases, _log_softmax(answer)] if answer.softmax else bases
    for base in candidates:
        order = _order(base, y, axis)
        if order is None:
            continue
        value, low, high = (part.take(order, axis=axis) for part in (base.value, base.low, base.high))
        moved = [(k, int(place)) for k, place in enumerate(order) if k != place]
        pairs = ", ".join(f"{k} holds {place}" for k, place in moved[:3])
        some = len(order) < shape[axis]
        of = {LOGITS: "; of the logits", "softmax_log": "; of the log-probabilities"}.get(base.fault, "")
        yield _Claim(
            fault="classes_left_out" if some else "classes_permuted",
            value=value,
            low=low,
            high=high,
            also=f"{pairs}{', ...' if len(moved) > 3 else ''}{of if answer.softmax else ''}",
        )


def _order(base: _Claim, y: Array, axis: int) -> Array | None:
    """Which right class each observed one is; None where one is none of them. Equal ones stay in their places."""
    low, high, value, ours = (
        np.moveaxis(part, axis, -1).reshape(-1, part.shape[axis]) for part in (base.low, base.high, base.value, y)
    )
    rows = np.unique(np.linspace(0, len(ours) - 1, min(_ROWS, len(ours))).astype(np.int64))
    low, high, value, ours = low[rows], high[rows], value[rows], ours[rows]
    scale = np.maximum(high - low, np.finfo(np.float64).tiny)
    # What may be where it belongs is left there; only the rest is looked for.
    count = ours.shape[1]
    stays = ((ours >= low[:, :count]) & (ours <= high[:, :count])).all(axis=0)
    order = np.where(stays, np.arange(count), -1)
    owner = np.full(value.shape[1], -1, np.int64)
    owner[:count] = order

    def settled(k: int, chain: int) -> bool:
        """Give class k a place, moving others on where theirs is the only one it can have."""
        column = ours[:, k : k + 1]
        places = np.flatnonzero(((column >= low) & (column <= high)).all(axis=0))
        places = places[places != order[k]]
        far = np.where(np.isfinite(value[:, places]), np.abs(column - value[:, places]) / scale[:, places], 0.0)
        places = places[np.lexsort((far.max(axis=0, initial=0.0), owner[places] >= 0))]
        for place in places:
            if owner[place] < 0 or (chain and settled(int(owner[place]), chain - 1)):
                owner[place], order[k] = k, place
                return True
        return False

    return order if all(settled(int(k), _CHAIN) for k in np.flatnonzero(~stays)) else None
