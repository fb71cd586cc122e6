"""Downloads of manifest entries: mirrors in turn, broken lines resumed, hash and size checked before a file is used.

Pooch checks the hash and puts the file in place; the transfer is our own, because that of pooch starts from nothing
when a line breaks, and follows any redirect.
"""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from queue import Empty, Full, Queue
from typing import Any, TypeAlias
from urllib.parse import urljoin, urlsplit
from urllib.request import url2pathname

import pooch
import requests
from urllib3.exceptions import HTTPError

from converters.manifest import ManifestEntry, cache_directory
from zoo.errors import CheckFailedError, ZooError, said
from zoo.wire.atomic import flush, move_new
from zoo.wire.folders import leftovers, new_folder

# Called with the bytes that are there and the bytes in all.
Progress: TypeAlias = Callable[[int, int], None]

_MARK, _PART = ".zoo-download-", "part"
# Where the system has no locks of folders, a download to which nothing was added for so many seconds is a dead one's.
_QUIET = 120.0
_CHUNK = 1 << 18
_REDIRECTS = 10
_RETRYABLE = {408, 425, 429, 500, 502, 503, 504}
_SLOWEST = 1024  # bytes a second; a line slower than this over a whole `patience` is taken for dead


@dataclass(frozen=True, kw_only=True)
class Line:
    """How patient to be with a server.

    Attributes:
        connect: seconds to wait for a connection.
        patience: seconds to wait for data.
        attempts: how often in a row a broken line is taken up again without getting any further.
        pause: seconds before the second attempt; doubled each time.
        whole: seconds for all attempts at all mirrors; what is there by then is kept for the next run.
        loopback: allow plain http to this machine itself, for tests.
    """

    connect: float = 10.0
    patience: float = 30.0
    attempts: int = 4
    pause: float = 1.0
    whole: float = 6 * 3600.0
    loopback: bool = False


class _BrokenError(Exception):
    """The line broke; another attempt may succeed."""


class _LateError(Exception):
    """No time is left."""


class _RefusedError(Exception):
    """This mirror will not give the file, however often it is asked."""


class _LieError(Exception):
    """What the mirror gives is another file."""


def fetch(
    entry: ManifestEntry, directory: Path | None = None, *, progress: Progress | None = None, line: Line | None = None
) -> Path:
    """The file of an entry, downloaded unless it is there already; its size and hash have been checked.

    A download that was cut off, in this run or an earlier one, goes on where it stopped.

    Args:
        entry: what to get.
        directory: where to put it; the cache (`manifest.cache_directory`) if None. A different file of the same name is
            never replaced there; in the cache it is.
        progress: called as bytes come in; by default a line on stderr.
        line: how patient to be.

    Raises:
        CheckFailedError: a mirror gave another file, and none gave the right one; nothing is kept.
        ZooError: no mirror could be reached, the disk is full, or the target is taken.
    """
    folder = directory or cache_directory()
    target = folder / entry.file
    try:
        if target.exists():
            problem = _mismatch(target, entry)
            if problem is None:
                _clear(target)
                return target
            if directory is not None:
                raise ZooError(f"{target}: already exists and is not {entry.id} ({problem}); choose another folder")
            target.unlink()
        folder.mkdir(parents=True, exist_ok=True)
        with _workplace(target) as work:
            _from_mirrors(entry, work, progress or _Meter(entry.file), line or Line())
            flush(work / entry.file)
            if directory is None:
                (work / entry.file).replace(target)
            else:
                move_new(work / entry.file, target)
    except OSError as error:
        raise ZooError(f"{target}: cannot be written: {error.strerror or error}") from error
    return target


def _mismatch(path: Path, entry: ManifestEntry) -> str | None:
    """Why a file is not that of the entry."""
    if not path.is_file():
        return "it is no file"
    if path.stat().st_size != entry.size:
        return f"it has {path.stat().st_size:,} bytes, expected {entry.size:,}"
    algorithm, _, expected = entry.hash.partition(":")
    found = pooch.file_hash(str(path), alg=algorithm)
    return None if found == expected else f"its {algorithm} is {found}, expected {expected}"


@contextmanager
def _workplace(target: Path) -> Generator[Path, None, None]:
    """A hidden folder beside the target, of one process at a time; a partial download stays in it for the next run."""
    begun, others = leftovers(target, _MARK, _QUIET)
    with ExitStack() as ending:
        for earlier in begun:
            earlier.kept = others
            ending.callback(earlier.end)
        if others:
            raise ZooError(f"{target}: another process is downloading it; wait for that one")
        held = ending.enter_context(new_folder(target, _MARK))
        parts = [path for earlier in begun if _is_plain(path := earlier.path / _PART)]
        if parts:
            max(parts, key=lambda path: path.stat().st_size).replace(held.path / _PART)
        try:
            yield held.path
        finally:
            held.kept = (held.path / _PART).exists()


