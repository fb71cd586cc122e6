"""The keys people's PyTorch files have for a parameter: this project's own, torchvision's, and those under a wrapper.

Without torch, for every format that carries such keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import takewhile

# pytorch/vision, torchvision/models/alexnet.py; the many CIFAR-10 copies of it number their layers alike.
TORCHVISION = {
    "conv1": "features.0",
    "conv2": "features.3",
    "conv3": "features.6",
    "conv4": "features.8",
    "conv5": "features.10",
    "fc6": "classifier.1",
    "fc7": "classifier.4",
    "fc8": "classifier.6",
}

# What torch.nn.DataParallel, DistributedDataParallel and torch.compile put into a key, at any depth: torchvision's
# first AlexNets wrapped their convolutions alone (``features.module.0.weight``).
_WRAPPERS = ("module", "_orig_mod")


def native_names(own: Mapping[str, str], keys: Iterable[str]) -> dict[str, str]:
    """Canonical parameter name -> its key among the `keys` of a file.

    The scheme that finds most parameters is taken; a parameter it does not find keeps the key the scheme gives it, for
    the message that it is missing.

    Args:
        own: canonical name -> the key this project writes.
        keys: what the file has.
    """
    keys = list(keys)
    theirs = {canonical: _torchvision(canonical, key) for canonical, key in own.items()}
    bare = {_without_wrappers(key): key for key in reversed(keys)}
    # A larger module's attribute (Lightning's ``model.conv1.weight``) stands before every key.
    levels = zip(*(key.split(".") for key in bare), strict=False)
    shared = sum(1 for _ in takewhile(lambda parts: len(set(parts)) == 1, levels))
    inner = {".".join(name.split(".")[shared:]): key for name, key in bare.items()}
    schemes = [(names, found) for found in ({key: key for key in keys}, bare, inner) for names in (own, theirs)]
    names, found = max(schemes, key=lambda scheme: sum(key in scheme[1] for key in scheme[0].values()))
    return {canonical: found.get(key, key) for canonical, key in names.items()}


def _torchvision(canonical: str, key: str) -> str:
    layer, _, kind = canonical.rpartition(".")
    return f"{TORCHVISION[layer]}.{kind}" if layer in TORCHVISION else key


def _without_wrappers(key: str) -> str:
    return ".".join(part for part in key.split(".") if part not in _WRAPPERS)
