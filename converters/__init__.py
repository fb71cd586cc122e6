"""How weights move between frameworks, and how we know that they still mean the same network.

The names of ``__all__`` are the declared interface; each is imported when it is first used. Other modules may change.
"""

from typing import TYPE_CHECKING

from zoo import __version__
from zoo.lazy import lazy

if TYPE_CHECKING:
    from converters.api import convert_file, export_file
    from converters.convert import Reading, load, save, with_num_classes
    from converters.export import ExportOptions
    from converters.formats.caffe import read_network
    from converters.parity.verify import verify_file, verify_files, verify_model
    from converters.testing import assert_parity
    from converters.verdicts import Report
    from converters.weights import Weights

__all__ = [
    "ExportOptions",
    "Reading",
    "Report",
    "Weights",
    "__version__",
    "assert_parity",
    "convert_file",
    "export_file",
    "load",
    "read_network",
    "save",
    "verify_file",
    "verify_files",
    "verify_model",
    "with_num_classes",
]

if not TYPE_CHECKING:  # a checker would take it for a yes to every name
    __getattr__ = lazy(
        __name__,
        {
            **dict.fromkeys(("convert_file", "export_file"), "converters.api"),
            **dict.fromkeys(("Reading", "load", "save", "with_num_classes"), "converters.convert"),
            **dict.fromkeys(("verify_file", "verify_files", "verify_model"), "converters.parity.verify"),
            "ExportOptions": "converters.export",
            "Report": "converters.verdicts",
            "Weights": "converters.weights",
            "assert_parity": "converters.testing",
            "read_network": "converters.formats.caffe",
        },
    )


def __dir__() -> list[str]:
    return __all__
