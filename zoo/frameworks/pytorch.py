"""PyTorch. One table, `call`: layer kind -> the module call that makes it; run by `build`, printed by `generate`."""

from __future__ import annotations

import inspect
import keyword
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any, assert_never, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from zoo import registry
from zoo.errors import UnsupportedError, WeightsError, ZooError
from zoo.frameworks import _pytorch_modules as extra
from zoo.layers import (
    LRN,
    BatchNorm,
    Bias,
    Concat,
    Conv,
    Dense,
    Dropout,
    Eltwise,
    Flatten,
    Layer,
    ModelSpec,
    Pair,
    Pool,
    Power,
    ReLU,
    Scale,
    Shape,
    Sigmoid,
    Slice,
    Softmax,
    TanH,
)
from zoo.recipe import (
    Constant,
    Distribution,
    FanInUniform,
    Normal,
    TruncatedNormal,
    Uniform,
    initial_values,
)
from zoo.shapes import Window, activation_shapes, affine_shape, axis_index, parameter_shapes, window

# Where torch.nn's names of a parameter are not the canonical ones.
_BATCH_NORM = {"mean": "running_mean", "variance": "running_var"}


@dataclass(frozen=True, kw_only=True)
class Call:
    """A layer as ``make(*args, **options)``, applied to its inputs: as they are, or flattened from an axis on."""

    make: type[nn.Module]
    args: tuple[object, ...] = ()
    options: Mapping[str, object] = field(default_factory=dict[str, object])
    flatten: int | None = None

    def module(self) -> nn.Module:
        """The call, run."""
        return cast(Any, self.make)(*self.args, **self.options)

    def text(self) -> str:
        """The call, printed."""
        package = "" if self.make.__module__ == extra.__name__ else "nn."
        arguments = [repr(value) for value in self.args]
        arguments += [f"{name}={value!r}" for name, value in self.options.items()]
        return f"{package}{self.make.__name__}({', '.join(arguments)})"

    def apply(self, module: nn.Module, inputs: Sequence[Tensor]) -> Tensor:
        """The layer's `module`, run on its inputs."""
        return module(*inputs) if self.flatten is None else module(inputs[0].flatten(self.flatten))

    def apply_text(self, module: str, inputs: Sequence[str]) -> str:
        """`apply`, printed."""
        flat = "" if self.flatten is None else f".flatten({self.flatten})"
        return f"{module}({', '.join(inputs)}{flat})"


def call(layer: Layer, inputs: Sequence[Shape]) -> Call:
    """The table.

    Args:
        layer: what to make.
        inputs: the shapes of the activations it reads, without the batch axis.
    """
    shape = inputs[0]
    match layer:
        case Conv():
            return _conv(layer, shape)
        case Dense():
            return _dense(layer, shape)
        case Pool():
            return _pool(layer, shape)
        case LRN():
            return _lrn(layer, shape)
        case ReLU():
            return Call(make=nn.LeakyReLU, args=(layer.negative_slope,)) if layer.negative_slope else Call(make=nn.ReLU)
        case Sigmoid():
            return Call(make=nn.Sigmoid)
        case TanH():
            return Call(make=nn.Tanh)
        case Power():
            return Call(make=extra.Power, args=(layer.power, layer.scale, layer.shift))
        case Dropout():
            return Call(make=nn.Dropout, args=(layer.ratio,))
        case Softmax():
            return Call(make=nn.Softmax, options={"dim": axis_index(layer.name, layer.axis, shape)})
        case Flatten():
            return Call(make=nn.Flatten, args=(layer.axis, layer.end_axis))
        case Concat():
            return Call(make=extra.Concat, args=(axis_index(layer.name, layer.axis, shape),))
        case Slice():
            axis = axis_index(layer.name, layer.axis, shape)
            return Call(make=extra.Slice, args=(axis, layer.start, layer.stop))
        case Eltwise():
            coefficients = (layer.coeffs,) if layer.coeffs else ()
            return Call(make=extra.Eltwise, args=(layer.operation, *coefficients))
        case Scale():
            options = _unless(not layer.bias, bias=True)
            if len(inputs) == 2:
                options = _unless(not layer.bias, bias=inputs[1])
                return Call(make=extra.Multiply, args=(len(shape) - len(inputs[1]),), options=options)
            return Call(make=extra.Scale, args=_affine(layer, shape), options=options)
        case Bias():
            if len(inputs) == 2:
                return Call(make=extra.Add, args=(len(shape) - len(inputs[1]),))
            return Call(make=extra.Bias, args=_affine(layer, shape))
        case BatchNorm():
            return _batch_norm(layer, shape)
        case _:
            assert_never(layer)