def _is_plain(path: Path) -> bool:
    """Whether it is a file, and no link to one: it will be written to."""
    return path.is_file() and not path.is_symlink() and path.stat().st_nlink == 1


def _clear(target: Path) -> None:
    """Remove what a run that was killed at its very end left beside a whole target."""
    for leftover in leftovers(target, _MARK, _QUIET)[0]:
        leftover.end()


def _from_mirrors(entry: ManifestEntry, work: Path, progress: Progress, line: Line) -> None:
    """Leave the checked file in `work`, from the first mirror that has it."""
    pooch.get_logger().setLevel("WARNING")
    failures, lied, end = list[str](), False, time.monotonic() + line.whole
    for url in entry.urls:
        # What an earlier run left may be of another file: a mirror is only called a liar for what it sent alone.
        for alone in (not (work / _PART).exists(), True):
            try:
                _retrieve(entry, url, work, _Transfer(work / _PART, entry.size, progress, line, end))
                return
            except _LieError as error:
                (work / _PART).unlink(missing_ok=True)
                if alone:
                    failures.append(f"{urlsplit(url).hostname or url} gave another file: {error}")
                    lied = True
                    break
            except _LateError as error:
                raise ZooError(
                    f"{entry.id}: {urlsplit(url).hostname or url} took more than {line.whole / 3600:.3g} hours; the "
                    "same command goes on from what is there"
                ) from error
            except (_BrokenError, _RefusedError) as error:
                failures.append(f"{urlsplit(url).hostname or url}: {error}")
                break
    reasons = "; ".join(failures)
    if lied:
        raise CheckFailedError(f"{entry.id}: {reasons}; nothing was kept")
    raise ZooError(
        f"{entry.id}: cannot download {entry.file}: {reasons}; try again, or get the file another way and give its path"
    )


def _retrieve(entry: ManifestEntry, url: str, work: Path, transfer: _Transfer) -> None:
    try:
        pooch.retrieve(url, known_hash=entry.hash, fname=entry.file, path=work, downloader=transfer)
    except ValueError as error:  # what pooch raises for a hash that differs, having removed the file
        raise _LieError(said(error)) from error


