"""The errors users meet. Every message says what, where, what was expected and what to do next."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from difflib import get_close_matches

# Names out of strangers' files stand in messages: none may fill the screen.
_LONGEST_WORD = 500
_LONGEST_MESSAGE = 20_000


class ZooError(Exception):
    """Trouble the user can mend: one printable line, exit status 2."""

    exit_status = 2

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def one_line(text: str) -> str:
    """`text` in one line without what would steer a terminal; what is endlessly long is cut in its middle."""
    words = (_cut(word, _LONGEST_WORD) for word in text.split())
    return _cut("".join(letter if letter.isprintable() else "?" for letter in " ".join(words)), _LONGEST_MESSAGE)


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
    """A name nobody has; the commonest cause is a typing slip, so the nearest names are offered."""

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = get_close_matches(name, names, n=2)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names) or 'none'}"
        super().__init__(f"unknown {what} {name!r}; {hint}")


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