def _conv(layer: Conv, shape: Shape) -> Call:
    place = window(layer, shape)
    args = (shape[0], layer.out_channels, _short(layer.kernel))
    options: dict[str, object] = {
        **_unless(layer.stride == (1, 1), stride=_short(layer.stride)),
        **_unless(layer.dilation == (1, 1), dilation=_short(layer.dilation)),
        **_unless(layer.groups == 1, groups=layer.groups),
        **_unless(layer.bias, bias=False),
    }
    if any(after > before for after, before in zip(place.after, place.before, strict=True)):
        return Call(make=extra.PaddedConv2d, args=args, options={"pads": _pads(place), **options})
    return Call(
        make=nn.Conv2d, args=args, options={**_unless(layer.pad == (0, 0), padding=_short(layer.pad)), **options}
    )


def _dense(layer: Dense, shape: Shape) -> Call:
    axis = axis_index(layer.name, layer.axis, shape)
    return Call(
        make=nn.Linear,
        args=(prod(shape[axis - 1 :]), layer.out_features),
        options=_unless(layer.bias, bias=False),
        flatten=axis if axis < len(shape) else None,
    )


def _pool(layer: Pool, shape: Shape) -> Call:
    if layer.global_pool:
        return Call(make=nn.AdaptiveMaxPool2d if layer.mode == "max" else nn.AdaptiveAvgPool2d, args=(1,))
    place = window(layer, shape)
    # torch.nn follows the same rules, but takes no pad over half the kernel, and with no pad at all it drops a last
    # window that starts outside the image, which Caffe keeps (an empty window).
    empty = any((place.out[i] - 1) * place.stride[i] >= shape[1 + i] + place.before[i] for i in (0, 1))
    if empty or any(2 * pad > kernel for pad, kernel in zip(layer.pad, layer.kernel, strict=True)):
        if layer.mode == "max":
            return Call(make=extra.PaddedMaxPool2d, args=(_short(place.kernel), _short(place.stride), _pads(place)))
        return Call(make=extra.PaddedAvgPool2d, args=(place.kernel, place.stride, _pads(place), place.before))
    return Call(
        make=nn.MaxPool2d if layer.mode == "max" else nn.AvgPool2d,
        args=(_short(layer.kernel), _short(layer.stride)),
        options={
            **_unless(layer.pad == (0, 0), padding=_short(layer.pad)),
            **_unless(layer.rounding == "floor", ceil_mode=True),
        },
    )


def _lrn(layer: LRN, shape: Shape) -> Call:
    options: dict[str, object] = {"alpha": layer.alpha, "beta": layer.beta, "k": layer.k}
    if layer.region == "within":
        return Call(make=extra.SpatialLocalResponseNorm, args=(layer.size,), options=options)
    if layer.towers > 1 or len(shape) == 1:  # torch.nn's takes no N x C
        options["towers"] = layer.towers
        return Call(make=extra.TowerLocalResponseNorm, args=(layer.size,), options=options)
    return Call(make=nn.LocalResponseNorm, args=(layer.size,), options=options)


def _affine(layer: Scale | Bias, shape: Shape) -> tuple[Shape, int]:
    """The shape of the parameter, and over how many axes it is broadcast after its own."""
    size = affine_shape(layer, shape)
    return size, len(shape) + 1 - axis_index(layer.name, layer.axis, shape) - len(size)


def _batch_norm(layer: BatchNorm, shape: Shape) -> Call:
    channels, makers = shape[0], {1: nn.BatchNorm1d, 2: nn.BatchNorm1d, 3: nn.BatchNorm2d, 4: nn.BatchNorm3d}
    if layer.batch_stats:
        return Call(make=extra.BatchStatisticsNorm, args=(channels, layer.eps))
    if len(shape) not in makers:
        raise UnsupportedError(f"layer {layer.name!r}: torch.nn normalises 2 to 5 axes, the batch included, not more")
    return Call(make=makers[len(shape)], args=(channels,), options={"eps": layer.eps, "affine": False})


