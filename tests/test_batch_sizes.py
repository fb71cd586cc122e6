"""A graph that takes any batch is one function for all of them, whatever it makes of their sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from converters.parity import probe_weights
from converters.weights import Weights
from tests.test_onnx_subject import SCORES, behind, store
from tests.test_outputs import verdict


@pytest.fixture
def scores() -> Weights:
    return probe_weights(SCORES)


def _of_shape(graph: Any) -> list[Any]:
    first = store(graph, "first", 0, np.int64)
    return [helper.make_node("Shape", ["data"], ["sizes"]), helper.make_node("Gather", ["sizes", first], ["items"])]


def _of_size(graph: Any) -> list[Any]:
    each = store(graph, "each", np.prod(SCORES.inputs[0].shape), np.int64)
    return [helper.make_node("Size", ["data"], ["all"]), helper.make_node("Div", ["all", each], ["items"])]


def _of_ones(graph: Any) -> list[Any]:
    """Counted, by a sum over the items."""
    each = store(graph, "each", np.prod(SCORES.inputs[0].shape), np.int64)
    return [
        helper.make_node("Equal", ["data", "data"], ["equal"]),
        helper.make_node("Cast", ["equal"], ["ones"], to=7),
        helper.make_node("ReduceSum", ["ones"], ["all"], keepdims=0),
        helper.make_node("Div", ["all", each], ["items"]),
    ]


def _doubled_in(size: int, items: Any) -> Any:
    """The scores times 2 in a batch of one size."""

    def change(graph: Any) -> None:
        graph.node[-1].output[0] = "single"
        numbers = [store(graph, name, value) for name, value in (("two", 2.0), ("one", 1.0))]
        graph.node.extend(items(graph))
        graph.node.append(helper.make_node("Equal", ["items", store(graph, "size", size, np.int64)], ["is_it"]))
        graph.node.append(helper.make_node("Where", ["is_it", *numbers], ["factor"]))
        graph.node.append(helper.make_node("Mul", ["single", "factor"], ["fc"]))

    return change


@pytest.mark.parametrize("names", [True, False], ids=["named", "stripped"])
@pytest.mark.parametrize(("items", "size"), [(_of_shape, 5), (_of_shape, 97), (_of_size, 32), (_of_ones, 7)])
def test_arithmetic_that_turns_at_a_size_is_run_for_it(
    items: Any, size: int, names: bool, tmp_path: Path, scores: Weights
) -> None:
    found = verdict(scores, tmp_path, _doubled_in(size, items), names=names)
    assert (found.status, found.first_failure) == ("failed", "fc")
    assert found.outputs[0].reason == f"is another one in a batch of {size}, though it declares any"


def test_what_turns_inside_and_hardly_shows_in_the_answer_is_seen(tmp_path: Path, scores: Weights) -> None:
    def faint(graph: Any) -> None:
        source = next(node for node in graph.node if node.op_type == "Relu").output[0]
        stored = store(graph, "size", 6, np.int64), store(graph, "least", 5e-4)
        behind(
            graph,
            source,
            *_of_shape(graph),
            helper.make_node("Equal", ["items", stored[0]], ["is_it"]),
            helper.make_node("Cast", ["is_it"], ["one"], to=1),
            helper.make_node("Mul", [source, "one"], ["some"]),
            helper.make_node("Mul", ["some", stored[1]], ["little"]),
            helper.make_node("Add", [source, "little"], ["more"]),
        )

    found = verdict(scores, tmp_path, faint)
    assert found.status == "failed"
    assert str(found.outputs[0].reason).startswith("is made of another some in a batch of 6")


def test_what_was_not_tried_of_items_that_are_counted_is_said(tmp_path: Path, scores: Weights) -> None:
    found = verdict(scores, tmp_path, _doubled_in(40, _of_ones))
    assert found.status == "passed"
    assert "all is made of all items of a batch; batches of more than 16 were not tried" in found.notes


def test_sizes_that_only_shape_are_right(tmp_path: Path, scores: Weights) -> None:
    """As torch.onnx writes an expand, and a mask of as many rows as there are items."""

    def expanded(graph: Any) -> None:
        source = next(node for node in graph.node if node.op_type == "Relu").output[0]
        ones = store(graph, "ones", [1, 1, 1, 1], np.int64)
        behind(
            graph,
            source,
            helper.make_node("Shape", [source], ["sizes"]),
            helper.make_node("Equal", ["sizes", store(graph, "open", [-1] * 4, np.int64)], ["is_open"]),
            helper.make_node("Where", ["is_open", ones, "sizes"], ["wanted"]),
            helper.make_node("ConstantOfShape", ["wanted"], ["zeros"]),
            helper.make_node("Expand", [source, "wanted"], ["wide"]),
            helper.make_node("Add", ["wide", "zeros"], ["masked"]),
        )
        shape = next(node for node in graph.node if node.op_type == "Shape")
        shape.input[0] = source  # `behind` turned it to its own result

    found = verdict(scores, tmp_path, expanded, names=False)
    assert (found.status, [note for note in found.notes if "batch" in note]) == ("passed", [])
