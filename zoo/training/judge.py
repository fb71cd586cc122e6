"""A network judged by one process, or by several of which each has a device and a part of the images."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import torch
import torch.multiprocessing as mp
from torch import Tensor

from zoo.errors import ZooError
from zoo.frameworks.pytorch import bind
from zoo.layers import ModelSpec
from zoo.preprocess import FloatArray
from zoo.shapes import check_cost
from zoo.training.datasets import open_to_judge
from zoo.training.devices import DeviceType, Precision, arithmetic, decide, own_view, settle
from zoo.training.evaluate import Scores, evaluate, module_forward
from zoo.training.towers import logits
from zoo.wire.cores import cores


@dataclass(frozen=True, kw_only=True)
class Judging:
    """How a network is judged.

    Attributes:
        data: a folder of images, or the word ``digits``.
        device: which kind.
        devices: how many; each judges an equal part.
        precision: of the arithmetic.
        compiled: by ``torch.compile``.
        ten_crop: average over ten crops of each image.
        batch_size: views in one batch.
        workers: processes that read images, for each device.
    """

    data: str
    device: DeviceType = "auto"
    devices: int = 1
    precision: Precision = "fp32"
    compiled: bool = False
    ten_crop: bool = False
    batch_size: int = 50
    workers: int = 0


def places(how: Judging) -> tuple[list[torch.device], str]:
    """The device of each part, and what is to be said of the choice; errors as for `decide`."""
    return decide(how.device, [own_view(rank) for rank in range(how.devices)])


def judge(spec: ModelSpec, weights: Mapping[str, FloatArray], how: Judging, devices: list[torch.device]) -> Scores:
    """The scores of all images, in no particular order.

    Raises:
        ZooError: the network gives no logits, the images do not suit it, or a process died.
    """
    check_cost(spec, items=how.batch_size)
    if len(devices) == 1:
        return _part(spec, weights, how, devices[0], 0)
    shared = {name: torch.tensor(array).share_memory_() for name, array in weights.items()}
    with ProcessPoolExecutor(len(devices), mp_context=mp.get_context("spawn")) as pool:
        parts = [pool.submit(_process, spec, shared, how, device, n) for n, device in enumerate(devices)]
        try:
            return Scores.join([part.result() for part in parts])
        except KeyboardInterrupt:  # nobody asks for their answer
            for process in mp.active_children():
                process.kill()
            raise
        except BrokenProcessPool as error:
            raise ZooError("a process that judges died; look at the system's log, it may be out of memory") from error


def _process(spec: ModelSpec, weights: dict[str, Tensor], how: Judging, device: torch.device, number: int) -> Scores:
    torch.set_num_threads(max(1, cores() // how.devices))
    try:
        return _part(spec, {name: tensor.numpy() for name, tensor in weights.items()}, how, device, number)
    except ZooError as error:
        raise ZooError(str(error)) from error  # of the kind that finds its way back to another process


def _part(spec: ModelSpec, weights: Mapping[str, FloatArray], how: Judging, device: torch.device, n: int) -> Scores:
    settle(how.precision, device)
    network = bind(spec, weights, outputs=(logits(spec).name,)).to(device)
    if how.compiled:
        network.compile()
    with arithmetic(how.precision, device):
        return evaluate(
            module_forward(network),
            open_to_judge(how.data),
            spec,
            ten_crop=how.ten_crop,
            batch_size=how.batch_size,
            workers=how.workers,
            device=device,
            part=(n, how.devices),
        )
