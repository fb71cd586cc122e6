"""The keys people's PyTorch files have for a parameter: ours, a published network's, those of a larger module, or any.

Without torch, for every format that carries such keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import takewhile
from typing import TypeAlias

from converters.tensormap import Entry
from converters.weights import Array
from zoo.layers import ModelSpec, Shape
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
_DIGITS = re.compile(r"\d+")

# The parameters of a layer: the last part of a key -> name and shape.
_Parts: TypeAlias = dict[str, tuple[str, Shape]]


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
    """Parameter -> key by the shapes of layers, and the order of those that are alike; None where a choice is left.

    A state dict is in the order in which its layers were made, and the keys of layers that are alike must count in that
    order. In one that was sorted (safetensors is), counting alone tells. A head may have another number of classes, and
    the file layers of other shapes.
    """
    keys = [key for key, tensor in tensors.items() if tensor.ndim and not is_count(key)]
    shapes = parameter_shapes(spec)
    ours = _layers((name, own[name], shapes[name]) for name in own)
    theirs = _layers((key, key, tensors[key].shape) for key in keys)
    head, found = spec.head.name if spec.head else "", dict[str, str]()
    for kind in [_kind(parts) for layer, parts in ours.items() if layer != head]:
        mine = [layer for layer, parts in ours.items() if layer != head and _kind(parts) == kind]
        alike = [stem for stem, parts in theirs.items() if _kind(parts) == kind]
        if len(mine) != len(alike) or not _tell_order(alike, is_sorted=keys == sorted(keys)):
            return None
        found |= dict(zip(mine, sorted(alike, key=counted), strict=True))
    if head:
        rest = [stem for stem in theirs if stem not in found.values()]
        same = [stem for stem in rest if _kind(theirs[stem]) == _kind(ours[head])]
        like = same or [stem for stem in rest if _kind(theirs[stem], 1) == _kind(ours[head], 1)]
        if len(like) != 1:
            return None
        found[head] = like[0]
    return {name: theirs[found[layer]][role][0] for layer, parts in ours.items() for role, (name, _) in parts.items()}


def _layers(named: Iterable[tuple[str, str, Shape]]) -> dict[str, _Parts]:
    """The parameters of each layer, of names, keys and shapes."""
    layers = dict[str, _Parts]()
    for name, key, shape in named:
        layers.setdefault(name.rpartition(".")[0], {})[key.rpartition(".")[2]] = (name, shape)
    return layers


def _kind(parts: _Parts, first: int = 0) -> dict[str, tuple[int, Shape]]:
    """What tells layers apart: the shapes of their parameters, or what is behind the first axes of these."""
    return {role: (len(shape), shape[first:]) for role, (_, shape) in parts.items()}


def _tell_order(stems: list[str], *, is_sorted: bool) -> bool:
    """Whether the keys of layers that are alike, in the order of their file, say which comes first."""
    is_counted = len({_DIGITS.sub("", stem) for stem in stems}) == 1  # words may be in order by chance
    return is_counted and (is_sorted or stems == sorted(stems, key=counted))


def counted(name: str) -> list[tuple[int, str]]:
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