def _unless(default: bool, **options: object) -> dict[str, object]:
    """Options that are only worth writing where they are not the default."""
    return {} if default else options


def _short(pair: Pair) -> int | Pair:
    return pair[0] if pair[0] == pair[1] else pair


def _pads(place: Window) -> tuple[int, int, int, int]:
    (top, left), (bottom, right) = place.before, place.after
    return (left, max(right, 0), top, max(bottom, 0))


@dataclass(frozen=True, kw_only=True)
class Start:
    """Initial values of a parameter as ``nn.init.function(parameter, *args, **options)``."""

    function: str
    args: tuple[float, ...] = ()
    options: Mapping[str, float] = field(default_factory=dict[str, float])

    def run(self, parameter: nn.Parameter) -> None:
        """The call, run: torch's own generator draws."""
        getattr(nn.init, self.function)(parameter, *self.args, **self.options)

    def text(self, parameter: str) -> str:
        """The call, printed."""
        arguments = [parameter, *map(repr, self.args), *(f"{name}={value!r}" for name, value in self.options.items())]
        return f"nn.init.{self.function}({', '.join(arguments)})"


def _starts(spec: ModelSpec) -> dict[str, Start]:
    """Canonical parameter -> its initial values, where torch's modules have not set them by themselves."""
    recipe, found = registry.recipe(spec), dict[str, Start]()
    own = initial_values(replace(recipe, initial={"*": FanInUniform()}, unit_inputs=False), spec)
    for name, (_, distribution) in initial_values(recipe, spec).items():
        if distribution != own[name][1]:
            found[name] = _start(distribution)
    return found


def _start(distribution: Distribution) -> Start:
    match distribution:
        case Constant(value=0.0):
            return Start(function="zeros_")
        case Constant(value=value):
            return Start(function="constant_", args=(value,))
        case Normal(std=std):
            return Start(function="normal_", options={"std": std})
        case TruncatedNormal(std=std):
            return Start(function="trunc_normal_", options={"std": std, "a": -2 * std, "b": 2 * std})
        case Uniform(bound=bound):
            return Start(function="uniform_", args=(-bound, bound))
        case _:
            assert_never(distribution)


class Network(nn.Module):
    """A spec as a live module: a submodule a layer, under the name `attribute_names` gives it.

    Its initial values are those of the network's recipe (`zoo.registry.recipe`), drawn by torch's own generator.
    Ordinary in every other way: ``train()`` and ``eval()``, ``state_dict()`` and ``to()`` work, and nothing is done in
    place. A fresh one is in training mode, as every module of torch.

    Args:
        spec: the network.
        outputs: the activations it answers with; the spec's outputs if left out.
    """

    def __init__(self, spec: ModelSpec, outputs: Sequence[str] | None = None) -> None:
        super().__init__()
        self._spec, self._calls, self._outputs = spec, _calls(spec), tuple(outputs or spec.outputs)
        self._attributes, self._wiring = attribute_names(spec), spec.wiring()
        for layer, made in self._calls.items():
            self.add_module(self._attributes[layer], made.module())
        for name, start in _starts(spec).items():
            layer, _, kind = name.rpartition(".")
            start.run(self.get_parameter(f"{self._attributes[layer]}.{kind}"))

    def activations(self, *inputs: Tensor) -> dict[str, Tensor]:
        """Every layer's output, N x shape, under its name, from one tensor an input of the spec, in their order."""
        names = [source.name for source in self._spec.inputs]
        if len(names) != len(inputs):
            raise ZooError(f"{self._spec.name} reads {len(names)} inputs ({', '.join(names)}), got {len(inputs)}")
        values = dict(zip(names, inputs, strict=True))
        for layer, made in self._calls.items():
            module = self.get_submodule(self._attributes[layer])
            values[layer] = made.apply(module, [values[name] for name in self._wiring[layer]])
        return {layer: values[layer] for layer in self._calls}

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The output, N x shape, or a tuple of them where there are several."""
        values = self.activations(*inputs)
        outputs = tuple(values[name] for name in self._outputs)
        return outputs[0] if len(outputs) == 1 else outputs


def _calls(spec: ModelSpec) -> dict[str, Call]:
    shapes, wiring = activation_shapes(spec), spec.wiring()
    return {layer.name: call(layer, [shapes[name] for name in wiring[layer.name]]) for layer in spec.layers}


def attribute_names(spec: ModelSpec) -> dict[str, str]:
    """Input or layer -> its Python name: the same, but where it is no identifier or belongs to `torch.nn.Module`."""
    taken = {*dir(nn.Module()), *dir(Network), "self", "_spec", "_calls", "_outputs", "_attributes", "_wiring"}
    wanted, names = [source.name for source in spec.inputs] + [layer.name for layer in spec.layers], dict[str, str]()
    # Names that can stay come first, so that a mended name never drives one of them away.
    for name in sorted(wanted, key=lambda name: identifier(name) != name):
        python, number = identifier(name), 2
        while python in taken:
            python, number = identifier(f"{identifier(name)}_{number}"), number + 1
        taken.add(python)
        names[name] = python
    return names


def identifier(name: str) -> str:
    """The nearest Python identifier: ``conv1/7x7`` -> ``conv1_7x7``."""
    # Two leading underscores would be mangled within a class.
    python = re.sub(r"^_+", "_", re.sub(r"[^0-9A-Za-z_]", "_", name))
    return f"_{python}" if not python or python[0].isdigit() or keyword.iskeyword(python) else python


def parameter_names(spec: ModelSpec) -> dict[str, str]:
    """Canonical parameter name -> its key in the module's ``state_dict()``."""
    attributes, names = attribute_names(spec), dict[str, str]()
    for canonical in parameter_shapes(spec):
        layer, _, kind = canonical.rpartition(".")
        names[canonical] = f"{attributes[layer]}.{_BATCH_NORM.get(kind, kind)}"
    return names


