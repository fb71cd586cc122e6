"""Two networks of any form held against each other, for `assert_parity`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from converters.convert import load
from converters.metric import judge
from converters.parity.called import Inputs, as_array, nameless, parameters_of_module, shown, unsteady
from converters.parity.file_subjects import FileSubject, open_subject
from converters.parity.probes import many_probes
from converters.parity.proof import Proof, checked_budget, unexercised
from converters.parity.provenance import hashing, versions
from converters.parity.runtime_subjects import check_runtimes, runtime_subjects
from converters.parity.subjects import Declared, Ran, Subject
from converters.verdicts import BUDGETS, FileFact, Report, SubjectVerdict
from converters.weights import Array, Weights
from zoo.errors import ZooError
from zoo.layers import ModelSpec


def parity_report(a: Any, b: Any, inputs: Inputs, *, budget: float, spec: Any, runtimes: Sequence[str]) -> Report:
    """See `converters.testing.assert_parity`."""
    checked_budget(budget)
    check_runtimes(runtimes)
    is_file = isinstance(a, str | PathLike)
    if spec is not None and not isinstance(spec, ModelSpec):
        raise TypeError(f"spec is {type(spec).__name__}, expected a zoo.layers.ModelSpec")
    if spec is not None and not is_file:
        raise TypeError("spec says which network a file holds, but the first argument is no file; leave it out")
    if is_file or isinstance(a, Weights):
        weights = a if isinstance(a, Weights) else load(Path(a), spec=spec)
        return _against_weights(weights, Path(a) if is_file else None, b, inputs, budget, runtimes)
    if runtimes:
        raise TypeError("runtimes run what is in a file or Weights, but the first argument is neither; leave them out")
    if isinstance(b, str | PathLike | Weights):
        raise TypeError("put the file or Weights first: the first argument is what the other is held against")
    right, found = shown(a, inputs), shown(b, inputs)
    told = {
        name: why for name, one in (("a", a), ("b", b)) if (why := unsteady(one, inputs, right if one is a else found))
    }
    return _activations_report(right, found, budget, told)


def _against_weights(
    right: Weights, path: Path | None, b: Any, inputs: Inputs, budget: float, runtimes: Sequence[str]
) -> Report:
    network, subjects, opened = right.spec, list[Subject](), list[FileSubject]()
    is_live = not isinstance(b, str | PathLike | Weights)
    fed = None if inputs is None else _named(inputs, [source.name for source in network.inputs])
    told = tuple[str, ...]()
    if fed is None and is_live and not isinstance(b, Mapping):
        fed, told = many_probes(network)  # its layers cannot be asked one by one
    proof = Proof(right, inputs=fed, samples=told, budget=budget)
    for source in (path, b):
        if isinstance(source, Weights):
            file = FileSubject(path=Path(source.source), format="canonical", weights=source, parts=())
            subjects.append(file.subject(right))
        elif isinstance(source, str | PathLike):
            opened.append(open_subject(Path(source), None, right))
            subjects.append(opened[-1].subject(right))
        elif source is not None:
            subjects.append(_live(source, network))
    few = list[str]()
    verdicts = [proof.judge(subject) for subject in subjects]
    if is_live:
        few += (f"{verdicts[-1].name} is {told}" for told in unexercised(verdicts[-1].layers))
    verdicts += [proof.judge(subject) for subject in runtime_subjects(runtimes, right, opened)]
    files = hashing([part for file in opened for part in file.parts])
    report = proof.report(verdicts, files=files(), command="assert_parity")
    return replace(report, limits=(*report.limits, *few))


def _live(b: Any, network: ModelSpec) -> Subject:
    """A mapping, module or function as a subject: what it shows is what it declares.

    It must show the network's outputs; other layers that it does not show are not held against it. The weights of a
    module are held to the network's, number by number, wherever its state_dict can be read as theirs.
    """
    theirs, said = parameters_of_module(b, network)

    def feed(inputs: Mapping[str, Array], _: Mapping[str, Array]) -> Ran:
        fed = inputs if len(inputs) > 1 else next(iter(inputs.values()))
        found = shown(b, fed)
        defect = unsteady(b, fed, found)
        known = {layer.name for layer in network.layers}
        strange = [name for name in found if name not in known]
        without_names = strange == nameless(len(found))
        if strange and not without_names:
            raise ZooError(f"{network.name} has no layer {', '.join(strange)}")
        hidden = [layer.name for layer in network.layers if layer.name not in found]
        notes = (f"shows {', '.join(found)} only",) if hidden else ()
        return Ran(
            activations={name: value for name, value in found.items() if name in known},
            declared=tuple(
                Declared(name=name, value=value, layer=name if name in known else None, defect=defect)
                for name, value in found.items()
            ),
            strange=without_names,
            unmatched=frozenset(hidden),
            notes=(*notes, *((said,) if said else ())),
            theirs=theirs,
        )

    return Subject(name=getattr(b, "__name__", type(b).__name__), open=lambda: nullcontext(feed))


def _named(inputs: Mapping[str, Array] | Array, names: Sequence[str]) -> dict[str, Array]:
    if isinstance(inputs, Mapping):
        return {name: as_array(value, name) for name, value in inputs.items()}
    if len(names) != 1:
        raise TypeError(f"the network reads {', '.join(names)}; give inputs as a mapping of these names")
    return {names[0]: as_array(inputs, names[0])}


def _activations_report(
    a: Mapping[str, Array], b: Mapping[str, Array], budget: float, unsteady: Mapping[str, str]
) -> Report:
    """Two sets of activations compared by name, all of them gated; what one of them lacks fails.

    So does what a second run of one of them, ``a`` or ``b``, does not give again; `unsteady` says why.
    """
    if not a:
        raise TypeError("the first mapping holds no activation to compare with")
    layers = [judge(name, b.get(name), np.asarray(right, np.float64), budget) for name, right in a.items()]
    told = ", ".join(f"{name} {why}" for name, why in unsteady.items())
    layers = [replace(layer, ok=False, reason=told) if told else layer for layer in layers]
    extra = [name for name in b if name not in a]
    kinds = [
        f"{name} is {b[name].dtype}, {right.dtype} in the first"
        for name, right in a.items()
        if name in b and b[name].dtype.kind != right.dtype.kind
    ]
    notes = [f"not in the first, and so not compared: {', '.join(extra)}"] if extra else []
    verdict = SubjectVerdict(
        name="b",
        status="passed" if all(layer.ok for layer in layers) else "failed",
        layers=tuple(layers),
        notes=(*notes, *kinds),
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
        unproved=() if any(right.any() for right in a.values()) else ("every activation of the first is zero",),
    )
