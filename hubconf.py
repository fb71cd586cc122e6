"""The family for ``torch.hub``: ``torch.hub.load("<this repository>", "alexnet", weights="alexnet.safetensors")``."""

from collections.abc import Callable

from converters.convert import load
from zoo.frameworks.pytorch import Network, build
from zoo.registry import model, models

dependencies = ["torch", "numpy"]


def _entry(name: str) -> Callable[..., Network]:
    def make(weights: str | None = None) -> Network:
        spec = model(name)
        if weights is None:
            return build(spec)
        found = load(weights, spec=spec)
        return build(found.spec, found.tensors).eval()

    make.__name__ = name
    make.__doc__ = f"""{model(name).title}.

    Args:
        weights: a file of weights in any format this project reads; the module is then in evaluation mode, with as
            many classes as the file has. Left out, the module is fresh and in training mode.

    Returns:
        A module from N x {" x ".join(map(str, model(name).inputs[0].shape))} to probabilities, N x classes.
    """
    return make


globals().update({name: _entry(name) for name in models()})
