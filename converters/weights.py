"""`Weights`: canonical named arrays, checked against the network they belong to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import InitVar, dataclass, replace

import numpy as np

from zoo.arrays import Array
from zoo.errors import WeightsError
from zoo.layers import ModelSpec, Shape
from zoo.shapes import parameter_shapes
from zoo.wire.cores import map_on_cores
from zoo.wire.layout import contiguous
from zoo.wire.mapped import release

# Arrays are scanned in pieces of this many numbers, so that a check never doubles the memory of a memory-mapped file.
_CHUNK = 1 << 20


class Arranged(Mapping[str, Array]):
    """Tensors that a file holds in another order: each is laid out when it is first asked for.

    Args:
        numbers: name -> a view of the file, strided so that its numbers come in the tensor's order; axes that the
            tensor merges may be apart. Finite float32.
        shapes: of the tensors, in the same order.
    """

    def __init__(self, numbers: dict[str, Array], shapes: Mapping[str, Shape]) -> None:
        self._numbers, self.shapes = numbers, shapes

    def __getitem__(self, name: str) -> Array:
        numbers = self._numbers[name]
        if not numbers.flags.c_contiguous:
            self._numbers[name] = contiguous(numbers)
            release(numbers)  # it was copied: hold the file's pages no longer
        return self._numbers[name].reshape(self.shapes[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    def numbers(self, name: str) -> Array:
        """The numbers of one tensor, as they lie in memory."""
        return self._numbers[name]


@dataclass(frozen=True, kw_only=True)
class Weights:
    """The parameters of one network.

    Attributes:
        spec: the network; its ``preprocessing`` is how images were prepared for these very numbers.
        tensors: canonical name (``conv1.weight``) -> float32 array, OIHW or OI, in the spec's order. Read only; often a
            view into a memory-mapped file.
        source: where they came from, for messages and reports.
        finite: the caller has just looked at every number; they are not looked at again.
    """

    spec: ModelSpec
    tensors: Mapping[str, Array]
    source: str
    finite: InitVar[bool] = False

    def __post_init__(self, finite: bool) -> None:
        if isinstance(self.tensors, Arranged) and self.tensors.shapes == parameter_shapes(self.spec):
            return
        problems = list(tensor_problems(parameter_shapes(self.spec), self.tensors, finite=finite))
        if problems:
            raise WeightsError(f"{self.source} as {self.spec.name}", problems)

    def numbers(self, name: str) -> Array:
        """One tensor's numbers for who passes over them once: in its order, but not of its shape or in one piece."""
        return self.tensors.numbers(name) if isinstance(self.tensors, Arranged) else self.tensors[name]

    def with_spec(self, spec: ModelSpec) -> Weights:
        """The same numbers for another spec of the same parameters."""
        return replace(self, spec=spec, finite=True)


def tensor_problems(
    expected: Mapping[str, Shape], tensors: Mapping[str, Array], *, finite: bool = False
) -> Iterator[str]:
    """Everything that is wrong with `tensors`: missing, unknown, misshapen, of another type, or not finite.

    `finite` says that the numbers are known to be so.
    """
    for name, shape in expected.items():
        problem = tensor_problem(name, tensors.get(name), shape, finite=finite)
        if problem:
            yield problem
    for name in tensors:
        if name not in expected:
            yield f"{name} is not a parameter of this network"


def tensor_problem(name: str, tensor: Array | None, shape: Shape, *, finite: bool = False) -> str | None:
    """What is wrong with one tensor, if anything is; `finite` as for `tensor_problems`."""
    if tensor is None:
        return f"{name} is missing (expected {shape})"
    if tensor.shape != shape:
        return f"{name} has shape {tensor.shape}, expected {shape}"
    if tensor.dtype != np.float32:
        return f"{name} is {tensor.dtype}, expected float32"
    return None if finite or all_finite(tensor) else f"{name} holds NaN or Inf"


def all_finite(tensor: Array) -> bool:
    """Whether a tensor holds neither NaN nor Inf."""
    flat = tensor.ravel(order="K")  # in the order of memory: a transposed view needs no copy
    return all(map_on_cores(lambda i: bool(np.isfinite(flat[i : i + _CHUNK]).all()), range(0, flat.size, _CHUNK)))
