"""The keys people's PyTorch files have for a parameter: ours, a published network's, those of a larger module, or any.

Without torch, for every format that carries such keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import groupby, takewhile

from converters.tensormap import Entry
from converters.weights import Array
from zoo.layers import ModelSpec
from zoo.shapes import parameter_shapes

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

# facebookresearch/deepcluster, models/alexnet.py: one torch.nn.BatchNorm2d is a BatchNorm and its Scale here; the
# filters of the front come last in its files.
DEEPCLUSTER = {
    **{"grey": "sobel.0", "sobel": "sobel.1"},
    **{f"conv{i}": f"features.{at}" for i, at in enumerate((0, 4, 8, 11, 14), 1)},
    **{f"{kind}{i}": f"features.{at}" for kind in ("bn", "scale") for i, at in enumerate((1, 5, 9, 12, 15), 1)},
    **{"fc6": "classifier.1", "fc7": "classifier.4", "fc8": "top_layer"},
}

# What torch.nn.DataParallel, DistributedDataParallel and torch.compile put into a key, at any depth: torchvision's
# first AlexNets wrapped their convolutions alone (``features.module.0.weight``).
_WRAPPERS = ("module", "_orig_mod")


# What a state dict keeps beside weights: how many batches a normalisation has seen, how many models an average.
_COUNTS = re.compile(r"(^|\.)(num_batches_tracked|n_averaged)$")


def is_count(key: str) -> bool:
    """Whether a key is that of a counter, no weight."""
    return bool(_COUNTS.search(key))


def state_entries(spec: ModelSpec, own: Mapping[str, str], tensors: Mapping[str, Array]) -> list[Entry]:
    """Where each parameter sits in somebody's state dict: by its key, or, where keys say nothing, by its place.

    Args:
        spec: the network.
        own: canonical name -> the key this project writes.
        tensors: the state dict, in its order.
    """
    names = native_names(own, tensors)
    if not all(key in tensors for key in names.values()):
        in_order = _by_order(spec, own, tensors)
        if in_order:
            return [Entry(canonical=name, native=key, by_order=True) for name, key in in_order.items()]
    return [Entry(canonical=name, native=key) for name, key in names.items()]


def _by_order(spec: ModelSpec, own: Mapping[str, str], tensors: Mapping[str, Array]) -> dict[str, str] | None:
    """Parameter -> key by the order of both, where kinds and shapes agree all along and no other order would do.

    A state dict is in the order in which its layers were made. Where two layers are alike in every shape, their keys
    must count in the same order, too. A head may have another number of classes.
    """
    keys, shapes = [key for key in tensors if not is_count(key)], parameter_shapes(spec)
    if len(keys) != len(own):
        return None
    pairs = dict(zip(own, keys, strict=True))
    head = f"{spec.head.name}." if spec.head else " "
    for name, key in pairs.items():
        first = 1 if name.startswith(head) else 0
        same_kind = own[name].rpartition(".")[2] == key.rpartition(".")[2]
        if (
            not same_kind
            or tensors[key].ndim != len(shapes[name])
            or tensors[key].shape[first:] != shapes[name][first:]
        ):
            return None
    layers = [(stem, tuple(tensors[key].shape for key in group)) for stem, group in _stems(keys)]
    ours = [len([*group]) for _, group in _stems([*own])]
    alike = [[stem for stem, other in layers if other == kind] for _, kind in layers]
    if ours != [len(kind) for _, kind in layers] or any(stems != sorted(stems, key=_counted) for stems in alike):
        return None
    return pairs


def _stems(names: list[str]) -> list[tuple[str, list[str]]]:
    """The names of a layer's parameters, layer by layer."""
    return [(stem, [*group]) for stem, group in groupby(names, lambda name: name.rpartition(".")[0])]


def _counted(name: str) -> list[tuple[int, str]]:
    """A key to sort names by as people count: 2 before 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def native_names(own: Mapping[str, str], keys: Iterable[str]) -> dict[str, str]:
    """Canonical parameter name -> its key among the `keys` of a file.

    The scheme that finds most parameters is taken; a parameter it does not find keeps the key the scheme gives it, for
    the message that it is missing.

    Args:
        own: canonical name -> the key this project writes.
        keys: what the file has.
    """
    keys = list(keys)
    published = [
        {canonical: _published(stems, canonical, key) for canonical, key in own.items()}
        for stems in (TORCHVISION, DEEPCLUSTER)
    ]
    bare = {_without_wrappers(key): key for key in reversed(keys)}
    # A larger module's attribute (Lightning's ``model.conv1.weight``) stands before every key.
    levels = zip(*(key.split(".") for key in bare), strict=False)
    shared = sum(1 for _ in takewhile(lambda parts: len(set(parts)) == 1, levels))
    inner = {".".join(name.split(".")[shared:]): key for name, key in bare.items()}
    found_by = ({key: key for key in keys}, bare, inner, _tails(keys, own))
    schemes = [(names, found) for found in found_by for names in (own, *published)]
    names, found = max(schemes, key=lambda scheme: sum(key in scheme[1] for key in scheme[0].values()))
    return {canonical: found.get(key, key) for canonical, key in names.items()}


def _tails(keys: Iterable[str], own: Mapping[str, str]) -> dict[str, str]:
    """Our key -> the one key of the file that ends with it: blocks of a larger module stand before the layers."""
    found, wanted = dict[str, list[str]](), set(own.values())
    for key in keys:
        parts = key.split(".")
        for i in range(len(parts)):
            if (tail := ".".join(parts[i:])) in wanted:
                found.setdefault(tail, []).append(key)
    return {tail: candidates[0] for tail, candidates in found.items() if len(candidates) == 1}


def _published(stems: Mapping[str, str], canonical: str, key: str) -> str:
    layer, kind = canonical.rpartition(".")[0], key.rpartition(".")[2]
    return f"{stems[layer]}.{kind}" if layer in stems else key


def _without_wrappers(key: str) -> str:
    return ".".join(part for part in key.split(".") if part not in _WRAPPERS)
