"""The network of one device, as `zoo.training.towers` plans it, and the sum of gradients over several."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from zoo import layers
from zoo.errors import UnsupportedError
from zoo.frameworks.pytorch import Call, call
from zoo.layers import LRN, Dropout, ModelSpec
from zoo.shapes import tied
from zoo.training.batch_norm import BatchNorm
from zoo.training.collectives import gather, halo, replicate, sent, shard
from zoo.training.lrn import LocalResponseNorm
from zoo.training.masks import keep_mask_on
from zoo.training.towers import Arrangement, Placement, Step, plan, share, trunk

# What any group waits for at most: a partner that died is noticed at once, by its broken connection or by the parent.
# Nobody is late by this much, but for a machine that vanished from the network.
PATIENCE = timedelta(minutes=10)


@dataclass(frozen=True, kw_only=True, slots=True)
class Draw:
    """What a step of training adds to the network.

    Attributes:
        seed: of dropout's masks.
        step: whose masks are drawn.
        images: which images of the global batch a row works on.
        statistics: the share of the batch's in batch normalisation's moving statistics.
    """

    seed: int
    step: int
    images: range
    statistics: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Row:
    """The own place in the grid of devices.

    Attributes:
        group: the devices of the own row; None where there is one.
        replicas: those that hold the same part of the network, in all rows; None where there is one row.
        number: which row it is.
    """

    group: dist.ProcessGroup | None = None
    replicas: dist.ProcessGroup | None = None
    number: int = 0


ALONE = Row()


class PlacedNetwork(nn.Module):
    """The steps of one device; with one part, the plain network on one device.

    Stops before closing softmaxes: the results are logits, the same on all devices of a row.

    Args:
        spec: the network; it has one input and one output.
        arrangement: the grid of devices.
        row: the own place in it.
    """

    def __init__(self, spec: ModelSpec, arrangement: Arrangement, row: Row = ALONE) -> None:
        super().__init__()
        self.parts, self.group, self.replicas = arrangement.parts, row.group, row.replicas
        self.rank = dist.get_rank(row.group) if row.group else 0
        self.source = spec.inputs[0].name
        self.steps = plan(trunk(spec), arrangement.parts, arrangement.source)
        self.calls = [call(step.layer, step.input_shapes) for step in self.steps]
        self.layers = nn.ModuleList(_module(step, made) for step, made in zip(self.steps, self.calls, strict=True))
        self.twins = self._tie(spec)

    def _tie(self, spec: ModelSpec) -> dict[str, str]:
        """Make every tied parameter the one tensor it is; parameter -> the one whose tensor it has."""
        twins = tied(spec)
        if twins and self.parts > 1:
            names = ", ".join(tie.name for tie in spec.ties)
            raise UnsupportedError(f"{spec.name}: parameters tied ({names}) cannot be sharded; use --parallel data")
        modules = {step.layer.name: module for step, module in zip(self.steps, self.layers, strict=True)}
        names = {name: row.torch for step in self.steps for name, row in step.parameters.items()}
        for twin, owner in twins.items():
            layer, whose = twin.rpartition(".")[0], owner.rpartition(".")[0]
            setattr(modules[layer], names[twin], getattr(modules[whose], names[owner]))
        return twins

    def forward(self, x: Tensor, draw: Draw | None = None) -> Tensor:
        """The logits, N x classes, of a row's images.

        Args:
            x: the images, N x input, all of the row's or the own share, as the arrangement says.
            draw: what training adds; None drops nothing, and normalises by the moving statistics.
        """
        if draw is None:
            return self.compute(x, {}, None)
        return self.compute(x, self._masks(draw, x.device), torch.tensor(draw.statistics))

    def compile_steps(self) -> None:
        """Have torch compile what `forward` computes, with LRN as torch has it, to be fused with the rest."""
        for i, (step, made) in enumerate(zip(self.steps, self.calls, strict=True)):
            if isinstance(step.layer, LRN):
                self.layers[i] = made.module()
        self.compute = torch.compile(self.compute)

    def compute(self, x: Tensor, masks: Mapping[str, Tensor], statistics: Tensor | None) -> Tensor:
        """`forward` with the masks at hand: dropout layer -> what it keeps; one that is left out drops nothing."""
        values = {self.source: x}
        # Two layers that read one activation in one way gather it once, and scatter its summed gradient once.
        converted: dict[tuple[str, Placement, bool], Tensor] = {}  # what torch's tracer understands
        for step, made, module in zip(self.steps, self.calls, self.layers, strict=True):
            for name, have in zip(step.inputs, step.have, strict=True):
                if (name, step.want, step.shared) not in converted:
                    value = self._convert(values[name], have, step.want, shared=step.shared)
                    converted[name, step.want, step.shared] = value
            read = [converted[name, step.want, step.shared] for name in step.inputs]
            values[step.layer.name] = self._run(step, made, module, read, masks, statistics)
        last = self.steps[-1]
        return self._convert(values[last.layer.name], last.output, "replicated", shared=False).flatten(1)

    def _run(
        self,
        step: Step,
        made: Call,
        module: nn.Module,
        read: list[Tensor],
        masks: Mapping[str, Tensor],
        statistics: Tensor | None,
    ) -> Tensor:
        if isinstance(module, BatchNorm):
            return module(read[0], statistics, self._with_other_images(step))
        if isinstance(step.layer, Dropout):
            kept = masks.get(step.layer.name)
            return read[0] if kept is None else read[0] * kept.to(read[0].dtype).mul_(1.0 / (1.0 - step.layer.ratio))
        if isinstance(step.layer, LRN):
            if not step.reach or self.group is None:
                return module(read[0])
            wide, start = halo(read[0], step.reach, self.group)
            return module(wide).narrow(1, start, read[0].shape[1])
        return made.apply(module, read)

    def _with_other_images(self, step: Step) -> list[dist.ProcessGroup]:
        """The groups of devices that compute this layer on other images of the batch."""
        groups = (self.group if step.output == "batch" else None, self.replicas)
        return [group for group in groups if group is not None]

    def _masks(self, draw: Draw, device: torch.device) -> dict[str, Tensor]:
        """What each dropout layer keeps of this device's activations."""
        return {
            step.layer.name: self._kept(step, step.layer, draw, device)
            for step in self.steps
            if isinstance(step.layer, Dropout)
        }

    def _kept(self, step: Step, layer: Dropout, draw: Draw, device: torch.device) -> Tensor:
        images, channels = draw.images, None
        if step.output == "batch":
            images = share(images, self.rank, self.parts)
        elif step.output == "channels":
            channels = share(range(step.shape[0]), self.rank, self.parts)
        return keep_mask_on(
            device,
            step.shape,
            layer.ratio,
            seed=draw.seed,
            step=draw.step,
            layer=layer.name,
            images=images,
            channels=channels,
        )

    def _convert(self, x: Tensor, have: Placement, want: Placement, *, shared: bool) -> Tensor:
        if self.group is None:
            return x
        match have, want:
            case "replicated", "replicated":
                return replicate(x, self.group) if shared else x
            case "replicated", "channels":
                return shard(x, 1, self.group)
            case "channels" | "batch", "replicated":
                return gather(x, 1 if have == "channels" else 0, self.group, shared=shared)
            case "batch", "channels":
                everything = gather(x, 0, self.group, shared=True)
                return everything.chunk(self.parts, dim=1)[self.rank]
            case _:  # nothing asks for images from an activation that is not dealt out by them
                return x

    def canonical_tensors(self, *, learned: bool = False) -> dict[str, Tensor]:
        """Canonical name -> what this device holds of it, in layer order; of tied ones the first alone.

        `learned`: without the statistics, which have no gradients.
        """
        return {
            name: getattr(module, row.torch)
            for step, module in zip(self.steps, self.layers, strict=True)
            for name, row in step.parameters.items()
            if name not in self.twins and (row.learned or not learned)
        }

    def canonical_parameters(self) -> dict[str, nn.Parameter]:
        """What is learned of `canonical_tensors`."""
        return cast(dict[str, nn.Parameter], self.canonical_tensors(learned=True))

    def freeze(self, layers: Collection[str]) -> None:
        """Keep the parameters and statistics of these layers as they are."""
        for step, module in zip(self.steps, self.layers, strict=True):
            if step.layer.name in layers:
                module.requires_grad_(False)
                if isinstance(module, BatchNorm):
                    module.frozen = True

    def cut_names(self) -> set[str]:
        """The canonical parameters of which this device holds a part."""
        return {name for step in self.steps if step.is_sharded for name in step.parameters}

    def own_part(self, name: str, whole: Tensor) -> Tensor:
        """What this device holds of a canonical parameter (or of anything of its shape); a view."""
        return whole.chunk(self.parts)[self.rank] if name in self.cut_names() else whole

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Take the own part of whole canonical parameters."""
        with torch.no_grad():
            for name, own in self.canonical_tensors().items():
                own.copy_(self.own_part(name, weights[name]))

    def collect(self, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Whole canonical tensors, on the CPU, from everybody's parts, on the first device of a row; {} on the others.

        Called by all devices of a row, with the parameters or with anything of their shapes.
        """
        cut_names, whole = self.cut_names(), dict[str, Tensor]()
        for name, part in parts.items():
            part = part.detach().contiguous()
            pieces = [part]
            if self.group is not None and name in cut_names:
                pieces = [torch.empty_like(part) for _ in range(self.parts)] if self.rank == 0 else []
                root = dist.get_global_rank(self.group, 0)
                dist.gather(part, pieces or None, dst=root, group=self.group)
            if self.rank == 0:
                whole[name] = torch.cat([piece.cpu() for piece in pieces])
        return whole | {twin: whole[owner] for twin, owner in self.twins.items() if owner in whole}


