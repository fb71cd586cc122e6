"""Steps that compute the same get the same number, in all networks that are counted together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import TypeAlias

from zoo.arrays import Array
from zoo.canonical.form import Form, Step
from zoo.canonical.spelling import Key

Same: TypeAlias = Callable[[Step, Step], bool]


class Numbering:
    """Numbers for the steps of several networks: two have one number only if they are one function of the inputs.

    Args:
        same: whether two steps of one key that read the same have the same parameters.
    """

    def __init__(self, same: Same) -> None:
        self._same, self._next = same, count()
        self._known = defaultdict[Key, list[tuple[Step, int]]](list)

    def of(self, form: Form, inputs: Sequence[int] = ()) -> dict[int, int]:
        """Place -> number, of the inputs and all steps of a network.

        Args:
            form: the network.
            inputs: which input of the first network each of its inputs is; left out, they are in the same order.
        """
        order = inputs or range(len(form.spec.inputs))
        numbers = {-1 - i: -1 - other for i, other in enumerate(order)}
        for at, step in enumerate(form.steps):
            numbers[at] = self._number(step, numbers)
        return numbers

    def _number(self, step: Step, numbers: Mapping[int, int]) -> int:
        known = self._known[(*step.part.key, *_read(step, numbers))]
        for other, number in known:
            if self._same(step, other):
                return number
        known.append((step, next(self._next)))
        return known[-1][1]


def _read(step: Step, numbers: Mapping[int, int]) -> Key:
    """What a step reads, by number, in one order where the order says nothing."""
    reads = [numbers[at] for at in step.reads]
    return tuple(sorted(reads) if step.part.commutes else reads)


def same_parameters(same_bits: Callable[[Array, Array], bool]) -> Same:
    """Whether two steps have the same parameters, told by whether arrays are the same."""

    def same(one: Step, other: Step) -> bool:
        ours, theirs = one.part.parameters, other.part.parameters
        return ours.keys() == theirs.keys() and all(
            ours[role] is theirs[role] or same_bits(ours[role], theirs[role]) for role in ours
        )

    return same