def counters(spec: ModelSpec) -> list[str]:
    """The keys of ``state_dict()`` that are no parameters: how many batches each `torch.nn.BatchNorm2d` has seen."""
    attributes = attribute_names(spec)
    return [
        f"{attributes[layer.name]}.num_batches_tracked"
        for layer in spec.layers
        if isinstance(layer, BatchNorm) and not layer.batch_stats
    ]


def build(
    spec: ModelSpec, weights: Mapping[str, NDArray[Any]] | None = None, *, outputs: Sequence[str] | None = None
) -> Network:
    """A live module, in training mode, on the CPU or the device of a ``with torch.device(...)``.

    Args:
        spec: the network.
        weights: every canonical parameter, float32, copied; without them the recipe's initial values stay.
        outputs: the activations it answers with (the logits, say); the spec's outputs if left out.

    Raises:
        WeightsError: `weights` do not fit the spec.
    """
    network = Network(spec, outputs)
    if weights is not None:
        network.load_state_dict(state_dict(spec, weights))
    return network


def bind(spec: ModelSpec, weights: Mapping[str, NDArray[Any]], *, outputs: Sequence[str] | None = None) -> Network:
    """`build` for inference alone: the parameters *are* the arrays, nothing is initialised and nothing copied."""
    with torch.device("meta"):
        network = Network(spec, outputs)
    network.load_state_dict(state_dict(spec, weights), assign=True)
    return network.eval().requires_grad_(False)


