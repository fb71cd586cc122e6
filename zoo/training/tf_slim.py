"""Training by TF-slim: one session, the layers of each tower on a device of its own.

The same plan as PyTorch's (`zoo.training.towers`), the same data, masks, rates and momentum. TensorFlow's session moves
what a device needs from the other, and its gradients come back the same way: here a gather is a plain concatenation.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from zoo.channels_last import native_shape
from zoo.errors import UnsupportedError, ZooError, said
from zoo.frameworks import tf_slim
from zoo.frameworks.tf_slim import identifier, variables
from zoo.frameworks.tf_slim import runtime as slim_runtime
from zoo.layers import BatchNorm, Dropout, Input, ModelSpec
from zoo.preprocess import FloatArray
from zoo.recipe import decay_of
from zoo.shapes import activation_shapes, tied
from zoo.training.augment import Augment
from zoo.training.checkpoint import VELOCITY
from zoo.training.data import Batch
from zoo.training.devices import DeviceType
from zoo.training.evaluate import Scores, evaluate
from zoo.training.images import check_broken
from zoo.training.job import Job, resume
from zoo.training.loop import Loss
from zoo.training.masks import keep_mask
from zoo.training.optimiser import Progress
from zoo.training.towers import Placement, Step, plan, trunk
from zoo.wire.atomic import new_file

tf: Any = slim_runtime.tf
timeline: Any = import_module("tensorflow.python.client.timeline")

# What torch alone can be asked for, by its field of the options, with what it is otherwise.
_FLAGS = (
    ("--compile", "compiled", False),
    ("--precision", "precision", "fp32"),
    ("--deterministic", "deterministic", False),
)
_TRACED: Any = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
# Where images are prepared, before TensorFlow is fed them.
_CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class _Piece:
    """The variables of one step on one device: a network of a single layer, in a variable scope of its own."""

    spec: ModelSpec
    scope: str
    step: Step
    part: int

    def variables(self) -> list[tuple[str, Any]]:
        """Canonical names and variables."""
        found = {variable.op.name: variable for variable in tf.global_variables()}
        return [(v.parameter, found[f"{self.scope}/{v.name}"]) for v in variables(self.spec)]

    @property
    def is_learned(self) -> bool:
        """Whether gradients move its variables; a layer has moving statistics alone, or none."""
        return all(row.learned for row in self.step.parameters.values())

    def own_part(self, whole: FloatArray, parts: int) -> FloatArray:
        """What of a canonical parameter belongs here."""
        return np.split(whole, parts)[self.part] if self.step.is_sharded else whole


@dataclass(frozen=True, kw_only=True)
class _Graph:
    """What the session is fed and asked for."""

    images: Any
    labels: Any
    masks: dict[str, Any]
    training: Any
    statistics: Any
    logits: Any
    loss: Any
    rates: dict[str, Any]
    update: Any
    pieces: list[_Piece]


class TFSlimLearner:
    """One process for all devices; see `zoo.training.loop.Learner`.

    Raises:
        ZooError: a number of devices, or a mode, that this framework does not train on.
    """

    is_first = speaks = True
    pins, loss_scale, lag, memory = False, 1.0, 0, None

    def __init__(self, job: Job) -> None:
        if job.arrangement.replicas > 1 or job.arrangement.source == "batch":
            raise ZooError(
                "tf_slim trains on one device, or on two as --parallel towers; use --framework pytorch for other modes"
            )
        for flag, field, usual in _FLAGS:
            if getattr(job.options, field) != usual:
                raise ZooError(f"{flag}: tf_slim trains in single precision, by TensorFlow's own graph; leave it out")
        self.job, self._frozen = job, job.frozen()
        devices = _devices(job.arrangement.parts, job.options.device)
        self.device_said = ", ".join(devices)
        if tied(job.spec):
            names = ", ".join(tie.name for tie in job.spec.ties)
            raise UnsupportedError(f"{job.spec.name}: TF-slim does not train tied parameters ({names}); use PyTorch")
        self._shapes = activation_shapes(job.spec)
        self._augment = Augment(job.train, job.spec, job.recipe, job.options.seed, _CPU)
        self._recorded: list[Any] | None = None
        with tf.Graph().as_default(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # slim calls what TensorFlow calls deprecated
            self._graph = self._build(devices)
            self._session = tf.Session(config=_configuration(job.arrangement.parts))
            self._session.run(tf.global_variables_initializer())
        self.start, weights, velocities = resume(job)
        self._assign(weights, "")
        if velocities:
            self._assign(velocities, VELOCITY)

    def images_of(self, step: int) -> range:
        """All images of a step."""
        return range(step * self.job.batch_size, (step + 1) * self.job.batch_size)

    def any_of_all(self, said: bool) -> bool:
        """There is no other process."""
        return said

    def train_step(self, batch: Batch, step: int, progress: Progress) -> Loss:
        """One step; gives the mean loss over the batch."""
        graph, rates = self._graph, self.job.rates(step, progress.drops)
        assert self.job.spec.preprocessing is not None
        seen = self._augment(batch, self.images_of(step))
        x_NCHW = seen.inputs(self.job.spec.preprocessing, _CPU).numpy()
        feed: dict[Any, Any] = {graph.images: _native(x_NCHW), graph.labels: batch.labels.numpy()}
        feed |= {holder: rates.of(name) for name, holder in graph.rates.items()}
        feed |= {holder: self._mask(name, step) for name, holder in graph.masks.items()}
        feed |= {graph.training: True, graph.statistics: rates.statistics}
        traced = {} if self._recorded is None else {"options": _TRACED, "run_metadata": tf.RunMetadata()}
        try:
            loss, _ = self._session.run([graph.loss, graph.update], feed, **traced)
        except tf.errors.ResourceExhaustedError as error:
            raise MemoryError(said(error)) from error
        if self._recorded is not None:
            self._recorded.append(traced["run_metadata"].step_stats)
        return lambda: float(loss)

    @contextmanager
    def profile(self, folder: Path) -> Generator[None]:
        """Record steps as TensorFlow traces them: ``trace-N.json`` for chrome://tracing or Perfetto, a file a step."""
        self._recorded = list[Any]()
        yield
        folder.mkdir(parents=True, exist_ok=True)
        for number, stats in enumerate(self._recorded):
            with new_file(folder / f"trace-{number}.json") as fresh:
                fresh.write_text(timeline.Timeline(stats).generate_chrome_trace_format())
        self._recorded = None

    def _mask(self, layer: str, step: int) -> FloatArray:
        """A dropout's mask, laid out as its activation: 0, or 1 / (share kept)."""
        dropout = self.job.spec.layer(layer)
        assert isinstance(dropout, Dropout)
        images = range(self.job.batch_size)
        seed, shape = self.job.options.seed, self._shapes[layer]
        kept = keep_mask(shape, dropout.ratio, seed=seed, step=step, layer=layer, images=images)
        return _native(kept.astype(np.float32) * np.float32(1 / (1 - dropout.ratio)))

    def validate(self) -> Scores:
        """Scores on all validation images."""
        scores = evaluate(
            self.logits,
            self.job.val,
            self.job.spec,
            batch_size=self.job.batch_size,
            workers=self.job.options.workers,
        )
        check_broken(scores.broken, self.job.options.on_broken_image)
        return scores

    def logits(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """The network at inference."""
        graph = self._graph
        # A mask of ones drops nothing.
        feed: dict[Any, Any] = {graph.images: _native(x_NCHW.numpy())}
        feed |= {h: np.ones((1, *native_shape(self._shapes[name])), np.float32) for name, h in graph.masks.items()}
        return torch.from_numpy(self._session.run(graph.logits, feed))

    def whole_state(self) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
        """Canonical weights and velocities."""
        return self._fetch(""), self._fetch(VELOCITY)

    def _build(self, devices: list[str]) -> _Graph:
        job, source = self.job, self.job.spec.inputs[0]
        images = tf.placeholder(tf.float32, [None, *native_shape(source.shape)], name="images")
        labels = tf.placeholder(tf.int64, [None], name="labels")
        training = tf.placeholder_with_default(False, [], name="training")
        builder = _Builder(identifier(job.spec.name), devices, {source.name: [images]}, training, self._frozen)
        steps = plan(trunk(job.spec), job.arrangement.parts)
        for step in steps:
            builder.add(step)
        logits = builder.read(steps[-1].layer.name, "replicated", 0)
        logits = tf.reshape(logits, [tf.shape(logits)[0], -1])
        loss = tf.losses.softmax_cross_entropy(
            tf.one_hot(labels, tf.shape(logits)[1]), logits, label_smoothing=job.recipe.label_smoothing
        )
        rates, update = self._momentum([piece for piece in builder.pieces if piece.is_learned], loss)
        statistics = tf.placeholder(tf.float32, [], name="statistics")
        with tf.control_dependencies([update]):
            followed = [moving.assign_add(statistics * (now - moving)) for moving, now in builder.followed]
        return _Graph(
            images=images,
            labels=labels,
            masks=builder.masks,
            training=training,
            statistics=statistics,
            logits=logits,
            loss=loss,
            rates=rates,
            update=tf.group(update, *followed),
            pieces=builder.pieces,
        )

    def _momentum(self, pieces: list[_Piece], loss: Any) -> tuple[dict[str, Any], Any]:
        """v = m v + rate (g + decay w); w = w - v: the rates' placeholders by canonical name, and the update."""
        named = [(name, variable) for piece in pieces for name, variable in piece.variables()]
        velocities = {variable.op.name: _velocity(variable) for _, variable in named}
        named = [(name, variable) for name, variable in named if name.rpartition(".")[0] not in self._frozen]
        gradients = tf.gradients(loss, [variable for _, variable in named], colocate_gradients_with_ops=True)
        rates = {name: tf.placeholder(tf.float32, [], name="rate") for name in dict(named)}
        updates = list[Any]()
        # No weight moves before all gradients are there.
        with tf.control_dependencies([loss, *gradients]):
            for (name, variable), gradient in zip(named, gradients, strict=True):
                with tf.device(variable.device):
                    pull = gradient + decay_of(self.job.recipe, name) * variable
                    velocity = velocities[variable.op.name]
                    moved = self.job.recipe.momentum * velocity + rates[name] * pull
                    updates += [velocity.assign(moved), variable.assign_sub(moved)]
        return rates, tf.group(*updates)

    def _assign(self, tensors: Mapping[str, FloatArray], prefix: str) -> None:
        for piece in self._pieces(prefix):
            own = {name: piece.own_part(tensors[name], self.job.arrangement.parts) for name in piece.step.parameters}
            tf_slim.assign(self._session, piece.spec, own, prefix + piece.scope)

    def _pieces(self, prefix: str) -> list[_Piece]:
        """Those that have variables under a prefix."""
        return [piece for piece in self._graph.pieces if piece.is_learned or prefix != VELOCITY]

    def _fetch(self, prefix: str) -> dict[str, FloatArray]:
        found = dict[str, list[FloatArray]]()
        for piece in self._pieces(prefix):
            for name, part in tf_slim.fetch(self._session, piece.spec, prefix + piece.scope).items():
                found.setdefault(name, []).append(part)
        return {name: np.concatenate(parts) for name, parts in found.items()}


class _Builder:
    """Builds the steps of a plan, one after the other, on all devices.

    `values` holds every activation so far: one tensor a device where it is dealt out by channels, or one for all.
    `followed` holds the moving statistics of the layers that are not frozen, each with the batch's.
    """

    def __init__(
        self, name: str, devices: list[str], values: dict[str, list[Any]], training: Any, frozen: set[str]
    ) -> None:
        self.name, self.devices, self.values, self.training, self.frozen = name, devices, values, training, frozen
        self.masks, self.pieces = dict[str, Any](), list[_Piece]()
        self.followed = list[tuple[Any, Any]]()

    def add(self, step: Step) -> None:
        """Build one layer."""
        shares = range(len(self.devices)) if step.output == "channels" else range(1)
        results = list[Any]()
        for part in shares:
            with tf.device(self.devices[part]):
                if isinstance(step.layer, Dropout):
                    results.append(self._dropped(step, part))
                else:
                    results.append(self._computed(step, part))
        self.values[step.layer.name] = results

    def read(self, name: str, want: Placement, part: int) -> Any:
        """An activation as a device wants it, from wherever it lies."""
        tensors = self.values[name]
        if want == "replicated":
            return tensors[0] if len(tensors) == 1 else tf.concat(tensors, _channels(tensors[0]))
        if len(tensors) > 1:
            return tensors[part]
        return tf.split(tensors[0], len(self.devices), _channels(tensors[0]))[part]

    def _dropped(self, step: Step, part: int) -> Any:
        name = step.layer.name
        if name not in self.masks:
            self.masks[name] = tf.placeholder(tf.float32, [None, *native_shape(step.shape)], name="mask")
        mask = self.masks[name]
        if step.output == "channels":
            mask = tf.split(mask, len(self.devices), _channels(mask))[part]
        return self.read(step.inputs[0], step.want, part) * mask

    def _computed(self, step: Step, part: int) -> Any:
        read = {name: self.read(name, step.want, part) for name in step.inputs}
        shapes, begin = dict(zip(step.inputs, step.input_shapes, strict=True)), 0
        if step.reach:
            (name,), tensors = step.inputs, self.values[step.inputs[0]]
            below = [tensors[part - 1][..., -step.reach :]] if part else []
            above = [tensors[part + 1][..., : step.reach]] if part + 1 < len(tensors) else []
            begin, read[name] = step.reach * len(below), tf.concat([*below, read[name], *above], 3)
            shapes[name] = (read[name].shape.as_list()[3], *shapes[name][1:])
        spec = ModelSpec(
            name=self.name,
            title="one layer on one device",
            inputs=tuple(Input(name=name, shape=shape) for name, shape in shapes.items()),
            layers=(replace(step.layer, inputs=step.inputs),),
        )
        scope = f"{self.name}/tower_{part}"
        with slim_runtime.slim.arg_scope(tf_slim.arg_scope(spec, 0.0)):
            made = tf_slim.network(spec)(read, is_training=False, scope=scope)[1][step.layer.name]
        if step.parameters:
            self.pieces.append(_Piece(spec=spec, scope=scope, step=step, part=part))
        if isinstance(step.layer, BatchNorm) and step.layer.name not in self.frozen:
            made = self._normalised(step.layer, read[step.inputs[0]], made)
        return made[..., begin : begin + step.input_shapes[0][0]] if step.reach else made

    def _normalised(self, layer: BatchNorm, x: Any, judged: Any) -> Any:
        """In training by the batch's statistics, else as `judged`; the layer is the last piece."""
        axis = _channels(x)
        mean, variance = tf.nn.moments(x, [other for other in range(len(x.shape)) if other != axis], keepdims=True)
        count = tf.cast(tf.size(x) / tf.size(mean), tf.float32)
        now = {"mean": mean, "variance": variance * count / (count - 1)}  # over n - 1, as PyTorch's and Caffe's
        for name, moving in self.pieces[-1].variables():
            self.followed.append((moving, tf.reshape(now[name.rpartition(".")[2]], [-1])))
        learned = tf.nn.batch_normalization(x, mean, variance, None, None, layer.eps)
        return tf.cond(self.training, lambda: learned, lambda: judged)


def _velocity(variable: Any) -> Any:
    with tf.device(variable.device):
        return tf.Variable(tf.zeros(variable.shape), trainable=False, name=f"{VELOCITY}{variable.op.name}")


def _channels(tensor: Any) -> int:
    """The axis of the channels: images are N x H x W x C, whatever else lies as in the canonical form."""
    return 3 if len(tensor.shape) == 4 else 1


def _native(x: NDArray[Any]) -> NDArray[Any]:
    return x.transpose(0, 2, 3, 1) if x.ndim == 4 else x


def _devices(parts: int, wanted: DeviceType) -> list[str]:
    """GPUs where there are enough, else logical devices of the CPU; raises `ZooError` where others are asked for."""
    found = len(tf.config.list_physical_devices("GPU"))
    if wanted == "mps" or (wanted == "cuda" and found < parts):
        raise ZooError(f"--device {wanted}: TensorFlow sees {found} GPUs here, {parts} are needed; use --device cpu")
    kind = "GPU" if wanted != "cpu" and found >= parts else "CPU"
    return [f"/{kind}:{part}" for part in range(parts)]


def _configuration(parts: int) -> Any:
    return tf.ConfigProto(device_count={"CPU": parts}, allow_soft_placement=True)
