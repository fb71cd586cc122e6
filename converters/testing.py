"""Parity in the tests of any project; `alexnet_zoo_pytest` offers it as a fixture of pytest."""

from __future__ import annotations

from typing import Any

from converters.parity.assertion import parity_report
from converters.report import text
from converters.verdicts import Report


def assert_parity(a: Any, b: Any, inputs: Any = None, *, budget: float = 1e-5, spec: Any = None) -> Report:
    """Fail, with the whole report, unless two networks compute the same function.

    Args:
        a: what is right. A weights file (path), `converters.weights.Weights`, a mapping of layer name -> array, a
            PyTorch module, or a function of the inputs that returns such a mapping or one array.
        b: what is held against it; likewise.
        inputs: what to feed: input name -> batch (N, ...), or one batch. Left out, two seeded probes, where `a` is a
            file or `Weights`. Not needed for two mappings.
        budget: the largest error that passes: max|b - a| / max|a|, of the worst layer and sample.
        spec: the network (`zoo.layers.ModelSpec`), where the files do not say it.

    Returns:
        The report, for what else a test wants to know.

    Raises:
        AssertionError: they differ, or one of them cannot be run; the message is the report.
        ZooError: a file cannot be read, or the inputs do not fit.
        TypeError: `a` or `b` is nothing that can be compared, or inputs are needed and missing.
    """
    __tracebackhide__ = True
    report = parity_report(a, b, inputs, budget=budget, spec=spec)
    if not report.passed:
        raise AssertionError(f"parity\n\n{text(report)}")
    return report
