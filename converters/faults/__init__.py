"""The known conversion faults: plant one, or recognise one.

`FAULTS` is the catalogue. A fault says what a layer computes under it (`Edit`), so that the same line of the catalogue
plants it and recognises it: the subject's own input of the layer is taken, the layer is recomputed by the float64
reference under every fault that can be there, and the one that gives the subject's output is named.
"""

from converters.faults.catalogue import (
    FAULTS,
    diagnose,
    fault,
    findings,
    plant,
    sites,
)
from converters.faults.diagnosis import Own
from converters.faults.of_norms import RUNNING_SUM

__all__ = [
    "FAULTS",
    "RUNNING_SUM",
    "Own",
    "diagnose",
    "fault",
    "findings",
    "plant",
    "sites",
]
