"""Weight sharing in a prototxt, ``param { name }``: blobs of one name are one memory (BVLC caffe, ``net.cpp``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from zoo.axes import shape_text
from zoo.layers import Shape, Tie
from zoo.wire.prototxt import Message, PrototxtError

# The third blob of a BatchNorm divides the other two; it is no parameter of its own.
FACTOR = "factor"


@dataclass(frozen=True, kw_only=True)
class _Blob:
    parameter: str
    shape: Shape  # as Caffe has it
    transposed: bool
    param: Message

    @property
    def layer(self) -> str:
        return self.parameter.rpartition(".")[0]


@dataclass
class Sharing:
    """The blobs of a network that have names."""

    blobs: dict[str, list[_Blob]] = field(default_factory=dict[str, "list[_Blob]"])

    def add(
        self,
        layer: str,
        message: Message,
        shapes: Sequence[tuple[str, Shape]],
        *,
        transposed: bool = False,
        family: str = "",
    ) -> None:
        """The ``param`` blocks of a layer.

        Args:
            layer: its name.
            message: its text.
            shapes: its blobs in Caffe's order: which parameter (or `FACTOR`), and the canonical shape.
            transposed: whether the first lies the other way round in Caffe.
            family: of layers that are one in Caffe, and so share all their blobs, whether they have names or not.
        """
        params = message.messages("param")
        if len(params) > len(shapes):
            raise PrototxtError(message.line, f"has {len(params)} param blocks, but {len(shapes)} blobs")
        for i, (kind, shape) in enumerate(shapes):
            param = params[i] if i < len(params) else Message()
            name = param.string("name") or (f"{family}.{kind}" if family else "")
            turned = transposed and i == 0
            blob = _Blob(
                parameter=f"{layer}.{kind}", shape=shape[::-1] if turned else shape, transposed=turned, param=param
            )
            if name:
                self.blobs.setdefault(name, []).append(blob)
                _check_twin(name, self.blobs[name])

    def ties(self) -> tuple[Tie, ...]:
        """The names that several blobs have; raises `PrototxtError` for a BatchNorm that shares only some of its."""
        shared = {name: blobs for name, blobs in self.blobs.items() if len(blobs) > 1}
        factors = [{blob.layer for blob in blobs} for blobs in shared.values() if _kind(blobs[0]) == FACTOR]
        for name, blobs in shared.items():
            if _kind(blobs[0]) in ("mean", "variance") and {blob.layer for blob in blobs} not in factors:
                raise PrototxtError(
                    blobs[1].param.line,
                    f"layer {blobs[1].layer!r} shares the blob {name!r}, but not all three blobs of a BatchNorm, the"
                    " factor included; share all of them, or none",
                )
        return tuple(
            Tie(name=name, parameters=tuple(blob.parameter for blob in blobs))
            for name, blobs in shared.items()
            if _kind(blobs[0]) != FACTOR
        )


def _kind(blob: _Blob) -> str:
    return blob.parameter.rpartition(".")[2]


def _check_twin(name: str, blobs: list[_Blob]) -> None:
    """Refuse a blob that cannot be the same memory as the first of its name."""
    owner, twin = blobs[0], blobs[-1]
    of_both = f"{twin.parameter} and {owner.parameter} share the name {name!r}, but"
    if (
        twin.shape != owner.shape
        or twin.transposed != owner.transposed
        or (_kind(twin) == FACTOR) != (_kind(owner) == FACTOR)
    ):
        sizes = " and ".join(shape_text(blob.shape) for blob in (twin, owner))
        raise PrototxtError(twin.param.line, f"{of_both} not the shape: {sizes}")
    for rate in ("lr_mult", "decay_mult"):
        said = [blob.param.number(rate, 1.0) for blob in blobs if rate in blob.param]
        if len(set(said)) > 1:
            raise PrototxtError(twin.param.line, f"{of_both} {rate} is {said[-1]:g} and {said[0]:g}")
