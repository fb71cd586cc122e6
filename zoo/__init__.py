"""What the models are: one canonical AlexNet spec, its family, and the frameworks that run it.

The names of ``__all__`` are the declared interface; each is imported when it is first used. Other modules may change.
"""

from typing import TYPE_CHECKING

from zoo.lazy import lazy

if TYPE_CHECKING:
    from zoo import layers
    from zoo.api import build, forward, framework_names, generate
    from zoo.errors import (
        CheckFailedError,
        FileFormatError,
        MissingDependencyError,
        SpecError,
        UnknownNameError,
        UnsupportedError,
        WeightsError,
        ZooError,
    )
    from zoo.layers import ModelSpec
    from zoo.registry import model, models

__version__ = "0.1.0"

__all__ = [
    "CheckFailedError",
    "FileFormatError",
    "MissingDependencyError",
    "ModelSpec",
    "SpecError",
    "UnknownNameError",
    "UnsupportedError",
    "WeightsError",
    "ZooError",
    "__version__",
    "build",
    "forward",
    "framework_names",
    "generate",
    "layers",
    "model",
    "models",
]

if not TYPE_CHECKING:  # a checker would take it for a yes to every name
    __getattr__ = lazy(
        __name__,
        {
            **dict.fromkeys(("build", "forward", "framework_names", "generate"), "zoo.api"),
            **dict.fromkeys((name for name in __all__ if name.endswith("Error")), "zoo.errors"),
            **dict.fromkeys(("model", "models"), "zoo.registry"),
            "ModelSpec": "zoo.layers",
            "layers": "zoo.layers",
        },
    )


def __dir__() -> list[str]:
    return __all__
