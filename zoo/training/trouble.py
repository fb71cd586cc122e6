"""What frameworks raise when a device, its memory or the way to another one fails, told by its type."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist

from zoo.errors import ZooError, said
from zoo.training.job import Job
from zoo.training.loop import how_to_go_on


class LostPartnerError(ZooError):
    """Another device does not answer: whatever it said itself is nearer to the cause."""


def translated(error: RuntimeError | MemoryError | OSError, job: Job, device: torch.device) -> ZooError | None:
    """A framework's error, or the system's, in one line that says what to do; None where it is none of these."""
    text, out = said(error), job.options.out
    if isinstance(error, BrokenPipeError):  # nobody reads what is said
        return None
    if isinstance(error, OSError):  # losses are written all the time, and the disk is full
        return ZooError(f"{error.filename or out}: {error.strerror or text}; {how_to_go_on(out)}")
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in text:
        return ZooError(_out_of_memory(job, device, text))
    # Gloo has no exception of its own; what it raises names its source file.
    if isinstance(error, dist.DistNetworkError | dist.DistStoreError) or "gloo/transport" in text:
        return lost(text, out)
    if isinstance(error, dist.DistError):
        return lost(text, out) if "remote process" in text else ZooError(f"the devices cannot work: {text}")
    return None


def lost(text: str, out: Path) -> LostPartnerError:
    """What a device says of which another one has not been heard, by `text`."""
    return LostPartnerError(f"another device is gone ({text}); {how_to_go_on(out)}")


def _out_of_memory(job: Job, device: torch.device, text: str) -> str:
    options, each = job.options, job.batch_size // job.arrangement.replicas
    advice = [f"a smaller --batch-size than {job.batch_size}"]
    if options.precision in ("fp32", "tf32") and device.type != "cpu" and options.framework == "pytorch":
        advice.append("--precision bf16")
    if job.arrangement.devices == 1 or options.device == "cpu":
        advice.append("more --devices")
    return (
        f"out of memory on {device} with {job.spec.name}, {each} images a step on this device, {options.precision}: "
        f"use {' or '.join(advice)} ({text or type(MemoryError()).__name__}); {how_to_go_on(options.out)}"
    )
