"""In what two networks in the common form differ, in words: what is wrong by itself, not what only reads it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from zoo.arrays import Array
from zoo.axes import shape_text
from zoo.canonical.form import Form, Step
from zoo.canonical.numbering import Same
from zoo.show import ABSENT, Difference, field_differences

# What the numbers of a role are called.
_NUMBERS = {"weight": "weights", "bias": "biases", "slope": "slopes", "mean": "means", "variance": "variances"}


def differing(ours: Form, theirs: Form, same: Same, inputs: Sequence[int] = ()) -> Iterator[Difference]:
    """Every fact in which `theirs` is another network than ours; none where none can be told.

    Args:
        ours: the right network.
        theirs: the other.
        same: whether two steps of one key have the same parameters.
        inputs: which of our inputs each of theirs is; left out, they are in the same order.
    """
    pairing = _Pairing(ours=ours, theirs=theirs, same=same)
    pairing.partners = {-1 - i: -1 - other for i, other in enumerate(inputs or range(len(theirs.spec.inputs)))}
    for left, right in pairing.pairs():
        yield from _told(pairing, left, right)
    for at, other in zip(ours.outputs, theirs.outputs, strict=False):
        if pairing.partners.get(other) != at:
            yield Difference(layer=_name(ours, at), what="output", left=_name(ours, at), right=_name(theirs, other))


@dataclass(kw_only=True)
class _Pairing:
    """Finds for each of their steps the one of ours that it stands for.

    Attributes:
        ours, theirs, same: as for `differing`.
        partners: their place -> ours.
        gone: the place of a step of ours that they have not -> what stands for it.
    """

    ours: Form
    theirs: Form
    same: Same
    partners: dict[int, int] = field(default_factory=dict[int, int])
    gone: dict[int, int] = field(default_factory=dict[int, int])

    def pairs(self) -> Iterator[tuple[int | None, int | None]]:
        """Our place and theirs; None where one side has no such step."""
        free, readers = dict.fromkeys(range(len(self.ours.steps))), self._readers(self.ours)
        others = self._readers(self.theirs)
        for at, step in enumerate(self.theirs.steps):
            wanted = self.wanted(step)
            options = [o for o in free if self.reads(o) == wanted] if None not in wanted else []
            found = self._alike(options, step)
            if found is None:
                instead = [
                    o for o in options if self._kinds(self.ours, readers[o]) == self._kinds(self.theirs, others[at])
                ]
                kind = step.part.key[0]
                behind = [(o, r) for o in options if wanted for r in readers[o] if r in free and self._kind(r) == kind]
                if not instead and behind:
                    lost, found = behind[0]
                    self.gone[lost] = self.reads(lost)[0]
                    del free[lost]
                    yield lost, None
                else:
                    found = instead[0] if instead else self._elsewhere(free, step)
            if found is not None:
                del free[found]
                self.partners[at] = found
            else:
                self.partners[at] = next((place for place in wanted if place is not None), -1)
            yield found, at
        for lost in free:
            yield lost, None

    def wanted(self, step: Step) -> tuple[int | None, ...]:
        """The steps of ours that one of theirs should read, as far as they are known."""
        wanted = tuple(self.partners.get(read) for read in step.reads)
        return tuple(sorted(wanted, key=lambda at: -1 if at is None else at)) if step.part.commutes else wanted

    def reads(self, at: int) -> tuple[int, ...]:
        """What a step of ours reads, seen through those that they have not."""
        step = self.ours.steps[at]
        found = tuple(map(self._seen_through, step.reads))
        return tuple(sorted(found)) if step.part.commutes else found

    def _seen_through(self, at: int) -> int:
        while at in self.gone:
            at = self.gone[at]
        return at

    def _alike(self, options: Sequence[int], step: Step) -> int | None:
        """The most like of some steps of ours that read the same."""
        steps = [(at, self.ours.steps[at]) for at in options]
        equal = [at for at, other in steps if other.part.key == step.part.key]
        exact = [at for at in equal if len(equal) > 1 and self.same(step, self.ours.steps[at])]
        kinds = [at for at, other in steps if other.part.key[0] == step.part.key[0]]
        return next(iter([*exact, *equal, *kinds]), None)

    def _elsewhere(self, free: dict[int, None], step: Step) -> int | None:
        """A step with the same parameters that reads something else: of those that have any, or read several."""
        if not step.part.parameters and len(step.reads) < 2:
            return None
        equal = [at for at in free if self.ours.steps[at].part.key == step.part.key]
        return next((at for at in equal if self.same(step, self.ours.steps[at])), None)

    def _kind(self, at: int) -> object:
        return self.ours.steps[at].part.key[0]

    @staticmethod
    def _kinds(form: Form, places: Sequence[int]) -> set[object]:
        return {form.steps[at].part.key[0] for at in places}

    @staticmethod
    def _readers(form: Form) -> dict[int, list[int]]:
        found = defaultdict[int, list[int]](list)
        for at, step in enumerate(form.steps):
            for read in step.reads:
                found[read].append(at)
        return found


def _told(pairing: _Pairing, left: int | None, right: int | None) -> Iterator[Difference]:
    if left is None or right is None:
        form, at = (pairing.ours, left) if right is None else (pairing.theirs, right)
        step = form.steps[at or 0]
        kinds = (_kind(step), ABSENT) if right is None else (ABSENT, _kind(step))
        yield Difference(layer=step.layer.name, what="layer", left=kinds[0], right=kinds[1])
        return
    ours, theirs = pairing.ours.steps[left], pairing.theirs.steps[right]
    name = ours.layer.name
    if ours.part.key[0] != theirs.part.key[0]:
        yield Difference(layer=name, what="layer", left=_kind(ours), right=f"{_kind(theirs)} ({theirs.layer.name})")
    elif ours.part.key != theirs.part.key:
        yield from _fields(ours, theirs)
    elif not pairing.same(theirs, ours):
        mine, others = ours.part.parameters, theirs.part.parameters
        for role in {**mine, **others}:
            yield from numbers(name, role, mine.get(role), others.get(role))
    elif pairing.wanted(theirs) != pairing.reads(left):
        sides = ((pairing.ours, ours), (pairing.theirs, theirs))
        reads = [", ".join(_name(form, at) for at in step.reads) for form, step in sides]
        yield Difference(layer=name, what="reads", left=reads[0], right=reads[1])


def _kind(step: Step) -> str:
    kind = type(step.layer).__name__
    return "bias" if step.part.key[0] == "bias" != kind.lower() else kind


def _fields(ours: Step, theirs: Step) -> Iterator[Difference]:
    name, told = ours.layer.name, list[Difference]()
    if type(ours.layer) is type(theirs.layer):
        told = [item for item in field_differences(name, ours.layer, theirs.layer) if item.what != "bias"]
    words = [" ".join(map(str, step.part.key[1:])) for step in (ours, theirs)]
    yield from told or [Difference(layer=name, what="form", left=words[0], right=words[1])]


def numbers(layer: str, role: str, ours: Array | None, theirs: Array | None) -> Iterator[Difference]:
    """How many numbers of a parameter differ, and the first of them."""
    what = _NUMBERS.get(role, role)
    if ours is None or theirs is None or theirs.shape != ours.shape:
        sizes = ["none" if array is None else shape_text(array.shape) for array in (ours, theirs)]
        yield Difference(layer=layer, what=what, left=sizes[0], right=sizes[1])
        return
    wrong = ours.view(np.uint32) != theirs.view(np.uint32)
    if wrong.any():
        first = np.unravel_index(int(wrong.argmax()), wrong.shape)
        count = f"{np.count_nonzero(wrong):,} of {ours.size:,} {what} differ, first at [{', '.join(map(str, first))}]:"
        yield Difference(layer=layer, what=count, left=f"{ours[first]:.9g}", right=f"{theirs[first]:.9g}")


def _name(form: Form, at: int) -> str:
    return form.steps[at].layer.name if at >= 0 else form.spec.inputs[-1 - at].name
