"""Two networks of any form held against each other, for `assert_parity`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import nullcontext
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np

from converters.convert import load
from converters.metric import judge
from converters.parity.file_subjects import FileSubject, open_subject
from converters.parity.proof import Proof, versions
from converters.parity.subjects import Declared, Ran, Subject
from converters.verdicts import BUDGETS, FileFact, Report, SubjectVerdict
from converters.weights import Array, Weights
from zoo.errors import ZooError
from zoo.layers import ModelSpec

# The name of the activation of a function that returns one array.
_OUTPUT = "output"

Inputs: TypeAlias = "Mapping[str, Array] | Array | None"


def parity_report(a: Any, b: Any, inputs: Inputs, *, budget: float, spec: ModelSpec | None) -> Report:
    """See `converters.testing.assert_parity`."""
    if isinstance(a, str | PathLike | Weights):
        weights = a if isinstance(a, Weights) else load(Path(a), spec=spec)
        return _against_weights(weights, None if isinstance(a, Weights) else Path(a), b, inputs, budget)
    if isinstance(b, str | PathLike | Weights):
        raise TypeError("put the file or Weights first: the first argument is what the other is held against")
    return _activations_report(_shown(a, inputs), _shown(b, inputs), budget)


def _against_weights(right: Weights, path: Path | None, b: Any, inputs: Inputs, budget: float) -> Report:
    network, subjects, files = right.spec, list[Subject](), list[Path]()
    fed = None if inputs is None else _named(inputs, [source.name for source in network.inputs])
    proof = Proof(right, inputs=fed, budget=budget)
    for source in (path, b):
        if isinstance(source, Weights):
            file = FileSubject(path=Path(source.source), format="canonical", weights=source, parts=())
            subjects.append(file.subject(right))
        elif isinstance(source, str | PathLike):
            file = open_subject(Path(source), None, right)
            subjects.append(file.subject(right))
            files += file.parts
        elif source is not None:
            subjects.append(_live(source, network))
    return proof.report([proof.judge(subject) for subject in subjects], files=files, command="assert_parity")


def _live(b: Any, network: ModelSpec) -> Subject:
    """A mapping, module or function as a subject: what it shows is what it declares.

    It must show the network's outputs; other layers that it does not show are not held against it.
    """

    def feed(inputs: Mapping[str, Array], _: Mapping[str, Array]) -> Ran:
        shown = _shown(b, inputs if len(inputs) > 1 else next(iter(inputs.values())))
        known = {layer.name for layer in network.layers}
        nameless = {*shown} == {_OUTPUT} and _OUTPUT not in known
        strange = [name for name in shown if name not in known]
        if strange and not nameless:
            raise ZooError(f"{network.name} has no layer {', '.join(strange)}")
        hidden = [layer.name for layer in network.layers if layer.name not in shown]
        notes = (f"shows {', '.join(shown)} only",) if hidden else ()
        return Ran(
            activations={name: value for name, value in shown.items() if name in known},
            declared=tuple(
                Declared(name=name, value=value, layer=name if name in known else None) for name, value in shown.items()
            ),
            strange=nameless,
            unmatched=frozenset(hidden),
            notes=notes,
        )

    return Subject(name=getattr(b, "__name__", type(b).__name__), open=lambda: nullcontext(feed))


def _named(inputs: Mapping[str, Array] | Array, names: list[str]) -> dict[str, Array]:
    if isinstance(inputs, Mapping):
        return {name: _array(value) for name, value in inputs.items()}
    if len(names) != 1:
        raise TypeError(f"the network reads {', '.join(names)}; give inputs as a mapping of these names")
    return {names[0]: _array(inputs)}


def _shown(source: Any, inputs: Inputs) -> dict[str, Array]:
    """Activations: as given, or as a module or function gives them for the inputs."""
    if isinstance(source, Mapping):
        return {str(name): _array(value) for name, value in cast("Mapping[Any, Any]", source).items()}
    if not callable(source):
        raise TypeError(
            f"cannot compare {type(source).__name__}: give a path, Weights, a mapping, a module or a function"
        )
    if inputs is None:
        raise TypeError("a module or function needs inputs to be run on")
    result = _called(source, inputs)
    return _shown(result, None) if isinstance(result, Mapping) else {_OUTPUT: _array(result)}


def _called(source: Any, inputs: Mapping[str, Array] | Array) -> Any:
    torch: Any = sys.modules.get("torch")
    if torch is None or not isinstance(source, torch.nn.Module):
        return source(inputs)
    training = source.training
    arrays = list(inputs.values()) if isinstance(inputs, Mapping) else [inputs]
    source.eval()
    try:
        with torch.no_grad():
            return source(*(torch.as_tensor(np.asarray(array, np.float32)) for array in arrays))
    finally:
        source.train(training)


def _array(value: Any) -> Array:
    """An array, also from a PyTorch tensor that asks for gradients or lies on another device."""
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)


def _activations_report(a: Mapping[str, Array], b: Mapping[str, Array], budget: float) -> Report:
    """Two sets of activations compared by name, all of them gated; what one of them lacks fails."""
    if not a:
        raise TypeError("the first mapping holds no activation to compare with")
    layers = [judge(name, b.get(name), np.asarray(right, np.float64), budget) for name, right in a.items()]
    extra = [name for name in b if name not in a]
    verdict = SubjectVerdict(
        name="b",
        status="passed" if all(layer.ok for layer in layers) else "failed",
        layers=tuple(layers),
        notes=(f"not in the first, and so not compared: {', '.join(extra)}",) if extra else (),
    )
    noise = BUDGETS["float32 on the CPU"]
    return Report(
        model="activations",
        budget=budget,
        noise=(noise.floor_low, noise.floor_high),
        subjects=(verdict,),
        weights="the first mapping",
        versions=versions(),
        files=tuple[FileFact, ...](),
        command="assert_parity",
    )