def _module(step: Step, made: Call) -> nn.Module:
    """A layer as it is trained."""
    match step.layer:
        case LRN():
            return LocalResponseNorm(step.layer)
        case layers.BatchNorm():
            return BatchNorm(step.layer, step.input_shapes[0][0])
        case _:
            return made.module()


def own_row(arrangement: Arrangement) -> Row:
    """The own row of the grid, and the group of all devices with the same part; called by every device."""
    rows, parts = arrangement.replicas, arrangement.parts
    if arrangement.devices == 1:
        return ALONE
    rank = dist.get_rank()
    return Row(
        group=_own_group([list(range(row * parts, (row + 1) * parts)) for row in range(rows)]) if parts > 1 else None,
        replicas=_own_group([list(range(part, rows * parts, parts)) for part in range(parts)]) if rows > 1 else None,
        number=rank // parts,
    )


def _own_group(ranks: list[list[int]]) -> dist.ProcessGroup:
    # Without a word, a group waits half an hour, whatever the patience of the world it is part of.
    return cast(dist.ProcessGroup, dist.new_subgroups_by_enumeration(ranks, timeout=PATIENCE)[0])


def summing(network: PlacedNetwork, row: Row) -> nn.Module:
    """The network with its gradients summed (not averaged) over all devices that work on other images.

    That is DistributedDataParallel, which overlaps the sums with the backward pass: over the replicas, or, where images
    are dealt out within a row, over the row, for the layers in front of the first dense one.
    """
    dealt = {name for step in network.steps if step.output == "batch" for name in step.parameters}
    group = network.group if dealt else row.replicas
    if group is None:
        return network
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    others = [names[id(p)] for name, p in network.canonical_parameters().items() if dealt and name not in dealt]
    # How torch's own FSDP leaves parameters to others. Statistics are the same everywhere already.
    ignore = DistributedDataParallel._set_params_and_buffers_to_ignore_for_model  # pyright: ignore[reportPrivateUsage]
    ignore(network, [*others, *(name for name, _ in network.named_buffers())])
    # Every device has loaded the same numbers: nothing needs to be sent at the start.
    wrapped = DistributedDataParallel(network, process_group=group, gradient_as_bucket_view=True, init_sync=False)
    # Annotations that are strings, as all in this file, are not recognised: a lambda has none.
    wrapped.register_comm_hook(group, lambda group, bucket: _sum(group, bucket))
    return wrapped


def _sum(group: dist.ProcessGroup, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    size, buffer = dist.get_world_size(group), bucket.buffer()
    sent.add(buffer, 2 * (size - 1) / size)
    work = dist.all_reduce(buffer, group=group, async_op=True)
    assert work is not None  # asked for, and this device is of the group
    return work.get_future().then(lambda done: done.value()[0])