def state_dict(spec: ModelSpec, weights: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
    """The module's ``state_dict()`` with these canonical weights, over the same memory; raises `WeightsError`."""
    expected = parameter_shapes(spec)
    problems = [f"{name} is missing" for name in expected if name not in weights]
    problems += [f"{name} is not a parameter of this network" for name in weights if name not in expected]
    problems += [
        f"{name} has shape {weights[name].shape}, expected {shape}"
        for name, shape in expected.items()
        if name in weights and weights[name].shape != shape
    ]
    if problems:
        raise WeightsError(spec.name, problems)
    state = {key: _tensor(weights[canonical]) for canonical, key in parameter_names(spec).items()}
    return state | {key: torch.tensor(0) for key in counters(spec)}


def _tensor(array: NDArray[Any]) -> Tensor:
    """The array as a tensor over the same memory, which may be read only: nobody may write to it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.ascontiguousarray(array).reshape(array.shape))


def forward(
    spec: ModelSpec, weights: Mapping[str, NDArray[Any]], inputs: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Every layer's activation; see `zoo.registry.Framework.forward`."""
    batches = [_tensor(np.asarray(inputs[source.name], np.float32)) for source in spec.inputs]
    with torch.inference_mode():
        return {name: value.numpy() for name, value in bind(spec, weights).activations(*batches).items()}


def generate(spec: ModelSpec, directory: Path) -> list[Path]:
    """Write ``<name>.py``, a module that imports torch alone; see `zoo.registry.Framework.generate`."""
    path = directory / f"{identifier(spec.name)}.py"
    path.write_text(source_text(spec), encoding="utf-8")
    return [path]


def source_text(spec: ModelSpec) -> str:
    """The Python source of the network."""
    calls, attributes, shapes = _calls(spec), attribute_names(spec), activation_shapes(spec)
    helpers = sorted({made.make for made in calls.values() if made.make.__module__ == extra.__name__}, key=_line)
    body = "".join(f"\n\n{inspect.getsource(helper)}" for helper in helpers)
    imports = ["import torch"] * ("torch." in body) + ["from torch import Tensor, nn"]
    imports += ["from torch.nn import functional"] * ("functional." in body)
    inputs = _text(", ".join(f"{source.name} (N x {_times(source.shape)})" for source in spec.inputs))
    results, kind = _text(", ".join(spec.outputs)), "Tensor" if len(spec.outputs) == 1 else "tuple[Tensor, ...]"
    signature = ", ".join(f"{attributes[source.name]}: Tensor" for source in spec.inputs)
    lines = [
        f'"""{_text(spec.name)}: {_text(spec.title)}."""\n',
        "from __future__ import annotations\n",
        *imports,
        f"{body}\n",
        f"class {_class_name(spec.name)}(nn.Module):",
        '    """Comments give the output of each layer, without the batch axis."""\n',
        "    def __init__(self) -> None:",
        "        super().__init__()",
        *(f"        self.{attributes[name]} = {made.text()}  # {_times(shapes[name])}" for name, made in calls.items()),
        *_initial_lines(spec, attributes),
        f"\n    def forward(self, {signature}) -> {kind}:",
        f'        """{results}, from {inputs}."""',
        *_forward_lines(spec, calls, attributes),
    ]
    return "\n".join(lines) + "\n"


def _initial_lines(spec: ModelSpec, attributes: Mapping[str, str]) -> list[str]:
    recipe, starts = registry.recipe(spec), _starts(spec)
    said = f"        # Initial values: the recipe {recipe.name} ({_text(recipe.source)})"
    if not starts:
        return [f"{said}, which are torch's own."]
    lines = [f"{said}."]
    for name, start in starts.items():
        layer, _, kind = name.rpartition(".")
        lines.append(f"        {start.text(f'self.{attributes[layer]}.{kind}')}")
    return lines


def _forward_lines(spec: ModelSpec, calls: Mapping[str, Call], attributes: Mapping[str, str]) -> list[str]:
    # A chain is written with one variable, anything else with one an activation.
    before = [spec.inputs[0].name, *calls]
    chain = all(names == (name,) for name, names in zip(before, spec.wiring().values(), strict=False))
    variables = {name: "x" if chain and name in calls else python for name, python in attributes.items()}
    lines = [
        f"        {variables[name]} = {made.apply_text(f'self.{attributes[name]}', [variables[i] for i in names])}"
        for (name, made), names in zip(calls.items(), spec.wiring().values(), strict=True)
    ]
    return [*lines, f"        return {', '.join(variables[name] for name in spec.outputs)}"]


def _class_name(name: str) -> str:
    words = "".join(word[:1].upper() + word[1:] for word in identifier(name).split("_"))
    own = identifier(words.replace("Alexnet", "AlexNet"))
    return f"{own}Network" if own == "Tensor" or hasattr(extra, own) else own  # leave the helpers their names


def _line(helper: type[nn.Module]) -> int:
    return inspect.getsourcelines(helper)[1]


def _times(shape: Shape) -> str:
    return " x ".join(map(str, shape))


def _text(text: str) -> str:
    """Anybody's words, made safe within a docstring."""
    return " ".join(text.split()).replace("\\", "\\\\").replace('"', "'")
