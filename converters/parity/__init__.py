"""The proof: every way to run a network against the float64 reference, layer by layer, as a `Report`.

A subject is what it declares: its outputs are held to the reference first. Interior layers localise a difference: each
is judged along the network, error(layer) = max|y - ref| / max|ref| of the worst sample, and by itself, on dense inputs
of its own. The budget and the noise it leaves room for stand in `converters.verdicts.BUDGETS`. What cannot be run or
compared, and what equal numbers do not prove, is said.
"""

from converters.metric import compare
from converters.parity.probes import probe_inputs, probe_weights
from converters.parity.proof import Proof
from converters.parity.verify import subject_names, verify_file, verify_files, verify_model
from converters.verdicts import (
    DEFAULT_BUDGET,
    Report,
    SubjectVerdict,
)

__all__ = [
    "DEFAULT_BUDGET",
    "Proof",
    "Report",
    "SubjectVerdict",
    "compare",
    "probe_inputs",
    "probe_weights",
    "subject_names",
    "verify_file",
    "verify_files",
    "verify_model",
]
