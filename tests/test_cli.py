"""The command line's contract: results, exit statuses, one line of trouble, targets untouched by failure."""

from __future__ import annotations

import argparse
import gc
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import pytest
from PIL import Image

from converters.cli import build_parser, main
from converters.cli.helping import EXAMPLES
from converters.convert import load, same_bits, save
from converters.host import colours
from converters.parity import probe_weights
from converters.weights import Weights
from tests.small import small_weights
from zoo import registry
from zoo.errors import ZooError
from zoo.frameworks import onnx as frameworks_onnx
from zoo.layers import ModelSpec
from zoo.wire.onnx import IR_VERSIONS, OPSET

MINE = ("mine.caffemodel", "--prototxt", "deploy.prototxt")
SUFFIXES = (".safetensors", ".pt", ".pth", ".caffemodel", ".ckpt", ".onnx", ".npy", ".npz")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def desk(tmp_path: Path, mini_alexnet: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "desk"
    folder.mkdir()
    shutil.copy(mini_alexnet / "mini_alexnet.caffemodel", folder / "mine.caffemodel")
    shutil.copy(mini_alexnet / "deploy.prototxt", folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def zoo(desk: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in the desk's folder: status, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


@pytest.fixture
def refused(zoo: Run, desk: Path) -> Callable[..., str]:
    """Run a command that must fail: one line on stderr, nothing on stdout, every file as it was."""

    def run(*arguments: object, status: int = 2) -> str:
        before = contents(desk)
        got, out, err = zoo(*arguments)
        assert got == status, err
        assert out == ""
        assert err.startswith("zoo: ") and err.endswith("\n") and err.count("\n") == 1, err
        assert "internal error" not in err and "Traceback" not in err
        assert contents(desk) == before
        return err

    return run


def contents(folder: Path) -> dict[str, bytes | str | None]:
    found = dict[str, bytes | str | None]()
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[str(path)] = str(path.readlink())
        else:
            found[str(path)] = path.read_bytes() if path.is_file() and path.stat().st_size < 1 << 24 else None
    return found


def shell(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "converters", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, **options)


# Every command once.


def test_list(zoo: Run) -> None:
    status, out, _ = zoo("list")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()] == registry.models()
    for kind in ("models", "frameworks", "weights"):
        status, out, _ = zoo("list", kind, "--json")
        data = json.loads(out)
        assert status == 0 and data["schema"] == 1
        assert all(row["name"] and row["summary"] for row in data[kind])
    listed = {row["name"] for row in json.loads(zoo("list", "frameworks", "--json")[1])["frameworks"]}
    assert {"caffe", "keras", "onnx", "pytorch", "tf_slim"} <= listed == {*registry.frameworks()}


def test_show_and_diff(zoo: Run, refused: Callable[..., str], desk: Path) -> None:
    status, out, err = zoo("show", "alexnet")
    assert (status, err) == (0, "") and "60,965,224" in out
    assert json.loads(zoo("show", "alexnet", "--json")[1])["parameters"] == 60_965_224
    assert zoo("show", "alexnet", "--svg", "a.svg")[0] == 0
    assert (desk / "a.svg").read_text().startswith("<svg")
    assert "already exists" in zoo("show", "alexnet", "--svg", "a.svg")[2]
    assert zoo("show", "alexnet", "--svg", "a.svg", "--force")[0] == 0
    assert "name: " in zoo("show", "alexnet", "--svg", "b.svg", "--recipe")[1] and (desk / "b.svg").is_file()
    assert "leave --json out" in refused("show", "alexnet", "--recipe", "--json")
    assert "drawn as .svg" in refused("show", "alexnet", "--svg", "a.png")
    status, out, _ = zoo("diff", "alexnet", "caffenet")
    assert status == 0 and "pool1" in out


OPEN = """layer { name: "data" type: "Data" top: "data" top: "label" include { stage: "deploy" } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 3 } }
"""


def test_show_and_diff_of_files(zoo: Run, refused: Callable[..., str], desk: Path) -> None:
    told = json.loads(zoo("show", "mine.caffemodel", "--prototxt", "deploy.prototxt", "--json")[1])
    assert told == json.loads(zoo("show", "deploy.prototxt", "--json")[1])
    status, out, _ = zoo("diff", "deploy.prototxt", "alexnet_mini")
    assert status == 0 and "parameters" in out
    heads = zoo("diff", "mine.caffemodel", "alexnet_mini", "--prototxt", "deploy.prototxt")[1].splitlines()[0]
    assert heads.split() == ["layer", "what", "mine.caffemodel", "alexnet_mini"]  # both call themselves the latter
    assert "did you mean" in refused("show", "alexnet_min")
    assert "no such file" in refused("diff", "no.prototxt", "alexnet")
    # A graph is a network; a folder that holds no checkpoint takes no member's name away; a prototxt has stages itself.
    assert zoo("convert", *MINE, "-o", "a.onnx")[0] == 0
    assert "conv1" in zoo("show", "a.onnx")[1]
    (desk / "alexnet_mini").mkdir()
    assert zoo("show", "alexnet_mini")[1].startswith("alexnet_mini: ")
    (desk / "open.prototxt").write_text(OPEN)
    assert "3 x 8 x 9" in zoo("show", "open.prototxt", "--stage", "deploy", "--input", "data=3x8x9")[1]
    assert "data" in refused("show", "open.prototxt", "--stage", "deploy")


@pytest.mark.parametrize("framework", ["pytorch", "tf_slim", "caffe", "onnx"])
def test_generate(zoo: Run, desk: Path, framework: str) -> None:
    command = ("generate", "alexnet_mini", "--framework", framework, "-o", "out/deep", "--num-classes", 7)
    status, out, _ = zoo(*command)
    assert status == 0
    written = {desk / line for line in out.splitlines()}
    assert written == set((desk / "out/deep").iterdir())
    before = contents(desk)
    assert zoo(*command)[0] == 2
    assert contents(desk) == before
    assert zoo(*command, "--force")[0] == 0
    assert contents(desk) == before
    status, out, _ = zoo("generate", "--prototxt", "deploy.prototxt", "--framework", framework, "-o", "theirs")
    assert status == 0 and out


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_convert_there_and_back(zoo: Run, desk: Path, suffix: str) -> None:
    target = f"t{suffix}"
    status, out, _ = zoo("convert", *MINE, "-o", target)
    assert status == 0
    assert all((desk / line).exists() for line in out.splitlines()) and target in out
    assert zoo("convert", target, "--prototxt", "deploy.prototxt", "-o", "back.safetensors")[0] == 0
    assert zoo("convert", *MINE, "-o", "straight.safetensors")[0] == 0
    one, other = load(desk / "back.safetensors"), load(desk / "straight.safetensors")
    assert all(same_bits(one.tensors[name], other.tensors[name]) for name in other.tensors)


def test_formats_may_be_said(zoo: Run, desk: Path) -> None:
    assert zoo("convert", *MINE, "-o", "weights.bin", "--to", "safetensors")[0] == 0
    assert zoo("convert", "weights.bin", "--from", "safetensors", "-o", "w.npz")[0] == 0
    assert (
        "unknown format 'safetensor'; did you mean safetensors?"
        in zoo("convert", "weights.bin", "--from", "safetensor", "-o", "v.npz")[2]
    )


def test_a_new_head(zoo: Run, desk: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert zoo("convert", *MINE, "-o", "seven.safetensors", "--num-classes", 7)[0] == 0
    assert load(desk / "seven.safetensors").tensors["fc8.weight"].shape[0] == 7
    assert "fc8: dropped" in caplog.text


def test_the_network_that_was_guessed_is_said(zoo: Run, desk: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(probe_weights(registry.model("alexnet_mini")), desk / "w.pt")
    assert zoo("convert", "w.pt", "-o", "w.npz")[0] == 0
    assert "fit alexnet_mini only; taken for it" in caplog.text


def test_export(zoo: Run, desk: Path) -> None:
    status, out, _ = zoo("export", *MINE, "-o", "m.onnx", "--opset", 15)
    assert (status, out) == (0, "m.onnx\n")
    model = onnx.load(desk / "m.onnx")
    assert model.opset_import[0].version == 15
    onnx.checker.check_model(model)
    assert zoo("export", *MINE, "-o", "fast.onnx", "--fast-lrn", "--no-verify")[0] == 0
    assert "LRN" not in {node.op_type for node in onnx.load(desk / "fast.onnx").graph.node}


def test_verify(zoo: Run, desk: Path) -> None:
    assert zoo("convert", *MINE, "-o", "a.safetensors")[0] == zoo("export", *MINE, "-o", "a.onnx")[0] == 0
    command = ("verify", "a.safetensors", "a.onnx", "--json", "--report", "r.html", "--seed", 3)
    status, out, _ = zoo(*command)
    data = json.loads(out)
    assert status == 0 and data["schema"] == 1 and data["passed"] is True and data["budget"] == 1e-5
    assert [subject["name"] for subject in data["subjects"]] == ["a.safetensors", "a.onnx"]
    for subject in data["subjects"]:
        assert subject["status"] == "passed" and subject["first_failure"] is None and subject["diagnosis"] is None
        assert subject["max_error"] <= 1e-5
        assert {"name", "error", "peak", "ok"} <= set(subject["layers"][0])
    assert "a.onnx" in (desk / "r.html").read_text()
    assert "already exists" in zoo(*command)[2]


def test_a_report_is_printed_in_the_form_that_is_asked_for(zoo: Run, desk: Path) -> None:
    assert zoo("convert", *MINE, "-o", "mine.npz")[0] == 0
    status, out, _ = zoo("verify", "mine.npz", "mine.npz", "--report-format", "md")
    assert status == 0 and out.startswith("**mini_alexnet: PASSED") and "| --- |" in out


def test_verify_a_member(zoo: Run) -> None:
    status, out, _ = zoo("verify", "alexnet_mini", "--frameworks", "onnx,caffe", "--json")
    data = json.loads(out)
    assert status == 0 and data["model"] == "alexnet_mini"
    assert [subject["name"] for subject in data["subjects"]] == ["onnx", "caffe"]
    status, out, _ = zoo("verify", "alexnet_mini", "--frameworks", " caffe , caffe", "--json")
    assert status == 0 and [subject["name"] for subject in json.loads(out)["subjects"]] == ["caffe"]


def test_verify_fails_with_status_one(zoo: Run, desk: Path) -> None:
    assert zoo("convert", *MINE, "-o", "a.safetensors")[0] == 0
    good = load(desk / "a.safetensors")
    tensors = {**good.tensors, "conv2.bias": np.zeros_like(good.tensors["conv2.bias"])}
    save(Weights(spec=good.spec, tensors=tensors, source="test"), desk / "bad.onnx")
    status, out, _ = zoo("verify", "a.safetensors", "bad.onnx", "--json")
    subject = json.loads(out)["subjects"][1]
    assert status == 1
    assert (subject["status"], subject["first_failure"]) == ("failed", "conv2")
    assert subject["diagnosis"]["layer"] == "conv2" and subject["diagnosis"]["message"]
    status, out, _ = zoo("verify", "a.safetensors", "bad.onnx")
    assert status == 1 and "conv2" in out


@pytest.mark.slow
def test_train_and_eval(zoo: Run, desk: Path) -> None:
    status, out, _ = zoo("train", "alexnet_mini", "--data", "digits", "-o", "run", "--steps", 2, "--batch-size", 8)
    assert (status, out) == (0, "run/model.safetensors\n")
    assert {"model.safetensors", "metrics.csv", "curves.png", "checkpoints"} <= {
        path.name for path in (desk / "run").iterdir()
    }
    header, *rows = (desk / "run/metrics.csv").read_text().splitlines()
    assert header.startswith("step,epoch,loss") and len(rows) == 2
    status, out, _ = zoo("eval", "run/model.safetensors", "--data", "digits", "--json")
    data = json.loads(out)
    assert status == 0 and data["schema"] == 1 and 0 <= data["top1"] <= data["top5"] <= 1
    assert zoo("train", "alexnet_mini", "--data", "nowhere", "-o", "other", "--steps", 1)[0] == 2


# What users type wrong.


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("", "required: COMMAND; see: zoo --help"),
        ("shwo alexnet", "unknown command 'shwo'; did you mean show?"),
        ("list modles", "unknown kind 'modles'; did you mean models?"),
        ("show alexnt", "unknown model 'alexnt'; did you mean alexnet"),
        ("diff alexnet cafenet", "did you mean caffenet"),
        ("generate alexnet --framework pytroch -o x", "unknown --framework 'pytroch'; did you mean pytorch?"),
        ("generate --framework pytorch -o x", "name a family member, or give --prototxt"),
        ("card a.npz -o x.md --licence Apache\\n2", "expected an identifier of the Hub's list, as apache-2.0"),
        ("generate alexnet --prototxt deploy.prototxt --framework onnx -o x", "one of the two"),
        ("convert mine.caffemodel -o x.pt --forse", "unknown flag '--forse'; did you mean --force"),
        ("convert mine.caffemodel -o x.pt --for", "unknown flag '--for'"),
        ("convert mine.caffemodel -o x.pt --num_classes 3", "did you mean --num-classes"),
        ("convert mine.caffemodel", "required: -o/--output"),
        ("convert mine.caffemodel -o", "expected one argument"),
        ("convert mine.caffemodel other -o x.pt", "unexpected argument 'other'"),
        ("convert mine.caffemodel --model alexnet --prototxt deploy.prototxt -o x.pt", "not allowed with"),
        ("convert mine.caffemodel -o x.pt --num-classes 0", "at least 1, got '0'"),
        ("convert mine.caffemodel -o x.pt --num-classes 2.5", "at least 1, got '2.5'"),
        ("convert mine.caffemodel -o x.xyz", "unknown format '.xyz'; known: .caffemodel"),
        ("convert mine.caffemodel -o x.pt --model alexnt", "did you mean alexnet"),
        ("export mine.caffemodel -o x.mlmodel", "known: FILE.onnx, FILE.tflite"),
        ("export mine.caffemodel -o x.onnx --opset 3 --prototxt deploy.prototxt", "operator set 3"),
        ("export mine.caffemodel -o x.pb --fast-lrn", "are for .onnx targets"),
        ("train alexnet_mini --data digits -o run --framework keras", "one rate for all parameters"),
        ("verify alexnet_mini --frameworks pytroch", "did you mean pytorch"),
        ("verify alexnet_mini --budget 0 --frameworks onnx", "expected a number above 0, got '0'"),
        ("verify alexnet_mini --budget nan --frameworks onnx", "expected a number above 0, got 'nan'"),
        ("verify alexnet_mini --budget much", "expected a number above 0, got 'much'"),
        ("verify mine.caffemodel a.onnx --frameworks onnx", "goes with one subject"),
        ("verify mine.caffemodel --weights a.onnx", "goes with a family member"),
        ("verify alexnet_mini --model alexnet", "alexnet_mini says itself which network it is; leave --model out"),
        ("verify alexnet_mini --prototxt deploy.prototxt --weights mine.caffemodel", "leave --prototxt out"),
        ("verify alexnet_mini --stage TEST --input data=3x8x8", "leave --stage and --input out"),
        ("verify alexnet_mini --map m.yaml --ema", "a family member, no file of weights; leave --map and --ema out"),
        ("verify alexnet_mini --map-out m.yaml", "leave --map-out out"),
        ("verify alexnet_mini --from npy --narrow", "leave --from and --narrow out"),
        ("verify mine.caffemodel --stage TEST", "give --prototxt FILE"),
        ("verify alexnet_mini --frameworks=", "--frameworks: expected names between commas, got ''"),
        ("verify alexnet_mini --frameworks onnx,", "got 'onnx,'"),
        ("verify .", ".: is a folder without a checkpoint in it"),
        ("verify ..", "..: is a folder without a checkpoint in it"),
        ("verify /", "/: is a folder without a checkpoint in it"),
        ("verify deploy.prototxt", "a network without weights; give its .caffemodel"),
        ("show .", ".: is a folder without a checkpoint in it"),
        ("show alexnet --ema", "leave --ema out"),
        ("show deploy.prototxt --model alexnet", "deploy.prototxt says itself which network it is; leave --model out"),
        ("diff alexnet caffenet --prototxt deploy.prototxt", "leave --prototxt out"),
        ("generate alexnet --model caffenet --framework onnx -o x", "leave --model out"),
        ("train alexnet_mini --data digits -o x --map m.yaml", "leave --map out"),
        ("verify alexnet_mini --report-format md --json", "--json and --report-format both print the report"),
        ("show lenet", "unknown model 'lenet'; known: alexnet,"),
        ("show caffe", "unknown model 'caffe'; did you mean caffenet?"),
        ("verify alexnet_mini --image nowhere.jpg --frameworks onnx", "nowhere.jpg: no such image"),
        ("verify alexnet_mini --report r.doc --frameworks onnx", "r.doc"),
        ("fetch nothing-like-it", "unknown weights id 'nothing-like-it'"),
        (
            "convert bvlc_alexnt -o x.pt",
            "no such file, and unknown weights id 'bvlc_alexnt'; did you mean bvlc_alexnet",
        ),
        ("convert nothing-like-it -o x.pt", "unknown weights id 'nothing-like-it'; zoo list weights lists them"),
        ("train alexnet_mni --data digits -o x", "did you mean alexnet_mini?"),
        ("verify alexnet mine.caffemodel", "alexnet is a network, no weights; give a file of its weights"),
        ("fetch caffenet", "caffenet is a network, no weights"),
        ("train alexnet_mini --data digits -o x --devices 0", "at least 1"),
        ("train alexnet_mini --data digits -o x --seed -1", "at least 0, got '-1'"),
        ("train alexnet_mini --data digits -o x --freeze ''", "between commas, got ''"),
        ("train alexnet_mini --data digits -o x --freeze conv1,", "between commas, got 'conv1,'"),
        ("train alexnet_mini --data digits -o mine.caffemodel", "mine.caffemodel: is no folder; choose another -o"),
        ("train alexnet_mini --data digits -o x --epochs 1 --steps 1", "not allowed with"),
        ("train alexnet_mini --data digits -o x --parallel tower", "did you mean towers?"),
        ("eval nowhere.pt --data digits", "nowhere.pt: no such file"),
    ],
)
def test_what_users_type_wrong(refused: Callable[..., str], command: str, said: str) -> None:
    assert said in refused(*shlex.split(command))


# Files that are not what they should be.


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("what", ["missing", "empty", "folder", "noise", "sparse", "unreadable", "pipe", "dangling"])
def test_sources_that_are_none(refused: Callable[..., str], desk: Path, suffix: str, what: str) -> None:
    source = desk / f"s{suffix}"
    there = source.with_name(source.name + ".index") if suffix == ".ckpt" else source
    match what:
        case "empty":
            there.touch()
        case "folder":
            there.mkdir()
        case "noise":
            there.write_bytes(np.random.default_rng(0).bytes(10_000))
        case "sparse":
            with there.open("wb") as stream:
                stream.truncate(1 << 36)
        case "unreadable":
            there.symlink_to("/proc/self/mem")
        case "pipe":
            os.mkfifo(there)
        case "dangling":
            there.symlink_to("nowhere")
        case _:
            pass
    for command in (("convert", "-o", "out.npz"), ("export", "-o", "out.onnx"), ("verify",)):
        line = refused(command[0], source.name, *command[1:], "--prototxt", "deploy.prototxt")
        assert source.name in line
        assert what != "folder" or "is a folder" in line


def test_weights_of_another_network_are_refused_with_all_that_is_wrong(refused: Callable[..., str], desk: Path) -> None:
    save(small_weights(), desk / "w.pt")
    line = refused("convert", "w.pt", "--prototxt", "deploy.prototxt", "-o", "out.npz")
    assert "conv1.weight has shape" in line and "fc8.weight has shape" in line
    assert "fit no network of the family" in refused("convert", "w.pt", "-o", "out.npz")
    tensors: dict[str, Any] = {name: np.array(tensor) for name, tensor in small_weights().tensors.items()}
    del tensors["conv2.bias"]
    tensors["extra"] = np.zeros(3, np.float32)
    tensors["fc6.bias"][0] = np.nan
    np.savez(desk / "bad.npz", **tensors)
    save(small_weights(), desk / "self.caffemodel")
    line = refused("convert", "bad.npz", "--prototxt", "self.prototxt", "-o", "out.pt")
    assert "conv2.bias" in line and "extra" in line and "fc6.bias" in line


@pytest.mark.parametrize("text", ["", "layer {", "name: 'x'", "layer { name: 'a' type: 'Nonsense' }", "\x00\xff"])
def test_prototxts_that_are_none(refused: Callable[..., str], desk: Path, text: str) -> None:
    (desk / "bad.prototxt").write_bytes(text.encode("latin1"))
    for command in (
        ("convert", "mine.caffemodel", "-o", "out.npz"),
        ("generate", "--framework", "onnx", "-o", "."),
        ("verify", "mine.caffemodel"),
    ):
        assert "bad.prototxt" in (line := refused(*command, "--prototxt", "bad.prototxt")) or "layer" in line
    assert "nowhere.prototxt" in refused("convert", "mine.caffemodel", "--prototxt", "nowhere.prototxt", "-o", "x.pt")
    assert "layer.prototxt" not in contents(desk)


# Targets.


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_existing_target_is_refused_before_the_work(refused: Callable[..., str], desk: Path, suffix: str) -> None:
    target = desk / (f"t{suffix}.index" if suffix == ".ckpt" else f"t{suffix}")
    target.write_text("mine")
    assert "already exists" in refused("convert", *MINE, "-o", f"t{suffix}")
    assert "already exists" in refused("convert", "missing.pt", "-o", f"t{suffix}")
    target.unlink()
    target.symlink_to("nowhere")
    assert "already exists" in refused("convert", *MINE, "-o", f"t{suffix}")


def test_a_conversion_leaves_the_collection_of_garbage_as_it_was(zoo: Run) -> None:
    assert gc.isenabled()
    assert zoo("convert", *MINE, "-o", "collected.npz")[0] == 0
    assert gc.isenabled()


def test_targets_that_cannot_be(refused: Callable[..., str], zoo: Run, desk: Path) -> None:
    assert "does not exist; make it first" in refused("convert", *MINE, "-o", "no/where.pt")
    assert "does not exist; make it first" in refused("export", *MINE, "-o", "no/where.onnx")
    assert "deploy.prototxt" in refused("convert", *MINE, "-o", "deploy.prototxt/x.pt")
    assert "cannot write to /proc" in refused("convert", *MINE, "-o", "/proc/x.npz")
    assert "name too long" in refused("convert", *MINE, "-o", "x" * 300 + ".npz").lower()
    (desk / "x.npz").mkdir()
    for flags in ([], ["--force"]):
        assert "x.npz: is a folder" in refused("convert", *MINE, "-o", "x.npz", *flags)
        assert "x.npz: is a folder" in refused("verify", *MINE, "--report", "x.npz", *flags)
    onto = refused("generate", "alexnet_mini", "--framework", "onnx", "-o", "deploy.prototxt")
    assert "deploy.prototxt: is a file, expected a folder for the source; choose another -o" in onto


def test_a_report_is_no_file_that_is_judged(refused: Callable[..., str], desk: Path) -> None:
    for name in ("mine.caffemodel", "deploy.prototxt"):
        before = (desk / name).read_bytes()
        for path in (name, f"./{name}", str(desk / name)):
            told = refused("verify", *MINE, "--report", path, "--report-format", "md", "--force")
            assert "would replace a file that is read here" in told
        assert (desk / name).read_bytes() == before


def test_source_and_target_may_be_one_file(refused: Callable[..., str], zoo: Run, desk: Path) -> None:
    assert "already exists" in refused("convert", *MINE, "-o", "mine.caffemodel")
    assert zoo("convert", *MINE, "-o", "a.caffemodel")[0] == 0
    whole = (desk / "a.caffemodel").read_bytes()
    assert zoo("convert", "a.caffemodel", "-o", "a.caffemodel", "--force")[0] == 0
    assert (desk / "a.caffemodel").read_bytes() == whole


def test_a_failed_check_leaves_the_old_target(
    refused: Callable[..., str], desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = frameworks_onnx.graph

    def wrong(spec: ModelSpec, **options: Any) -> Any:
        made = right(spec.change("norm1", k=9.0), **options)
        return replace(made, metadata=right(spec).metadata)

    (desk / "m.onnx").write_text("old")
    monkeypatch.setattr(frameworks_onnx, "graph", wrong)
    line = refused("export", *MINE, "-o", "m.onnx", "--force", status=1)
    assert "differs from the reference at" in line and "nothing was written" in line


def test_a_full_disk_is_one_line(refused: Callable[..., str], desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("converters.formats.numpy.write", full)
    assert "No space left on device; nothing was changed" in refused("convert", *MINE, "-o", "x.npz")


# The process.


def test_trouble_is_one_line_and_a_traceback_only_when_asked_for(desk: Path) -> None:
    quiet = shell("show", "alexnt", cwd=desk)
    assert (quiet.returncode, quiet.stdout) == (2, "") and quiet.stderr.count("\n") == 1
    for command in (("-v", "show", "alexnt"), ("show", "alexnt", "--verbose")):
        loud = shell(*command, cwd=desk)
        assert loud.returncode == 2 and "Traceback" in loud.stderr
        assert loud.stderr.splitlines()[-1] == quiet.stderr.strip()


def test_what_nobody_foresaw_is_one_line_too(zoo: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def surprise(*_: object) -> str:
        raise ZeroDivisionError("a\nb")

    monkeypatch.setattr("zoo.show.show_text", surprise)
    status, out, err = zoo("show", "alexnet")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "internal error" in err and "ZeroDivisionError: a b" in err


def test_too_little_memory_is_named(zoo: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def huge(*_: object) -> str:
        raise MemoryError("Unable to allocate 9 GiB")

    monkeypatch.setattr("zoo.show.show_text", huge)
    status, out, err = zoo("show", "alexnet")
    assert (status, out, err) == (2, "", "zoo: not enough memory: Unable to allocate 9 GiB\n")


def test_an_interrupt_is_one_line(zoo: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("zoo.show.show_text", interrupt)
    assert zoo("show", "alexnet") == (130, "", "zoo: interrupted; nothing half written was left\n")


def test_the_result_is_on_stdout_and_the_log_on_stderr(desk: Path) -> None:
    done = shell("export", *MINE, "-o", "m.onnx", cwd=desk)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "m.onnx\n"
    assert "m.onnx: verified against the reference, largest error" in done.stderr


def test_a_reader_who_leaves_early_is_no_trouble(desk: Path) -> None:
    command = f"{sys.executable} -m converters show alexnet 2>err | head -c 1 >/dev/null; echo ${{PIPESTATUS[0]}}"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=True, cwd=desk, env=environment
    )
    assert done.stdout.strip() in ("0", "2")
    assert (desk / "err").read_text() == ""
    closed = subprocess.Popen([sys.executable, "-m", "converters", "list"], stdout=subprocess.PIPE, env=environment)
    assert closed.stdout
    closed.stdout.close()
    assert closed.wait() == 2


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Every command's parser."""
    (commands,) = (a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(cast("dict[str, argparse.ArgumentParser]", commands.choices))


def test_help_has_a_sentence_for_every_argument_and_tells_the_defaults() -> None:
    for name, parser in parsers().items():
        for action in parser._actions:
            assert action.help and "(default" not in action.help, (name, action.dest)
    assert "(default: 16)" in parsers()["run"].format_help()
    assert "of all that is random (default: 0)" in parsers()["train"].format_help()
    assert "--ema " in parsers()["run"].format_help() and "(default: False)" not in parsers()["run"].format_help()


def test_help_has_examples_that_can_be_typed() -> None:
    assert EXAMPLES.keys() == parsers().keys()
    for name, lines in EXAMPLES.items():
        told = parsers()[name].format_help()
        for line in lines:
            program, *arguments = shlex.split(line)
            assert program == "zoo" and build_parser().parse_args(arguments).command == name
            assert f"\n  {line}\n" in told


def test_a_list_of_some(zoo: Run, refused: Callable[..., str]) -> None:
    assert [line.split()[0] for line in zoo("list", "models", "caffenet")[1].splitlines()] == ["caffenet"]
    starred = zoo("list", "weights", "bvlc_*")[1].splitlines()
    assert starred and all(line.startswith("bvlc_") for line in starred)
    assert "unknown name among models 'caffnet'; did you mean caffenet?" in refused("list", "models", "caffnet")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("generate alexnet_mini --framework onnx -o ''", "-o/--output: expected a name, got ''"),
        ("show ''", "expected a name, got ''"),  # of a variable that is not set: the folder one stands in
        ("verify mine.caffemodel --prototxt ''", "--prototxt: expected a name, got ''"),
        ("run mine.caffemodel ''", "expected a name, got ''"),
        ("convert - -o x.npz", "expected a name, got '-'; stdin and stdout are none"),
        ("verify alexnet_mini --report - --report-format md", "--report: expected a name, got '-'"),
        ("export mine.caffemodel -o -", "expected a name, got '-'"),
        ("convert https://x.org/a.caffemodel -o x.npz", "the address https://x.org/a.caffemodel; download it first"),
        ("fetch https://x.org/a.caffemodel", "download it first"),
    ],
)
def test_what_names_no_file(refused: Callable[..., str], command: str, said: str) -> None:
    assert said in refused(*shlex.split(command))


def test_every_file_on_the_command_line_has_such_a_name() -> None:
    (commands,) = (action.choices for action in build_parser()._actions if action.dest == "command")
    for name, command in dict(commands or {}).items():
        for action in command._actions:
            if action.nargs != 0 and action.choices is None and action.type in (None, str, Path):
                assert action.metavar in ("F", "X", "NAME", "A,B,C", "a,b", "PATTERN"), f"{name} {action.dest}"


def test_help_of_every_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for command in ((), *((name,) for name in COMMANDS)):
        with pytest.raises(SystemExit) as end:
            main([*command, "--help"])
        assert end.value.code == 0
        told = capsys.readouterr().out
        assert told.startswith("usage: zoo") and "\nexamples:\n  zoo " in told
        assert all(len(line) <= 80 for line in told.splitlines())
        if command == ("export",):
            assert f"{min(IR_VERSIONS)} to {max(IR_VERSIONS)}; left out, {OPSET}" in " ".join(told.split())


COMMANDS = (
    "info",
    "list",
    "show",
    "diff",
    "generate",
    "fetch",
    "convert",
    "export",
    "verify",
    "train",
    "eval",
    "run",
    "pack",
    "demo",
    "card",
)


def complete(script: Path, *words: str) -> list[str]:
    """What bash would offer after these words."""
    code = (
        f"source {script}; function=$(complete -p zoo | sed -E 's/.* -F ([^ ]+) .*/\\1/'); "
        f"COMP_WORDS=({' '.join(repr(word) for word in words)}); COMP_CWORD={len(words) - 1}; "
        f"$function zoo {words[-1]!r} {words[-2]!r}; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True, cwd=script.parent)
    return sorted(word.strip() for word in done.stdout.splitlines() if word.strip())


def test_completion(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for shell_name in ("bash", "zsh", "fish"):
        with pytest.raises(SystemExit) as end:
            main(["--print-completion", shell_name])
        assert end.value.code == 0
        (desk / shell_name).write_text(capsys.readouterr().out)
    subprocess.run(["bash", "-n", desk / "bash"], check=True)
    assert complete(desk / "bash", "zoo", "") == sorted(COMMANDS)
    assert complete(desk / "bash", "zoo", "e") == ["eval", "export"]
    assert complete(desk / "bash", "zoo", "show", "alexnet_") == [
        name for name in registry.models() if name.startswith("alexnet_")
    ]
    assert complete(desk / "bash", "zoo", "convert", "--fo") == ["--force"]
    assert complete(desk / "bash", "zoo", "list", "w") == ["weights"]
    assert "mine.caffemodel" in complete(desk / "bash", "zoo", "convert", "mi")
    assert "caffenet" in (desk / "zsh").read_text() and "caffenet" in (desk / "fish").read_text()


def test_a_picture_takes_part(zoo: Run, desk: Path) -> None:
    Image.new("RGB", (100, 90), (9, 99, 199)).save(desk / "p.png")
    status, out, _ = zoo("verify", "alexnet_mini", "--frameworks", "onnx", "--image", "p.png")
    assert status == 0 and "p.png" in out


def test_a_failed_generate_takes_away_its_own_folder_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ZooError("refused")

    monkeypatch.setattr("zoo.frameworks.caffe.generate", refuse)
    (tmp_path / "mine").mkdir()
    for name in ("mine", "new"):
        assert main(["generate", "alexnet", "--framework", "caffe", "-o", str(tmp_path / name)]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("command", ["show", "diff alexnet", "generate --framework onnx -o made"])
def test_a_damaged_file_of_weights_is_not_taken_for_a_prototxt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.onnx").write_bytes(b"\x9c\xff" * 100)
    assert main([*command.split(), "net.onnx"]) == 2
    assert "no ONNX file that can be read" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.onnx"]


@pytest.mark.parametrize(
    "command", ["show alexnet", "show caffenet", "diff alexnet alexnet_v2", "list models", "list weights"]
)
def test_a_terminal_of_80_columns_is_enough(zoo: Run, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    status, whole, _ = zoo(*command.split())
    monkeypatch.setenv("COLUMNS", "80")
    narrow = zoo(*command.split())[1]
    assert status == 0 and max(map(len, narrow.splitlines())) <= 80 < max(max(map(len, whole.splitlines())), 81)
    assert set(re.sub(r"-{9,}", "", narrow).split()) == set(re.sub(r"-{9,}", "", whole).split()), "nothing is left out"


@pytest.mark.parametrize(
    ("terminal", "settings", "coloured"),
    [(True, {}, True), (True, {"NO_COLOR": "1"}, False), (True, {"TERM": "dumb"}, False), (False, {}, False)],
)
def test_colours_are_for_terminals_that_want_them(
    terminal: bool, settings: dict[str, str], coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert colours() is coloured


@pytest.mark.parametrize(
    "locale", [{"LC_ALL": "C"}, {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
@pytest.mark.parametrize("command", ["show alexnet", "list models"])
def test_a_locale_without_our_letters_prints_what_it_can(locale: dict[str, str], command: str) -> None:
    """Some names and titles have letters beyond ASCII; none is worth an error."""
    environment = {**os.environ, **locale, "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run(
        [sys.executable, "-m", "converters", *command.split()], capture_output=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert b"alexnet" in done.stdout and not done.stderr


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--workers=257", "--workers: expected a whole number of at most 256, got '257'"),
        ("--devices=65", "--devices: expected a whole number of at most 64, got '65'"),
        ("--devices=0", "--devices: expected a whole number of at least 1, got '0'"),
        (f"--steps={'9' * 5000}", "--steps: expected a whole number of at most 1,000,000,000,000,000,000"),
    ],
)
def test_a_slip_starts_no_more_processes_than_a_machine_bears(option: str, said: str) -> None:
    with pytest.raises(ZooError, match=said):  # read alone: without a limit, it would start them
        build_parser().parse_args(["train", "alexnet_mini", "--data", "digits", "-o", "run", option])
