"""``python -m tests.breaking train ...`` is ``zoo train ...`` that breaks off by itself, so that no clock says when.

BREAKING says where and how: a folder, then ``STEP:DEVICE:SIGNAL`` as often as wanted. Before that step, once, the first
(0) or another (1) device leaves a mark in the folder and sends itself the signal; SIGTERM goes to all processes of the
run, as job managers do it.
"""

from __future__ import annotations

import os
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from converters.cli import program
from zoo.training import launch, placed
from zoo.training.pytorch import PyTorchLearner


def _break_off() -> None:
    folder, *places = os.environ["BREAKING"].split()
    numbers = {tuple(map(int, place.split(":")[:2])): signal.Signals[place.split(":")[2]] for place in places}
    whole = PyTorchLearner.train_step

    def train_step(self: PyTorchLearner, batch: Any, step: int, progress: Any) -> Any:
        number, mark = numbers.get((step, int(not self.is_first))), Path(folder, str(step))
        if number is not None and not mark.exists():
            mark.touch()
            os.kill(0 if number == signal.SIGTERM else os.getpid(), number)
        return whole(self, batch, step, progress)

    PyTorchLearner.train_step = train_step


def device_process(*arguments: Any) -> None:
    """In the place of `launch._device_process`; PATIENCE is how long it waits for a partner, once all have met."""
    _break_off()
    if "PATIENCE" in os.environ:
        placed.PATIENCE = timedelta(seconds=float(os.environ["PATIENCE"]))
    launch._device_process(*arguments)


if __name__ in ("__main__", "__mp_main__"):  # the latter in a device's process
    _break_off()
if __name__ == "__main__":
    sys.exit(program())
