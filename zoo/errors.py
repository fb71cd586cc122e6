"""The errors users meet. Every message says what, where, what was expected and what to do next."""

from __future__ import annotations

import signal
from collections.abc import Iterable

# Names out of strangers' files stand in messages: none may fill the screen.
_LONGEST_WORD = 500
_LONGEST_MESSAGE = 20_000
_NAMES_TOLD = 40


class ZooError(Exception):
    """Trouble the user can mend: one printable line, exit status 2."""

    exit_status = 2

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def one_line(text: str) -> str:
    """`text` in one line without what would steer a terminal; what is endlessly long is cut in its middle."""
    words = (_cut(word, _LONGEST_WORD) for word in text.split())
    return _cut(shown(" ".join(words)), _LONGEST_MESSAGE)


def shown(text: str, *, lines: bool = False) -> str:
    """`text` with a question mark for whatever would steer a terminal; its `lines` are left, or are one."""
    return "".join(letter if letter.isprintable() or (lines and letter == "\n") else "?" for letter in text)


def said(error: BaseException, most: int = _LONGEST_MESSAGE) -> str:
    """What an error says, in one line of at most so many letters; its kind, where it says nothing."""
    return _cut(one_line(str(error)), most) or type(error).__name__


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most // 2]}...{text[-most // 2 :]}"


class Signalled(KeyboardInterrupt):
    """A signal asked for the end; `number` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def how_ended(error: KeyboardInterrupt) -> tuple[int, str]:
    """The signal that asked for the end, and how that is said."""
    number = error.number if isinstance(error, Signalled) else signal.SIGINT
    return number, "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"


class EndedError(ZooError):
    """A signal ended the work: exit status 128 and its number, as shells have it."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_status = 128 + number


class SpecError(ZooError):
    """An impossible network; the commonest cause is a size that does not fit its input."""

    def __init__(self, layer: str, problem: str) -> None:
        super().__init__(f"layer {layer!r}: {problem}")
        self.layer = layer


class UnknownNameError(ZooError):
    """A name nobody has; the commonest cause is a typing slip, so the nearest names are offered.

    `listed` says what lists the names, where they are too many for a line.
    """

    def __init__(self, what: str, name: str, known: Iterable[str], *, listed: str = "") -> None:
        names = sorted(known)
        near = nearest(name, names)
        more = f", and {len(names) - _NAMES_TOLD} more" if len(names) > _NAMES_TOLD else ""
        all_of_them = listed or f"known: {', '.join(names[:_NAMES_TOLD]) or 'none'}{more}"
        hint = f"did you mean {' or '.join(near)}?" if near else all_of_them
        super().__init__(f"unknown {what} {name!r}; {hint}")


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """What a slip of the hand may have been meant for, four at most: a letter in four is wrong, or a part is missing.

    Of three letters none may be wrong: who asks for a gpu means no cpu.
    """
    typed, near, parts = _folded(name), list[tuple[int, str]](), list[tuple[int, str]]()
    for other in known:
        wanted = _folded(other)
        most, apart = max(len(typed), len(wanted)) // 4, abs(len(typed) - len(wanted))
        is_part = min(len(typed), len(wanted)) >= 4 and (typed in wanted or wanted in typed)
        slips = apart if is_part or apart > most else _slips(typed, wanted)
        if slips <= most:
            near.append((slips, other))
        elif is_part:
            parts.append((slips, other))
    fewest = min(near, default=(0, ""))[0]
    return [other for slips, other in sorted(near) if slips == fewest][:4] or [other for _, other in sorted(parts)][:4]


def _folded(name: str) -> str:
    """A name without what people mix up."""
    return name.lower().replace("_", "-")


def _slips(a: str, b: str) -> int:
    """How many letters are missing, too many, wrong, or exchanged with their neighbour."""
    before, row = list[int](), list(range(len(b) + 1))
    for i, letter in enumerate(a):
        new = [i + 1]
        for j, other in enumerate(b):
            new.append(min(row[j] + (letter != other), row[j + 1] + 1, new[j] + 1))
            if i and j and letter == b[j - 1] and other == a[i - 1]:
                new[-1] = min(new[-1], before[j - 1] + 1)
        before, row = row, new
    return row[-1]


class FileFormatError(ZooError):
    """A file that is missing, damaged, of another kind or of another network."""

    def __init__(self, path: object, problem: str) -> None:
        super().__init__(f"{path}: {problem}")


class WeightsError(ZooError):
    """Tensors that do not fit their network. Lists *every* problem of the file, in one line."""

    def __init__(self, where: object, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(f"{where}: {'; '.join(self.problems)}")


class UnpreparedError(ZooError):
    """A network that does not say how its images are prepared."""

    def __init__(self, network: str) -> None:
        super().__init__(
            f"{network} does not say how its images are prepared (it has no preprocessing); say it with --images-like "
            "MODEL, or with --channels and --mean, --scale, --std; or put its mean .binaryproto beside the deploy "
            "prototxt, or give the train_val.prototxt"
        )


class UnsupportedError(ZooError):
    """Something outside the layer vocabulary, or that one framework cannot express."""


class MissingDependencyError(ZooError):
    """A package that is not installed; the message says what brings it, in pip's words."""

    def __init__(self, module: str, pip: str) -> None:
        super().__init__(f"{module} is not installed; run: pip install {pip}")


class CheckFailedError(ZooError):
    """Numbers or hashes that differ: exit status 1."""

    exit_status = 1
