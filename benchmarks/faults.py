"""Every fault of the catalogue, planted wherever it can be, in several members: how far over the budget, and named?

`python -m benchmarks.faults` runs the members in small; with `--full`, the canonical network at full size as well.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

from benchmarks.measure import table
from converters.faults import FAULTS, diagnose, sites
from converters.parity import DEFAULT_BUDGET, Proof, compare, probe_inputs, probe_weights
from zoo import registry
from zoo.layers import Conv, Dense, Input, ModelSpec, Pool, ReLU, Softmax


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A planted fault: where, how many times over the budget, whether it was named rightly, wrongly, or not at all."""

    layer: str
    over: float
    named: bool
    wrongly: bool


def members() -> dict[str, ModelSpec]:
    """Networks in which, between them, every fault of the catalogue can be."""
    return {
        "alexnet": registry.model("alexnet_mini"),
        "caffenet": _shrunk("caffenet").change("conv1", kernel=(7, 7), stride=(3, 3)).with_input_size(67),
        "2012 code": _shrunk("alexnet_2012_code").with_input_size(70),
        "others": _others(),
    }


def _shrunk(name: str) -> ModelSpec:
    """Eight times fewer maps, 256 hidden features; `members` gives it a size where pools round up."""
    spec = registry.model(name)
    for layer in spec.layers:
        if isinstance(layer, Conv):
            spec = spec.replace_layer(replace(layer, out_channels=layer.out_channels // 8))
        elif isinstance(layer, Dense):
            spec = spec.replace_layer(replace(layer, out_features=256))
    return spec.with_num_classes(10)


def _others() -> ModelSpec:
    """What the family lacks: dilation, a padded pool that rounds down, a slope, twin layers, maps of classes."""
    return ModelSpec(
        name="others",
        title="what the family lacks",
        inputs=(Input(shape=(3, 24, 20)),),
        layers=(
            Conv(name="conv1", out_channels=8, kernel=(3, 3), pad=(1, 1)),
            Pool(name="pool1", mode="max", kernel=(3, 3), stride=(2, 2), pad=(1, 1), rounding="floor"),
            ReLU(name="relu1", negative_slope=0.1),
            Pool(name="pool2", mode="max", kernel=(3, 3), stride=(2, 2), rounding="floor"),
            Conv(name="conv2", out_channels=8, kernel=(3, 3), pad=(2, 2), dilation=(2, 2)),
            Conv(name="conv3", out_channels=8, kernel=(3, 3), pad=(1, 1)),
            Conv(name="classes", out_channels=5, kernel=(1, 1)),
            Softmax(name="prob"),
        ),
    )


def planted(spec: ModelSpec) -> dict[str, list[Outcome]]:
    """Fault -> what became of it in every layer where it changes anything."""
    weights, (inputs, _) = probe_weights(spec), probe_inputs(spec)
    proof, outcomes = Proof(weights), {item.name: list[Outcome]() for item in FAULTS}
    for case in sites(weights, inputs):
        activations = case.forward(inputs)
        verdicts = {v.name: v for v in compare(spec, activations, proof.reference, inputs, DEFAULT_BUDGET)}
        found = diagnose(spec, weights.tensors, inputs, activations, theirs=case.own())
        first = found[0] if found else None
        right = first is not None and first.layer == case.layer and case.fault.name in (first.fault, *first.rivals)
        error = verdicts[case.layer].error
        outcomes[case.fault.name].append(
            Outcome(
                layer=case.layer,
                over=float("inf") if error is None else error / DEFAULT_BUDGET,
                named=right,
                wrongly=not right and first is not None and first.fault != "unknown",
            )
        )
    return outcomes


def main(*, full: bool = False) -> str:
    """The table of docs/measured.md."""
    specs = members() | ({"alexnet, full size": registry.model("alexnet")} if full else {})
    columns = {name: planted(spec) for name, spec in specs.items()}
    rows = list[list[str]]()
    for item in FAULTS:
        cells = [_cell(column[item.name]) for column in columns.values()]
        everywhere = [outcome for column in columns.values() for outcome in column[item.name]]
        rows.append([f"`{item.name}`", item.sentence, *cells, _share(everywhere)])
    total = [outcome for column in columns.values() for outcomes in column.values() for outcome in outcomes]
    wrong = sum(outcome.wrongly for outcome in total)
    text = table(["fault", "what went wrong", *columns, "named"], rows)
    return (
        f"{text}\n\nThe least visible planting of each fault, as a multiple of the budget ({DEFAULT_BUDGET:g} of the "
        "layer's peak); *shape* where the output has another size. "
        f"{_share(total)} plantings named rightly, {wrong} wrongly."
    )


def _cell(outcomes: list[Outcome]) -> str:
    if not outcomes:
        return ""
    least = min(outcomes, key=lambda outcome: outcome.over)
    return "shape" if least.over == float("inf") else f"{least.over:,.0f}x {least.layer}"


def _share(outcomes: list[Outcome]) -> str:
    return f"{sum(outcome.named for outcome in outcomes)} of {len(outcomes)}"


if __name__ == "__main__":
    print(main(full="--full" in sys.argv))
