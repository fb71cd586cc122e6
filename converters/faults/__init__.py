"""The known conversion faults: plant one, or recognise one.

`FAULTS` is the catalogue. A fault says what a layer computes under it (`Edit`), so that the same line of the catalogue
plants it and recognises it: the subject's own input of the layer is taken, the layer is recomputed by the float64
reference under every fault that can be there, and the one that gives the subject's output is named.
"""

from converters.faults.catalogue import (
    FAULTS,
    Planted,
    diagnose,
    fault,
    findings,
    plant,
    sites,
)
from converters.faults.diagnosis import Own
from converters.faults.of_norms import RUNNING_SUM
from converters.faults.of_outputs import IDENTICAL, LOGITS, explain_output
from converters.faults.types import Edit, Family, Fault, Site

__all__ = [
    "FAULTS",
    "IDENTICAL",
    "LOGITS",
    "RUNNING_SUM",
    "Edit",
    "Family",
    "Fault",
    "Own",
    "Planted",
    "Site",
    "diagnose",
    "explain_output",
    "fault",
    "findings",
    "plant",
    "sites",
]
