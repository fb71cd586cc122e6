"""The proof of models and of files: what passes, what fails, and what is said when something cannot be run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import nn

from converters import parity
from converters.convert import save
from converters.faults import plant
from converters.metric import UNMATCHED, compare, error, judge, log_error
from converters.parity import Proof, SubjectVerdict, probe_inputs, probe_weights, verify_files, verify_model
from converters.parity.matching import align, match_layers
from converters.parity.probes import probe_deviations
from converters.parity.subjects import Ran, Subject
from converters.parity.views import canonical_view
from converters.weights import Array, Weights
from tests.small import shrink, small_weights
from zoo import reference, registry
from zoo.errors import FileFormatError, MissingDependencyError, UnknownNameError, WeightsError, ZooError
from zoo.layers import BatchNorm, Input, ModelSpec, Preprocessing, ReLU, Sigmoid

IMAGES = (Input(name="data", shape=(3, 8, 8)),)


def small(model: str = "alexnet") -> ModelSpec:
    """A member in small, at a size where its second pool rounds up."""
    return shrink(model, channels=16).change("conv1", kernel=(7, 7), stride=(3, 3)).with_input_size(67)


@pytest.fixture
def weights() -> Weights:
    return probe_weights(small())


def judged(proof: Proof, activations: Mapping[str, Array], **ran: Any) -> SubjectVerdict:
    """The verdict on a subject that gives these activations."""
    return proof.judge(
        Subject(name="s", open=lambda: nullcontext(lambda inputs, rows: Ran(activations=activations, **ran)))
    )


# The metric


def test_the_error_is_relative_to_the_peak_of_the_worst_sample() -> None:
    right = np.array([[100.0, 1.0], [1.0, 0.5]])
    assert error(right + np.array([[0.0, 0.1], [0.0, 0.0]]), right) == pytest.approx((1e-3, 100.0))
    assert error(right + np.array([[0.0, 0.1], [0.0, 0.1]]), right) == pytest.approx((0.1, 1.0))
    assert error(right, right)[0] == 0


def test_a_layer_of_zeros_is_held_against_what_it_reads() -> None:
    zeros = np.zeros((1, 3))
    assert error(zeros, zeros)[0] == 0
    assert error(zeros + 1e-6, zeros, fallback=10.0)[0] == pytest.approx(1e-7)
    assert judge("x", zeros + 1e-6, zeros, 1e-5).reason == "not zero, where the reference is"


def test_what_is_missing_misshapen_or_not_finite_fails() -> None:
    right = np.ones((2, 3))
    assert judge("x", None, right, 1.0).reason == "the subject has no such activation"
    assert judge("x", np.ones((2, 4)), right, 1.0).reason == "shape 2 x 4, expected 2 x 3"
    assert judge("x", np.array([[1, 1, np.nan], [1, 1, 1]]), right, 1.0).reason == "NaN or Inf"
    assert "the reference itself" in str(judge("x", right, right * np.inf, 1.0).reason)
    for y in (None, np.ones((2, 4)), np.full((2, 3), np.inf)):
        verdict = judge("x", y, right, 1.0, gated=False)
        assert not verdict.ok and verdict.error is None


def test_what_is_compared_in_parts_is_compared_whole() -> None:
    right = np.random.default_rng(0).normal(size=(2, 3, 200, 200))
    for place in ((0, 0, 0, 0), (1, 2, 199, 199), (1, 1, 100, 7)):
        for wrong, reason in ((1.0, None), (np.nan, "NaN or Inf"), (-np.inf, "NaN or Inf")):
            y = right.copy()
            y[place] = right[place] + wrong
            found = judge("x", y, right, 1e-5)
            assert (found.ok, found.reason) == (False, reason)
            if reason is None:
                peak = np.abs(right[place[0]]).max()
                assert (found.error, found.peak) == (pytest.approx(1 / peak), peak)
    holed = np.where(right > 4, np.inf, right)
    assert judge("x", holed, holed, 1e-5).ok and not judge("x", right, holed, 1e-5).ok


def test_a_lone_softmax_is_judged_by_its_logits(weights: Weights) -> None:
    proof = Proof(weights)
    logits = proof.reference["fc8"]
    noisy = np.exp(logits + 1e-6 * np.abs(logits).max(axis=1, keepdims=True))
    right = (noisy / noisy.sum(axis=1, keepdims=True)).astype(np.float32)
    assert log_error(right, proof.reference["prob"]) < 1e-5
    hidden = frozenset(layer.name for layer in weights.spec.layers if layer.name != "prob")
    assert judged(proof, {"prob": right}, unmatched=hidden).status == "passed"
    assert judged(proof, {"prob": right[:, ::-1]}, unmatched=hidden).status == "failed"
    everything = hidden | {"prob"}
    nothing = judged(proof, {}, unmatched=everything)
    assert nothing.status == "failed" and "not declared" in str(nothing.outputs[0].reason)


def test_a_softmax_must_be_that_of_the_subjects_own_logits(weights: Weights) -> None:
    proof = Proof(weights)
    activations = dict(proof.reference)
    activations["prob"] = activations["fc8"]
    verdict = judged(proof, activations)
    assert (verdict.status, verdict.first_failure) == ("failed", "prob")
    assert verdict.diagnosis and verdict.diagnosis.fault == "softmax_lost"


# The probes


def test_probe_weights_are_the_same_every_time_and_have_no_dead_parameter(weights: Weights) -> None:
    again = probe_weights(small())
    assert all(np.array_equal(weights.tensors[name], again.tensors[name]) for name in weights.tensors)
    assert not np.array_equal(weights.tensors["fc7.weight"], probe_weights(small(), seed=1).tensors["fc7.weight"])
    assert all(np.count_nonzero(tensor) > 0.99 * tensor.size for tensor in weights.tensors.values())
    fc7 = weights.tensors["fc7.weight"]
    assert float(fc7.std()) == pytest.approx((2 / fc7.shape[1]) ** 0.5, rel=0.1)


def test_the_probes_are_large_and_small(weights: Weights) -> None:
    inputs, samples = probe_inputs(weights.spec)
    assert inputs["data"].dtype == np.float32 and len(samples) == 2
    assert [float(x.std()) for x in inputs["data"]] == pytest.approx([60, 1], rel=0.05)


# Models


def test_probes_that_are_small_already_are_made_no_smaller_for_a_sigmoid() -> None:
    images = Preprocessing(channels="RGB", scale=1 / 255, resize=8)
    plain = ModelSpec(name="n", title="n", inputs=IMAGES, layers=(ReLU(name="r"),), preprocessing=images)
    bent = replace(plain, layers=(Sigmoid(name="s"),))
    assert probe_deviations(bent) == probe_deviations(plain) == (60 / 255, 1 / 255)
    assert probe_deviations(replace(bent, preprocessing=None)) == (1, 1 / 60)


def test_statistics_of_a_batch_are_judged_beside_layers_with_more_samples() -> None:
    """All segments are fed one batch size: a batch is repeated whole where a layer looks across it."""
    spec = ModelSpec(
        name="n",
        title="n",
        inputs=IMAGES,
        layers=(BatchNorm(name="b", batch_stats=True), Sigmoid(name="s")),
    )
    (subject,) = verify_model(spec, frameworks=["onnx"]).subjects
    assert subject.status == "passed"
    assert {layer.name: layer.local is not None for layer in subject.layers} == {"b": True, "s": True}


def test_every_way_to_run_the_network_is_a_subject() -> None:
    exporters = {f"{name}-onnx" for name in registry.names("converters.exporters")}
    assert set(parity.subject_names()) == set(registry.ways()) | exporters
    assert {framework for framework, _ in registry.ways().values()} == set(registry.frameworks())
    assert {"keras-tensorflow", "keras-torch", "keras-jax"} <= set(registry.ways())
    assert {"pytorch", "tf_slim", "caffe", "onnx", "pytorch-onnx", "caffe-onnx", "keras-onnx"} <= set(
        parity.subject_names()
    )


def test_a_right_network_passes_and_the_report_keeps_its_contract() -> None:
    told = list[str]()
    report = verify_model(small(), frameworks=["onnx", "caffe"], progress=told.append, command="zoo verify alexnet")
    assert report.passed and report.exit_status == 0
    assert told[0].startswith("reference") and told[1:] == ["onnx", "caffe"]
    data = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert (data["schema"], data["model"], data["passed"], data["budget"]) == (1, "alexnet", True, 1e-5)
    subject = data["subjects"][0]
    assert (subject["name"], subject["status"], subject["first_failure"]) == ("onnx", "passed", None)
    assert subject["diagnosis"] is None and subject["top1"] == 1.0
    assert 0 < subject["max_error"] <= 2e-6
    assert [layer["name"] for layer in subject["layers"]] == [layer.name for layer in small().layers]
    assert subject["layers"][0].keys() == {"name", "error", "peak", "ok", "local", "exercised"}
    assert subject["layers"][-1]["gated"] is False
    assert data["command"] == "zoo verify alexnet" and "numpy" in data["versions"]


def test_a_network_that_differs_fails_at_its_layer_with_the_reason(weights: Weights) -> None:
    proof = Proof(weights)
    verdict = judged(proof, plant("lrn_k_ignored", weights, "norm2").forward(proof.inputs))
    report = proof.report([verdict])
    assert report.exit_status == 1 and not report.passed
    told = report.to_dict()["subjects"][0]
    assert (told["status"], told["first_failure"]) == ("failed", "norm2")
    assert told["diagnosis"]["fault"] == "lrn_k_ignored" and told["diagnosis"]["layer"] == "norm2"
    assert told["diagnosis"]["message"].startswith("norm2: k was ignored")
    assert verdict.max_error and verdict.max_error > 50e-5


def test_a_missing_layer_is_a_failure(weights: Weights) -> None:
    proof = Proof(weights)
    activations = {name: value for name, value in proof.reference.items() if name != "relu4"}
    verdict = judged(proof, activations)
    assert (verdict.status, verdict.first_failure, verdict.max_error) == ("failed", "relu4", None)
    assert verdict.diagnosis and "no such activation" in verdict.diagnosis.message


def test_small_errors_that_add_up_are_not_blamed_on_a_layer(weights: Weights) -> None:
    proof = Proof(weights, budget=1e-9)
    half = {name: value.astype(np.float32) for name, value in proof.reference.items()}
    verdict = judged(Proof(weights, budget=1e-7), half)
    assert verdict.status == "passed"
    assert judged(proof, half).status == "failed"


def test_what_cannot_be_run_is_said_and_is_no_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    right = registry.framework

    def absent(name: str) -> Any:
        if name == "caffe":
            raise MissingDependencyError("cv2", "caffe")
        return right(name)

    monkeypatch.setattr(registry, "framework", absent)
    report = verify_model(small(), frameworks=["onnx", "caffe"])
    assert [subject.status for subject in report.subjects] == ["passed", "unavailable"]
    assert "cv2 is not installed" in str(report.subjects[1].reason)
    assert not report.passed and report.exit_status == 2
    assert report.to_dict()["subjects"][1]["layers"] == []


def test_a_framework_that_crashes_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def forward(self, *_: Any) -> Any:
            raise RuntimeError("\x1b[96mout of\x1b[0m\nluck")

    right = registry.framework
    monkeypatch.setattr(registry, "framework", lambda name: Broken() if name == "caffe" else right(name))
    report = verify_model(small(), frameworks=["caffe", "onnx"])
    assert [subject.status for subject in report.subjects] == ["unavailable", "passed"]
    assert report.subjects[0].reason == "RuntimeError: out of luck"


def test_bad_requests_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean pytorch"):
        verify_model(small(), frameworks=["pytorhc"])
    with pytest.raises(ZooError, match="no subject"):
        verify_model(small(), frameworks=[])
    with pytest.raises(ZooError, match="budget"):
        verify_model(small(), frameworks=["onnx"], budget=0.0)
    with pytest.raises(ZooError, match="no file"):
        verify_files([])


def _picture(path: Path, seed: int) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 255, (90, 110, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def _photographed() -> ModelSpec:
    spec = small()
    assert spec.preprocessing
    return replace(spec, preprocessing=replace(spec.preprocessing, resize=80))


def test_pictures_are_fed_beside_the_probes_and_a_folder_is_told_as_agreement(tmp_path: Path) -> None:
    folder = tmp_path / "val" / "cats"
    folder.mkdir(parents=True)
    pictures = [_picture(folder / f"{i}.png", i) for i in range(18)]  # more than one batch
    report = verify_model(_photographed(), frameworks=["onnx"], images=pictures[:1], data=tmp_path / "val")
    assert report.samples[2] == str(pictures[0]) and len(report.samples) == 3
    agreement = report.subjects[0].agreement
    assert agreement and (agreement.images, agreement.top1, agreement.top5) == (18, 1.0, 1.0)
    with pytest.raises(ZooError, match="no such folder"):
        verify_model(_photographed(), frameworks=["onnx"], data=tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ZooError, match="holds no image"):
        verify_model(_photographed(), frameworks=["onnx"], data=tmp_path / "empty")
    with pytest.raises(FileFormatError, match="no such image"):
        verify_model(_photographed(), frameworks=["onnx"], images=[tmp_path / "gone.png"])


# Files


FORMATS = [".safetensors", ".pt", ".caffemodel", ".onnx", ".ckpt", ".npz"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_files_of_one_network_hold_one_function(suffix: str, tmp_path: Path, weights: Weights) -> None:
    save(weights, tmp_path / "a.safetensors")
    save(weights, tmp_path / f"b{suffix}")
    report = verify_files([tmp_path / "a.safetensors", tmp_path / f"b{suffix}"], weights.spec)
    assert report.passed, report.to_dict()
    assert [subject.name for subject in report.subjects] == [
        str(tmp_path / "a.safetensors"),
        str(tmp_path / f"b{suffix}"),
    ]
    assert len(report.files) >= 2 and all(len(fact.sha256) == 64 for fact in report.files)
    if suffix == ".npz":
        assert not verify_files([fact.path for fact in report.files], weights.spec, hashes=False).files


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".caffemodel", ".onnx"])
@pytest.mark.parametrize(
    ("fault", "layer"),
    [
        ("kernel_flipped", "conv2"),
        ("weights_half_precision", "conv5"),
        ("group_filters_exchanged", "conv4"),
        ("bias_lost", "fc8"),
        ("flatten_hwc", "fc6"),
        ("dense_transposed", "fc7"),
        ("input_bgr", "conv1"),
        ("weights_initial", "conv3"),
    ],
)
def test_a_fault_in_a_files_weights_is_located_and_named(
    fault: str, layer: str, suffix: str, tmp_path: Path, weights: Weights
) -> None:
    save(weights, tmp_path / "a.safetensors")
    save(plant(fault, weights, layer).weights(), tmp_path / f"b{suffix}")
    subject = verify_files([tmp_path / "a.safetensors", tmp_path / f"b{suffix}"], weights.spec).subjects[1]
    assert (subject.status, subject.first_failure) == ("failed", layer)
    assert subject.diagnosis and (subject.diagnosis.fault, subject.diagnosis.layer) == (fault, layer)
    assert subject.further == ()


@pytest.mark.parametrize(
    ("old", "new", "fault", "layer"),
    [
        ("alpha: 0.0001", "alpha: 0.0005", "lrn_alpha_not_divided", "norm1"),
        ("k: 1", "k: 2", "lrn_k_of_the_paper", "norm1"),
        ("local_size: 5", "local_size: 11", "lrn_radius_for_size", "norm1"),
        ("beta: 0.75", "beta: 0.8", "definition_differs", "norm1"),
    ],
)
def test_a_prototxt_that_was_edited_is_found_out(old: str, new: str, fault: str, layer: str, tmp_path: Path) -> None:
    weights = probe_weights(small("bvlc_alexnet"))
    save(weights, tmp_path / "a.safetensors")
    save(weights, tmp_path / "b.caffemodel")
    prototxt = tmp_path / "b.prototxt"
    text = prototxt.read_text()
    if old not in text:  # a default that need not be written
        old, new = "lrn_param {", "lrn_param { " + new
    # What the embedded description says of the network is dropped with its line: the text itself decides.
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    prototxt.write_text("\n".join(lines).replace(old, new, 1))
    subject = verify_files([tmp_path / "a.safetensors", tmp_path / "b.caffemodel"]).subjects[1]
    assert subject.status == "failed"
    assert subject.diagnosis and (subject.diagnosis.fault, subject.diagnosis.layer) == (fault, layer)


def _edited(source: Path, target: Path, change: Any) -> Path:
    model = onnx.load(str(source))
    change(model.graph)
    onnx.save(model, str(target))
    return target


def test_an_onnx_graph_that_was_edited_is_found_out(tmp_path: Path, weights: Weights) -> None:
    save(weights, tmp_path / "a.onnx")

    def alpha(graph: Any) -> None:
        node = next(node for node in graph.node if node.op_type == "LRN")
        next(a for a in node.attribute if a.name == "alpha").f *= 5

    edited = _edited(tmp_path / "a.onnx", tmp_path / "b.onnx", alpha)
    subject = verify_files([tmp_path / "a.onnx", edited]).subjects[1]
    assert subject.diagnosis and subject.diagnosis.fault == "lrn_alpha_not_divided"

    def floor(graph: Any) -> None:
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.name == "pads" and node.op_type == "MaxPool":
                    attribute.ints[:] = [0, 0, 0, 0]  # what rounds the size up

    edited = _edited(tmp_path / "a.onnx", tmp_path / "c.onnx", floor)
    subject = verify_files([tmp_path / "a.onnx", edited]).subjects[1]
    assert (subject.status, subject.first_failure) == ("failed", "pool2")
    assert subject.diagnosis and subject.diagnosis.fault == "pool_floor_for_ceil"
    assert any("cannot be run to its end" in note for note in subject.notes)


class ByHand(nn.Module):
    """A convolution in two groups as it was written before frameworks had them: split, two convolutions, joined."""

    def __init__(self, whole: nn.Conv2d) -> None:
        super().__init__()
        self.whole = whole

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        halves = zip(x.chunk(2, 1), self.whole.weight.chunk(2), strict=True)
        done = [nn.functional.conv2d(half, kernels, padding=self.whole.padding) for half, kernels in halves]
        assert self.whole.bias is not None
        return torch.cat(done, 1) + self.whole.bias[:, None, None]


class Foreign(nn.Module):
    """The same network as somebody else would write it, with a mistake if one is asked for."""

    def __init__(self, weights: Weights, mistake: str) -> None:
        super().__init__()
        spec, convs, denses = weights.spec, list[Any](), list[Any]()
        for name in ("conv1", "conv2", "conv3", "conv4", "conv5"):
            layer: Any = spec.layer(name)
            tensor = weights.tensors[f"{name}.weight"]
            groups = layer.groups
            convs.append(
                nn.Conv2d(tensor.shape[1] * groups, len(tensor), layer.kernel, layer.stride, layer.pad, groups=groups)
            )
        for name in ("fc6", "fc7", "fc8"):
            denses.append(nn.Linear(*reversed(weights.tensors[f"{name}.weight"].shape)))
        for module, name in zip(
            [*convs, *denses], ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"], strict=True
        ):
            module.weight.data = torch.from_numpy(weights.tensors[f"{name}.weight"].copy())
            module.bias.data = torch.from_numpy(weights.tensors[f"{name}.bias"].copy())
        if mistake == "half":
            convs[2].weight.data = convs[2].weight.data.half().float()
        if mistake == "split by hand":  # which is none
            convs = [ByHand(conv) if conv.groups == 2 else conv for conv in convs]
        norm: Any = spec.layer("norm1")
        lrn = nn.LocalResponseNorm(norm.size, norm.alpha * (norm.size if mistake == "alpha" else 1), norm.beta, norm.k)
        pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        first = [pool, lrn] if mistake == "order" else [pool] if mistake == "no norm" else [lrn, pool]
        relu = nn.ReLU()
        third = [] if mistake == "no relu" else [relu]
        self.features = nn.Sequential(
            *(convs[0], relu, *first, convs[1], relu, lrn, pool, convs[2], *third, convs[3], relu, convs[4], relu, pool)
        )
        self.classifier = nn.Sequential(denses[0], relu, nn.Dropout(), denses[1], relu, nn.Dropout(), denses[2])
        self.mistake = mistake

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.features(x)
        x = x.permute(0, 2, 3, 1) if self.mistake == "hwc" else x
        return torch.softmax(self.classifier(torch.flatten(x, 1)), 1)


@pytest.mark.filterwarnings("ignore")  # the exporter's own
@pytest.mark.parametrize(
    ("mistake", "fault", "layer"),
    [
        ("", None, None),
        ("split by hand", None, None),
        ("alpha", "lrn_alpha_not_divided", "norm1"),
        ("order", "pool_before_norm", "norm1"),
        ("no norm", "lrn_dropped", "norm1"),
        ("no relu", "relu_lost", "relu3"),
        ("half", "weights_half_precision", "conv3"),
        ("hwc", "flatten_hwc", "fc6"),
    ],
)
def test_a_graph_made_by_others_is_matched_and_its_fault_named(
    mistake: str, fault: str | None, layer: str | None, tmp_path: Path
) -> None:
    """Other names for everything, LRN taken apart into ten operators, a fixed batch of one."""
    weights = probe_weights(small("bvlc_alexnet"))
    save(weights, tmp_path / "a.caffemodel")
    network = Foreign(weights, mistake).eval()
    torch.onnx.export(network, (torch.zeros(1, 3, 67, 67),), str(tmp_path / "b.onnx"), dynamo=False)
    right, subject = verify_files([tmp_path / "a.caffemodel", tmp_path / "b.onnx"]).subjects
    assert right.status == "passed"
    assert any("other names" in note for note in subject.notes)
    found = subject.diagnosis
    assert (found.fault, found.layer) == (fault, layer) if found else fault is None, subject.to_dict()
    assert subject.status == ("failed" if fault else "passed")
    unmatched = {verdict.name for verdict in subject.layers if verdict.reason == UNMATCHED}
    assert unmatched <= {"drop6", "drop7", "norm1", "relu3"}


def test_a_graph_of_unknown_operators_is_judged_by_its_answer(tmp_path: Path) -> None:
    weights = probe_weights(small("bvlc_alexnet"))
    save(weights, tmp_path / "a.caffemodel")
    save(weights, tmp_path / "plain.onnx")

    def opaque(graph: Any) -> None:
        """Hide every node in the branch of an If, where no operator can be seen."""
        body = onnx.helper.make_graph(list(graph.node), "body", [], [onnx.ValueInfoProto(name=graph.output[0].name)])
        del graph.node[:]
        graph.initializer.append(onnx.helper.make_tensor("yes", onnx.TensorProto.BOOL, [], [True]))
        answer = graph.output[0].name
        graph.output[0].name = "answer"
        graph.node.append(onnx.helper.make_node("If", ["yes"], ["answer"], then_branch=body, else_branch=body))
        assert body.output[0].name == answer

    edited = _edited(tmp_path / "plain.onnx", tmp_path / "b.onnx", opaque)
    subject = verify_files([tmp_path / "a.caffemodel", edited]).subjects[1]
    assert subject.status == "passed", subject.to_dict()
    assert [output.name for output in subject.outputs] == ["prob"]
    assert not any(layer.gated for layer in subject.layers)
    assert any("no tensor of it could be told to be conv1" in note for note in subject.notes)


def test_a_file_that_is_missing_or_of_another_network_is_refused(tmp_path: Path, weights: Weights) -> None:
    save(weights, tmp_path / "a.safetensors")
    with pytest.raises(FileFormatError, match="no such file"):
        verify_files([tmp_path / "a.safetensors", tmp_path / "b.pt"])
    save(probe_weights(shrink("alexnet_owt")), tmp_path / "c.pt")
    with pytest.raises(WeightsError, match=r"conv1\.weight"):
        verify_files([tmp_path / "a.safetensors", tmp_path / "c.pt"])


# Matching


def test_two_sequences_are_aligned_in_order() -> None:
    assert align("abcd", "axcd", lambda a, b: a == b) == [(0, 0), (2, 2), (3, 3)]
    assert align("ab", "ba", lambda a, b: a == b) in ([(0, 1)], [(1, 0)])
    assert align("", "abc", lambda a, b: a == b) == []


def test_layers_of_another_name_are_matched_by_order_kind_and_shape() -> None:
    ours = small()
    theirs = replace(ours, layers=tuple(replace(layer, name=f"x_{layer.name}") for layer in ours.layers))
    assert match_layers(ours, theirs) == {layer.name: f"x_{layer.name}" for layer in ours.layers}
    assert match_layers(ours, ours.without("relu3")).keys() == {layer.name for layer in ours.layers} - {"relu3"}


def test_layouts_are_recognised() -> None:
    x = np.arange(2 * 4 * 3 * 5, dtype=np.float32).reshape(2, 4, 3, 5)
    for value in (x, x.transpose(0, 2, 3, 1), x.reshape(4, 2, 3, 5)):
        assert (found := canonical_view(value, (2, 4, 3, 5))) is not None and np.array_equal(found, x)
    assert canonical_view(x, (2, 5, 3, 3)) is None
    vector = x[:, :, :1, :1]
    assert (found := canonical_view(vector, (2, 4))) is not None and np.array_equal(found, vector[:, :, 0, 0])


def test_activations_of_another_network_are_compared_by_name(weights: Weights) -> None:
    inputs, _ = probe_inputs(weights.spec)
    right = reference.forward(weights.spec, weights.tensors, inputs)
    verdicts = compare(weights.spec, {**right, "extra": right["fc8"]}, right, inputs, 1e-5)
    assert all(verdict.ok for verdict in verdicts) and len(verdicts) == len(weights.spec.layers)


@pytest.mark.slow
def test_the_full_size_network_passes_in_every_framework() -> None:
    report = verify_model(registry.model("alexnet"))
    assert report.passed, report.to_dict()


def test_a_file_that_stops_at_the_logits_passes_and_says_so(tmp_path: Path) -> None:
    whole = small_weights("alexnet")
    logits = whole.with_spec(whole.spec.without("prob"))
    save(whole, tmp_path / "whole.safetensors")
    save(logits, tmp_path / "logits.onnx")
    report = verify_files([tmp_path / "whole.safetensors", tmp_path / "logits.onnx"])
    assert report.passed
    assert report.subjects[1].notes == ("it stops at its logits, fc8: prob, the softmax of them, is not in it",)
    save(whole.with_spec(whole.spec.without("relu7")), tmp_path / "faulty.onnx")
    assert not verify_files([tmp_path / "whole.safetensors", tmp_path / "faulty.onnx"]).passed
