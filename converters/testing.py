"""Parity in the tests of any project; `alexnet_zoo_pytest` offers it as a fixture of pytest."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from converters.parity.assertion import parity_report
from converters.report import text
from converters.verdicts import Report


def assert_parity(
    a: Any, b: Any, inputs: Any = None, *, budget: float = 1e-5, spec: Any = None, runtimes: Sequence[str] = ()
) -> Report:
    """Fail, with the whole report, unless two networks compute the same function.

    Args:
        a: what is right. A weights file (path), `converters.weights.Weights`, a mapping of layer name -> array, a
            PyTorch module, or a function of the inputs that returns such a mapping, one array, or a tuple of arrays,
            which go by their order.
        b: what is held against it; likewise. The weights of a module are compared with those of `a`, where their keys,
            or their order and shapes, say which they are.
        inputs: what to feed: input name -> batch (N, ...), or one batch; every call gets a copy. Left out, seeded
            probes, where `a` is a file or `Weights`: two, or sixteen for a module or function, whose layers cannot be
            asked one by one. Not needed for two mappings. A module is run again on the last sample alone, a function
            a second time on all: both must tell the same.
        budget: the largest error that passes: max|b - a| / max|a|, of the worst layer and sample.
        spec: the network (`zoo.layers.ModelSpec`) of the file `a`, where it does not say it.
        runtimes: what every ONNX file of the two is run in besides (``onnxruntime``, ``openvino``, ``opencv``,
            ``litert``); where neither is one, the network of `a` as it is written for them. For a file or `Weights`.

    Returns:
        The report, for what else a test wants to know. Its `limits` say what equal numbers do not show, above all where
        less than 99 % of a layer was exercised; each of them is also a `UserWarning`, which pytest lists.

    Raises:
        AssertionError: they differ, one of them cannot be run, or nothing is proved (all zeros); the message is the
            report.
        ZooError: a file cannot be read, the inputs do not fit, or the budget is no positive number.
        UnknownNameError: no runtime of that name.
        TypeError: `a` or `b` is nothing that can be compared, holds no real numbers or an empty batch; inputs are
            needed and missing; or `spec` cannot be used.
    """
    __tracebackhide__ = True
    report = parity_report(a, b, inputs, budget=budget, spec=spec, runtimes=runtimes)
    if not report.passed:
        raise AssertionError(f"parity\n\n{text(report)}")
    for limit in report.limits:
        warnings.warn(f"parity holds, but is not shown in full: {limit}", stacklevel=2)
    return report