class _Flow:
    """What a server sends, read on a thread of its own: one that trickles within a line keeps its reader without end.

    Args:
        asked: asks for the file.
        patience: seconds to wait for each piece.
        end: when no time is left, by `time.monotonic`.
    """

    def __init__(self, asked: Callable[[], requests.Response], patience: float, end: float) -> None:
        self._patience, self._end = patience, end
        self._pieces: Queue[requests.Response | bytes | Exception] = Queue(maxsize=4)
        self._left = threading.Event()
        # A daemon: whoever is still waiting for a server must not keep the process from its end.
        threading.Thread(target=self._read, args=(asked,), daemon=True).start()

    def _read(self, asked: Callable[[], requests.Response]) -> None:
        try:
            with asked() as response:
                self._hand_over(response)
                while piece := response.raw.read1(_CHUNK, decode_content=False):
                    self._hand_over(piece)
                    if self._left.is_set():
                        return
            self._hand_over(b"")
        except Exception as error:  # noqa: BLE001 - raised again where it is waited for
            self._hand_over(error)

    def _hand_over(self, piece: requests.Response | bytes | Exception) -> None:
        while not self._left.is_set():
            with suppress(Full):
                self._pieces.put(piece, timeout=0.5)
                return

    def next(self) -> Any:
        """The response, then its bytes, then none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise _LateError
        try:
            piece = self._pieces.get(timeout=max(0.0, min(self._patience, left)))
        except Empty:
            if left <= self._patience:
                raise _LateError from None
            raise _BrokenError("the server stalls") from None
        if isinstance(piece, Exception):
            raise piece
        return piece

    def leave(self) -> None:
        """Read no further."""
        self._left.set()


class _Transfer:
    """A downloader for pooch: fills `part`, as often as it takes, and hands it over when it has all its bytes."""

    def __init__(self, part: Path, size: int, progress: Progress, line: Line, end: float) -> None:
        self._part, self._size, self._progress, self._line, self._end = part, size, progress, line, end

    def __call__(self, fname: str, action: Any, pooch: Any, *, check_only: bool | None = None) -> None:
        """Pooch's `Downloader`, whose words are: `fname`, the address; `action`, the file to be made."""
        if urlsplit(fname).scheme == "file":
            self._copy(fname)
        else:
            self._download(fname)
        self._part.replace(action)

    def _copy(self, url: str) -> None:
        source = Path(url2pathname(urlsplit(url).path))
        if not source.is_file():
            raise _RefusedError("no such file")
        self._check_size(source.stat().st_size)
        shutil.copyfile(source, self._part)

    def _download(self, url: str) -> None:
        furthest, failed = -1, 0
        while True:
            try:
                return self._pull(url)
            except (_BrokenError, requests.ConnectionError, requests.Timeout, HTTPError) as error:
                reached = self._have()
                failed = 1 if reached > furthest else failed + 1
                furthest = max(furthest, reached)
                if failed >= self._line.attempts:
                    raise _BrokenError(_plain(error, reached, self._size)) from error
            except (requests.RequestException, ValueError) as error:  # or an address, or a number, that is none
                raise _RefusedError(f"answers nonsense: {said(error, 300)}") from error
            time.sleep(min(self._line.pause * 2 ** (failed - 1), 10.0))

    def _pull(self, url: str) -> None:
        """Ask once for what is missing."""
        have = self._have()
        if have == self._size:
            return
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        flow = _Flow(lambda: self._open(url, headers), self._line.connect + 2 * self._line.patience, self._end)
        try:
            response = flow.next()
            if response.status_code == 416:
                self._part.unlink(missing_ok=True)
                raise _BrokenError(_answer(response))
            start = have if response.status_code == 206 else 0
            if response.status_code == 206 and not response.headers.get("Content-Range", "").startswith(
                f"bytes {start}-"
            ):
                self._part.unlink(missing_ok=True)
                raise _BrokenError("went on at another place than asked")
            declared = response.headers.get("Content-Length", "")
            if declared.isdecimal():
                self._check_size(start + int(declared))
            self._receive(flow, start)
        finally:
            flow.leave()

    def _receive(self, flow: _Flow, start: int) -> None:
        have = mark = start
        since = time.monotonic()
        with self._part.open("r+b" if start else "wb") as file:
            file.seek(start)
            while chunk := flow.next():
                have += len(chunk)
                if have > self._size:
                    self._check_size(have)
                file.write(chunk)
                self._progress(have, self._size)
                if time.monotonic() - since > self._line.patience:
                    if have - mark < _SLOWEST * self._line.patience:
                        raise _BrokenError("the server stalls")
                    mark, since = have, time.monotonic()
        if have < self._size:
            raise _BrokenError("the line broke")

    def _open(self, url: str, headers: dict[str, str]) -> requests.Response:
        session = requests.Session()
        for _ in range(_REDIRECTS):
            check_address(url, loopback=self._line.loopback)
            response = session.get(
                url,
                headers=headers,
                stream=True,
                allow_redirects=False,
                timeout=(self._line.connect, self._line.patience),
            )
            if response.status_code in (200, 206, 416):
                return response
            response.close()
            if response.is_redirect:
                url = urljoin(url, response.headers["Location"])
                continue
            kind = _BrokenError if response.status_code in _RETRYABLE else _RefusedError
            raise kind(_answer(response))
        raise _RefusedError(f"redirects more than {_REDIRECTS} times")

    def _have(self) -> int:
        return self._part.stat().st_size if self._part.exists() else 0

    def _check_size(self, size: int) -> None:
        if size != self._size:
            raise _LieError(f"{'more than ' if size > self._size else ''}{size:,} bytes, expected {self._size:,}")


def _answer(response: requests.Response) -> str:
    return f"answers {response.status_code} {response.reason}"


def check_address(url: str, *, loopback: bool) -> None:
    """Refuse anything but https, also where a server redirects to; with `loopback`, http to this machine passes."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        return
    try:
        here = ip_address(parts.hostname or "").is_loopback
    except ValueError:
        here = False
    if not (loopback and parts.scheme == "http" and here):
        raise _RefusedError(f"leads to {parts.scheme}://{parts.hostname or ''}, which is not https")


def _plain(error: Exception, have: int, size: int) -> str:
    """A network fault in words; urllib3's own texts run over several lines of internals."""
    if isinstance(error, _BrokenError):
        reason = str(error)
    elif isinstance(error, requests.Timeout) or "timed out" in str(error):
        reason = "the server does not answer"
    else:
        reason = "no connection" if have == 0 else "the line broke"
    return f"{reason} ({have:,} of {size:,} bytes are there)" if have else reason


class _Meter:
    """Progress on stderr: one line that rewrites itself on a terminal, else a line every ten seconds."""

    def __init__(self, name: str) -> None:
        self._name, self._live = name, sys.stderr.isatty()
        self._start = self._last = time.monotonic()
        self._first: int | None = None

    def __call__(self, have: int, size: int) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = have
        if have < size and now - self._last < (0.2 if self._live else 10.0):
            return
        self._last = now
        speed = (have - self._first) / max(now - self._start, 1e-3) / 1e6
        text = f"{self._name}: {have / 1e6:,.1f} of {size / 1e6:,.1f} MB ({have / size:.0%}), {speed:.1f} MB/s"
        end = "\n" if have == size or not self._live else ""
        sys.stderr.write(f"\r{text:79}{end}" if self._live else f"{text}{end}")
        sys.stderr.flush()
