"""Things are found by their file's name, and what is missing is said with what to do."""

import subprocess
import sys

import pytest

from zoo import registry, spec_json
from zoo.errors import MissingDependencyError, UnknownNameError, ZooError, nearest


def test_every_model_is_found_and_named_as_its_file() -> None:
    assert {"alexnet", "bvlc_alexnet", "caffenet", "alexnet_v2", "alexnet_owt"} <= set(registry.models())
    for name in registry.models():
        assert registry.model(name).name == name
        assert registry.model(name).title


def test_every_framework_offers_the_same_functions() -> None:
    assert registry.frameworks()
    for name in registry.frameworks():
        assert registry.extras()[registry.facts("zoo.frameworks", name)["PACKAGES"][0]] == name
        framework = registry.framework(name)
        assert callable(framework.generate)
        assert callable(framework.forward)


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown model 'alexnt'; did you mean alexnet"):
        registry.model("alexnt")


def test_a_missing_framework_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.startswith("zoo.frameworks.pytorch")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(
        MissingDependencyError, match=r"torch is not installed; run: pip install 'alexnet-zoo\[pytorch\]'"
    ):
        registry.framework("pytorch")


@pytest.mark.parametrize("command", [["--help"], ["show", "alexnet"], ["list"], ["diff", "alexnet", "caffenet"]])
def test_looking_loads_no_framework(command: list[str]) -> None:
    code = (
        "import sys; from converters.cli import main\n"
        f"try: main({command!r})\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'tensorflow', 'onnx', 'onnxruntime', 'cv2', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


LRN_JSON = (
    '{"name":"a","title":"","inputs":[{"shape":[3,4,4]}],'
    '"layers":[{"kind":"LRN","name":"n","size":5,"beta":0.75,"alpha":%s}]}'
)


@pytest.mark.parametrize("name", registry.models())
def test_a_spec_survives_its_json(name: str) -> None:
    spec = registry.model(name)
    text = spec_json.dumps(spec)
    assert spec_json.loads(text) == spec
    assert spec_json.dumps(spec_json.loads(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"name": 1}',
        '{"name":"a","title":"","inputs":[],"layers":[{"kind":"Nope","name":"x"}]}',
        "[" * 9999,
        LRN_JSON % "NaN",
        LRN_JSON % "1e999",
        LRN_JSON % ("1" + "0" * 400),
        r'{"name":"a","title":"x\ud800","inputs":[{"shape":[3]}],"layers":[]}',
    ],
)
def test_text_that_is_no_spec_is_refused(text: str) -> None:
    with pytest.raises(ZooError, match="damaged"):
        spec_json.loads(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LRN_JSON % "1e39", "alpha: expected a finite number of float32, got 1e+39"),
        (LRN_JSON % ("-" + "9" * 5000), "alpha: expected a finite number of float32, got -inf"),
        (
            r'{"name":"a\udc00","title":"","inputs":[],"layers":[]}',
            r"name: expected text, got 'a\udc00', which is none",
        ),
        (
            LRN_JSON.replace('"n"', r'"\ud800"') % 1,
            r"layers: name: expected text, got '\ud800', which is none in UTF-8",
        ),
        (LRN_JSON.replace('"kind":"LRN",', "") % 1, "layers: kind is missing"),
        (LRN_JSON.replace('"size":5,', "") % 1, "layers: size of a LRN is missing"),
    ],
)
def test_what_is_wrong_in_a_spec_is_said_with_its_field(text: str, said: str) -> None:
    with pytest.raises(ZooError) as caught:
        spec_json.loads(text)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("alexnt", ["alexnet"]),
        ("Alexnet", ["alexnet"]),
        ("alexnet-owt", ["alexnet_owt"]),
        ("cafenet", ["caffenet"]),
        ("caffe", ["caffenet"]),
        ("bvlc_alexent", ["bvlc_alexnet"]),
        ("lenet", []),  # another network, no slip
        ("resnet50", []),
        ("x", []),
        ("", []),
    ],
)
def test_only_a_slip_is_taken_for_a_name(typed: str, meant: list[str]) -> None:
    assert nearest(typed, registry.models()) == meant


def test_no_letter_of_three_may_be_wrong_and_a_part_may_be_of_several() -> None:
    assert nearest("gpu", ("auto", "cpu", "cuda", "mps")) == []
    subjects = ("keras-jax", "keras-onnx", "keras-torch", "onnx", "pytorch", "pytorch-onnx")
    assert nearest("keras", subjects) == ["keras-jax", "keras-onnx", "keras-torch"]
    assert nearest("torch", subjects) == ["pytorch", "keras-torch", "pytorch-onnx"]
    assert nearest("bgr", ("RGB", "BGR")) == ["BGR"] and nearest("onx", ("onnx", "caffe")) == ["onnx"]


def test_of_many_names_some_are_told() -> None:
    error = UnknownNameError("layer", "q", [f"layer{i}" for i in range(1000)])
    assert str(error).endswith(", and 960 more") and len(str(error)) < 1000
