"""What the proof says of wrong graphs, and of right ones written otherwise; the truth is ONNX Runtime's."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from tests.mutant_edits import RULES
from tests.mutants import NOT_SEEN_THROUGH, Judge, Mutant, Result, described, distance, every, sample, tried

pytestmark = pytest.mark.slow

# Of some 40,000; `python -m benchmarks mutants` tries thousands.
COUNT = 200


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> list[Mutant]:
    return every(tmp_path_factory.mktemp("mutants"))


@pytest.fixture(scope="module")
def results(everything: list[Mutant], tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    return list(tried(sample(everything, COUNT), tmp_path_factory.mktemp("tried")))


def told(results: list[Result]) -> str:
    return "\n".join(map(described, results))


def test_no_wrong_graph_passes(results: list[Result]) -> None:
    wrong = [result for result in results if result.passed_falsely]
    assert not wrong, told(wrong)


def test_no_right_graph_fails(results: list[Result]) -> None:
    wrong = [result for result in results if result.failed_falsely]
    assert not wrong, told(wrong)


def test_nothing_crashes(results: list[Result]) -> None:
    crashed = [result for result in results if result.said == "crash"]
    assert not crashed, told(crashed)


def test_no_wrong_graph_is_called_identical_by_structure(results: list[Result]) -> None:
    wrong = [result for result in results if result.identical_falsely]
    assert not wrong, told(wrong)


def test_what_is_written_otherwise_is_identical_by_structure(results: list[Result]) -> None:
    wrong = [result for result in results if result.unlike_falsely]
    assert not wrong, told(wrong)
    equal = [result for result in results if result.mutant.rule.kind == "equal"]
    # torch.onnx folds statistics into weights, which rounds them; changes inside its normalisations are not read.
    own = [r for r in equal if " own" in r.mutant.graph.name and not r.mutant.change.site.endswith(NOT_SEEN_THROUGH)]
    rounded = [r for r in own if r.read == "rounded"]
    assert {r.mutant.rule.name for r in rounded} <= {"BatchNorm folded into the convolution"}, told(rounded)
    assert len(own) > COUNT / 20 and all(r.read in ("identical", "rounded") for r in own), told(own)
    assert sum(r.read == "identical" for r in equal) > len(equal) / 2


def test_a_difference_is_placed_where_the_graph_was_changed(results: list[Result]) -> None:
    placed = [result for result in results if result.located is not None]
    missed = [result for result in placed if not result.located]
    assert len(placed) > COUNT / 8
    assert len(missed) <= 0.1 * len(placed), told(missed)


# The instrument itself


def test_the_sample_holds_every_rule_and_every_truth(results: list[Result]) -> None:
    truths = Counter(result.truth for result in results)
    assert {result.mutant.rule.name for result in results} == set(RULES)
    assert truths["differs"] > COUNT / 4 and truths["same"] > COUNT / 4, truths
    assert truths["cannot run"] > 5 and truths["logits"] > 1, truths
    assert truths["ambiguous"] < COUNT / 10, truths


def test_what_is_written_otherwise_is_the_same_for_onnx_runtime(results: list[Result]) -> None:
    other = [result for result in results if result.mutant.rule.kind == "equal" and result.truth != "same"]
    assert not other, told(other)


def test_every_mutant_has_a_name_of_its_own_and_layers_to_be_placed_at(everything: list[Mutant]) -> None:
    names = Counter(mutant.id for mutant in everything)
    assert not [name for name, count in names.items() if count > 1]
    nowhere = {mutant.id for mutant in everything if mutant.change.at and not mutant.places()}
    assert not nowhere, nowhere


def test_the_truth_of_a_change_that_is_known(everything: list[Mutant]) -> None:
    known = {
        "two_inputs own: operator after a node: fc2, Neg": "differs",
        "two_inputs own: operator after a node: relu, Relu": "same",
        "two_inputs own: operators that do nothing: fc2, Mul 2, Mul 0.5": "same",
        "two_inputs own: operator that cannot run: fc2, unknown operator": "cannot run",
        "two_inputs own: it stops at its logits: prob, its name kept": "mislabelled",
        "two_inputs own: it stops at its logits: prob, the logits declared": "logits",
        "two_inputs own: outputs renamed, exchanged, lost or added: prob renamed": "differs",
        "two_inputs own: outputs renamed, exchanged, lost or added: fc2 added": "more",
        "two_inputs own: inputs exchanged or added: names exchanged": "differs",
        "two_inputs own: another order: inputs": "same",
    }
    found = {mutant.id: mutant for mutant in everything if mutant.id in known}
    judge = Judge(found[next(iter(known))].graph)
    truths = {name: judge.truth(found[name], found[name].model())[0] for name in known}
    assert truths == known


def test_a_distance_is_relative_to_the_channel_and_to_the_logits() -> None:
    right = np.array([[1000.0, 0.001], [-1000.0, 0.002]], np.float32)
    quiet = right.copy()
    quiet[0, 1] += 0.001
    assert distance(quiet, right) == pytest.approx(0.5, rel=1e-4)
    assert distance(right.astype(np.float64), right) == distance(right[:1], right) == float("inf")
    logits = np.array([[0.0, 10.0]], np.float32)
    odds = np.exp(logits.astype(np.float64))
    softmax, other = (odds / odds.sum()).astype(np.float32), (odds / (odds.sum() + 5)).astype(np.float32)
    assert distance(softmax, softmax, logits) == 0
    assert distance(other, softmax, logits) == pytest.approx(np.log((odds.sum() + 5) / odds.sum()) / 10, rel=1e-2)


def test_a_result_is_false_where_the_proof_and_the_truth_part(results: list[Result]) -> None:
    some = replace(results[0], told="", truth="differs")
    assert replace(some, said="passed").passed_falsely and not replace(some, said="failed").passed_falsely
    assert replace(some, truth="cannot run", said="passed").passed_falsely
    assert replace(some, truth="same", said="unavailable").failed_falsely
    assert replace(some, truth="logits", said="passed").passed_falsely
    excused = replace(some, truth="logits", said="passed", told="it stops at fc8")
    assert not excused.passed_falsely and not excused.failed_falsely
    assert replace(excused, truth="more").passed_falsely
    assert replace(some, truth="mislabelled", said="failed", fault="unknown").failed_falsely
    assert not replace(some, truth="mislabelled", said="failed", fault="softmax_lost").failed_falsely
    assert not replace(some, truth="ambiguous", said="passed").passed_falsely
    assert replace(some, read="identical").identical_falsely and replace(some, read="rounded").identical_falsely
    assert not replace(some, read="differs").identical_falsely
    assert not replace(some, truth="same", read="identical").identical_falsely
