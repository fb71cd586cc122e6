"""Files of the Hugging Face Hub, ``hf:OWNER/REPO/FILE[@REVISION]``, through its own client and cache.

The client checks a file's size; its hash, which the Hub gives as the file's ETag, is checked here.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty, Queue

import huggingface_hub
from huggingface_hub import errors

from zoo.environment import quiet_loggers
from zoo.errors import CheckFailedError, ZooError, said
from zoo.wire.atomic import check_target, publish, staging

_LOG = logging.getLogger(__name__)

_FORM = re.compile(r"hf:(?P<repo>[\w.-]+/[\w.-]+)/(?P<file>[^@\\]+)(?:@(?P<revision>[^@]+))?")
# The digits of an ETag: of a large file its SHA-256, of a small one git's own hash of it.
_SHA256, _GIT = 64, 40
# Seconds for a whole download.
_WHOLE = 6 * 3600.0


@dataclass(frozen=True, kw_only=True)
class HubFile:
    """What an address stands for: a file of a repository, at a revision (a branch, a tag or a commit)."""

    repo: str
    file: str
    revision: str = "main"


def parse(address: str) -> HubFile:
    """The parts of an address; raises `ZooError` where it is none."""
    found = _FORM.fullmatch(address)
    if found is None or not address.isprintable() or any(part in ("", ".", "..") for part in found["file"].split("/")):
        raise ZooError(f"{address}: expected hf:OWNER/REPO/FILE, or hf:OWNER/REPO/FILE@REVISION")
    return HubFile(repo=found["repo"], file=found["file"], revision=found["revision"] or "main")


def fetch_hub(
    address: str, directory: Path | None = None, *, endpoint: str | None = None, whole: float = _WHOLE
) -> Path:
    """The file of an address, downloaded unless the Hub's own cache has it; its hash has been checked.

    Args:
        address: ``hf:OWNER/REPO/FILE`` or ``hf:OWNER/REPO/FILE@REVISION``.
        directory: where to put a copy; left out, it stays in the cache.
        endpoint: the Hub's address; left out, ``$HF_ENDPOINT``, else huggingface.co.
        whole: seconds for all of it; what is there by then is kept for the next run.

    Raises:
        CheckFailedError: the file is not the one that the Hub names; it is not kept.
        ZooError: there is no such file, no way to it, no room for it, or it took too long; or another file is in its
            place.
    """
    wanted = parse(address)
    download = partial(
        huggingface_hub.hf_hub_download,  # it is loaded here, and sets the levels of its loggers as it is
        wanted.repo,
        wanted.file,
        revision=wanted.revision,
        endpoint=endpoint or os.environ.get("HF_ENDPOINT"),
    )
    try:
        with quiet_loggers("huggingface_hub"):  # each of its retries is a warning; what came of them is ours to say
            cached = Path(_within(whole, address, download))
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, errors.HFValidationError) as error:
        raise ZooError(f"{address}: {_reason(error)}") from error
    except OSError as error:
        raise ZooError(f"{address}: cannot be downloaded: {said(error)}") from error
    _check(address, cached)
    _LOG.info("%s: commit %s", address, cached.relative_to(_snapshots(cached)).parts[0])
    return cached if directory is None else _copied(cached, directory)


def _within(whole: float, address: str, download: Callable[[], str]) -> str:
    """The client's own download, which may wait for a slow server without end: on a thread that nobody waits for."""
    answer = Queue[str | Exception]()

    def run() -> None:
        try:
            answer.put(download())
        except Exception as error:  # noqa: BLE001 - raised again where it is waited for
            answer.put(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        found = answer.get(timeout=whole)
    except Empty:
        raise ZooError(
            f"{address}: took more than {whole / 3600:.3g} hours; the same command goes on from what is there"
        ) from None
    if isinstance(found, Exception):
        raise found
    return found


def _reason(error: Exception) -> str:
    """Why the Hub gives no file, in a line; the client's own texts run over many."""
    match error:
        case errors.GatedRepoError():
            return "this repository wants its terms accepted first; do so on its page, then log in (hf auth login)"
        case errors.RevisionNotFoundError():
            return "the repository has no such revision"
        case errors.LocalEntryNotFoundError():
            return "the Hub cannot be reached, and the file is not in its cache; try again, or give a file's path"
        case errors.EntryNotFoundError():
            return "the repository has no such file"
        case errors.RepositoryNotFoundError():
            return "there is no such repository, or it is private and you are not logged in (hf auth login)"
        case _:
            return said(error, 300)


def _snapshots(cached: Path) -> Path:
    """The folder of a repository's commits in the cache."""
    return next(folder for folder in cached.parents if folder.name == "snapshots")


def _check(address: str, cached: Path) -> None:
    """Hold a file against the hash that the cache keeps it by."""
    blob = cached.resolve()
    expected = blob.name
    if not re.fullmatch(r"[0-9a-f]+", expected) or len(expected) not in (_SHA256, _GIT):
        return  # a system without links, or a server that gives no hash
    with blob.open("rb") as stream:
        if len(expected) == _SHA256:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        else:
            found = hashlib.sha1(b"blob %d\0" % blob.stat().st_size + stream.read()).hexdigest()
    if found != expected:
        cached.unlink()
        blob.unlink()
        raise CheckFailedError(f"{address}: its hash is {found}, the Hub says {expected}; the file was not kept")


def _copied(cached: Path, directory: Path) -> Path:
    """A copy of a file in a folder of the user's, where no other file is replaced."""
    directory.mkdir(parents=True, exist_ok=True)
    target = directory / cached.name
    if target.is_file() and target.read_bytes() == cached.read_bytes():
        return target
    check_target(target, force=False)
    with staging(target) as folder:
        shutil.copyfile(cached, folder / target.name)
        publish(folder, target, force=False)
    return target
