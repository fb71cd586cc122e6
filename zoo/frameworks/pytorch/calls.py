"""A layer as one call of a module: what is run and what is printed are the same, so the two cannot drift apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from zoo.layers import Pair
from zoo.shapes import Window


@dataclass(frozen=True, kw_only=True)
class Call:
    """A layer as ``make(*args, **options)``, applied to its inputs: as they are, as one list, or flattened."""

    make: type[nn.Module]
    args: tuple[object, ...] = ()
    options: Mapping[str, object] = field(default_factory=dict[str, object])
    flatten: int | None = None  # from this axis on
    listed: bool = False  # however many there are, which torch.jit.script takes as a list alone

    @property
    def own(self) -> bool:
        """Whether the module is ours, because ``torch.nn`` has none such: its text is copied into what is printed."""
        return not self.make.__module__.startswith("torch.")

    def module(self) -> nn.Module:
        """The call, run."""
        return self.make(*self.args, **self.options)

    def text(self) -> str:
        """The call, printed."""
        package = "" if self.own else "nn."
        arguments = [repr(value) for value in self.args]
        arguments += [f"{name}={value!r}" for name, value in self.options.items()]
        return f"{package}{self.make.__name__}({', '.join(arguments)})"

    def apply(self, module: nn.Module, inputs: Sequence[Tensor]) -> Tensor:
        """The layer's `module`, run on its inputs."""
        if self.listed:
            return module(list(inputs))
        return module(*inputs) if self.flatten is None else module(inputs[0].flatten(self.flatten))

    def apply_text(self, module: str, inputs: Sequence[str]) -> str:
        """`apply`, printed."""
        flat = "" if self.flatten is None else f".flatten({self.flatten})"
        given = f"[{', '.join(inputs)}]" if self.listed else ", ".join(inputs)
        return f"{module}({given}{flat})"


def unless(default: bool, **options: object) -> dict[str, object]:
    """Options that are only worth writing where they are not the default."""
    return {} if default else options


def short(pair: Pair) -> int | Pair:
    """One number where both sides are equal."""
    return pair[0] if pair[0] == pair[1] else pair


def pads(place: Window) -> tuple[int, int, int, int]:
    """(left, right, top, bottom), as `torch.nn.functional.pad` takes them; rows no window reads need none."""
    (top, bottom), (left, right) = place.pads
    return (left, right, top, bottom)
