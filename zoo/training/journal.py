"""What a run leaves to look at: metrics.csv, TensorBoard events, curves.png, and a progress bar while it goes on."""

from __future__ import annotations

import csv
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no screen is needed, nor asked for

from matplotlib.figure import Figure
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.record_writer import RecordWriter
from tqdm import tqdm

from zoo.errors import FileFormatError
from zoo.wire.atomic import new_file
from zoo.wire.regular import check_regular

# The classes of these modules are made at run time, from messages.
Event: Any = vars(event_pb2)["Event"]
SessionLog: Any = vars(event_pb2)["SessionLog"]
Summary: Any = vars(summary_pb2)["Summary"]

# One process draws the bar. The lock that tqdm makes by itself is a semaphore of the system: a device that is ended
# leaves it behind, and Python warns of it under the message that says how to go on.
tqdm.set_lock(threading.RLock())

COLUMNS: tuple[str, ...] = (
    *("step", "epoch", "loss", "rate", "images_per_second", "gpu_gigabytes", "val_loss", "val_top1", "val_top5"),
)
# Of a step's number.
_DIGITS = 12


class Journal:
    """Writes the records of one run; only the first device has one.

    Args:
        out: the run's folder.
        done: steps done before; what was recorded after them (by a run that broke off) is dropped.
        steps: the length of the whole run.
        batch_size: images a step.
        title: the progress bar's.
        memory: the most bytes of the first GPU's memory that were in use at once; None where there is no GPU.
    """

    def __init__(
        self,
        out: Path,
        *,
        done: int,
        steps: int,
        batch_size: int,
        title: str,
        memory: Callable[[], int] | None = None,
    ) -> None:
        self.out, self.batch_size, self._memory = out, batch_size, memory
        out.mkdir(parents=True, exist_ok=True)
        rows = [row for row in read_metrics(out) if int(row["step"]) <= done] if done else []
        # Begun beside its place: a run that dies here must not lose what an earlier one recorded.
        with new_file(out / "metrics.csv") as begun, begun.open("w", newline="", encoding="utf-8") as table:
            csv.DictWriter(table, COLUMNS).writeheader()
            csv.DictWriter(table, COLUMNS).writerows(rows)
        self._table = (out / "metrics.csv").open("a", newline="", encoding="utf-8")
        self._rows: csv.DictWriter[str] = csv.DictWriter(self._table, COLUMNS)
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}.{secrets.token_hex(4)}"
        self._events = RecordWriter((out / name).open("xb"))
        self._event(Event(file_version="brain.Event:2"))
        # TensorBoard then forgets what it has seen of later steps.
        self._event(Event(step=done, session_log=SessionLog(status=SessionLog.START)))
        self.bar: Any = tqdm(total=steps, initial=done, desc=title, unit="step", smoothing=0.1, mininterval=0.5)

    def _event(self, event: Any) -> None:
        event.wall_time = time.time()
        self._events.write(event.SerializeToString())

    def step(
        self,
        step: int,
        epoch: float,
        loss: float,
        rate: float,
        scores: dict[str, float] | None,
        seconds: float | None,
    ) -> None:
        """Record a step (counted from 1), with the validation's scores if there was one, and its length if known."""
        numbers = {"loss": loss, "rate": rate}
        if seconds:
            numbers["images_per_second"] = self.batch_size / seconds
        if self._memory is not None:
            numbers["gpu_gigabytes"] = self._memory() / 1e9
        numbers |= {f"val_{name}": scores[name] for name in ("loss", "top1", "top5")} if scores else {}
        self._rows.writerow({"step": step, "epoch": f"{epoch:.4f}"} | {k: repr(v) for k, v in numbers.items()})
        values = [Summary.Value(tag=name, simple_value=value) for name, value in numbers.items()]
        self._event(Event(step=step, summary=Summary(value=values)))
        self._show(numbers, scores)

    def _show(self, numbers: dict[str, float], scores: dict[str, float] | None) -> None:
        """The progress bar goes on; its estimate leaves the start out."""
        said = [f"loss {numbers['loss']:.4f}"]
        said += [f"{numbers['images_per_second']:.1f} images/s"] if "images_per_second" in numbers else []
        said += [f"{numbers['gpu_gigabytes']:.1f} GB"] if "gpu_gigabytes" in numbers else []
        said += [f"val {scores['top1']:.2%}"] if scores else []
        self.bar.set_postfix_str(", ".join(said), refresh=False)
        if "images_per_second" in numbers:
            self.bar.update()
            return
        self.bar.initial += 1
        self.bar.n = self.bar.last_print_n = self.bar.initial
        self.bar.start_t = self.bar.last_print_t = self.bar._time()

    def flush(self) -> None:
        """Hand everything recorded to the operating system, before a checkpoint says that it happened."""
        self._table.flush()
        self._events.flush()

    def draw(self, title: str) -> None:
        """Draw the curves of all that was recorded."""
        self.flush()
        draw_curves(self.out, title)

    def close(self) -> None:
        """End the records."""
        self.bar.close()
        self._table.close()
        self._events.close()


def read_metrics(out: Path) -> list[dict[str, str]]:
    """The rows of a run's ``metrics.csv``, oldest first; a last line that was cut off is left out.

    Raises:
        FileFormatError: it is damaged, or another table.
    """
    path = out / "metrics.csv"
    if not path.exists():
        return []
    check_regular(path)
    try:
        whole = path.read_bytes().decode().rpartition("\n")[0]
        reader = csv.DictReader(whole.splitlines())
        rows = [row for row in reader if None not in row.values()]
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ValueError(f"its columns are not {', '.join(COLUMNS)}")
        for row in rows:
            if None in row or not row["step"].isdecimal() or len(row["step"]) > _DIGITS:
                raise ValueError(f"{row['step']!r} is no step")
            for name in COLUMNS[1:]:
                float(row[name] or 0)
    except (OSError, ValueError, csv.Error) as error:
        raise FileFormatError(path, f"damaged ({error}); move it away to go on without it") from error
    return rows


def draw_curves(out: Path, title: str) -> Path:
    """``curves.png``: the loss of every step and of the validations, and the accuracies, over the steps."""
    rows = read_metrics(out)
    judged = [row for row in rows if row["val_loss"]]
    figure = Figure(figsize=(10, 4), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    loss.plot(_column(rows, "step"), _column(rows, "loss"), linewidth=0.7, label="training")
    loss.plot(_column(judged, "step"), _column(judged, "val_loss"), marker=".", label="validation")
    loss.set(xlabel="step", ylabel="cross-entropy (nats)", ylim=(0, None))
    for name, label in (("val_top1", "top-1"), ("val_top5", "top-5")):
        accuracy.plot(_column(judged, "step"), _column(judged, name), marker=".", label=label)
    accuracy.set(xlabel="step", ylabel="validation accuracy", ylim=(0, 1.02))
    figure.suptitle(title)
    for axes in (loss, accuracy):
        axes.grid(alpha=0.3)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)  # above, clear of the lines
    path = out / "curves.png"
    with new_file(path) as drawn:
        figure.savefig(drawn, format="png", dpi=120)
    return path


def _column(rows: list[dict[str, str]], name: str) -> list[float]:
    return [float(row[name]) for row in rows]
