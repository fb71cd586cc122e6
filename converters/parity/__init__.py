"""The proof: every way to run a network against the float64 reference, layer by layer, as a `Report`.

error(layer) = max|y - ref| / max|ref|, the worst sample's; the budget and the noise it leaves room for stand in
`BUDGETS`. Every activation and the logits are gated; a final softmax is shown, not gated, but must be the softmax of
the subject's own logits. What cannot be run or compared is said, never skipped.
"""

from converters.metric import compare, error
from converters.parity.probes import probe_inputs, probe_weights
from converters.parity.proof import Proof
from converters.parity.verify import subject_names, verify_files, verify_model
from converters.verdicts import (
    BUDGETS,
    DEFAULT_BUDGET,
    Agreement,
    Budget,
    Diagnosis,
    FileFact,
    LayerVerdict,
    Report,
    SubjectVerdict,
)

__all__ = [
    "BUDGETS",
    "DEFAULT_BUDGET",
    "Agreement",
    "Budget",
    "Diagnosis",
    "FileFact",
    "LayerVerdict",
    "Proof",
    "Report",
    "SubjectVerdict",
    "compare",
    "error",
    "probe_inputs",
    "probe_weights",
    "subject_names",
    "verify_files",
    "verify_model",
]
