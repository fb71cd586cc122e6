"""Networks in one form, in which equal ones are equal however they are spelt, and in what two of them differ.

In this form an activation is a row of numbers, an item of the batch each, in C, H, W order; what shape a layer takes it
for is part of the layer. So what only gives numbers another shape is gone, as are dropout and what multiplies by 1; a
bias is a step of its own; a convolution over the whole of its input is a dense layer; windows are where they go, not
the padding and rounding that say it. Every rewrite holds for all finite inputs.
"""

from zoo.canonical.differing import differing
from zoo.canonical.folding import folded
from zoo.canonical.form import Form, Step, canonical
from zoo.canonical.numbering import Numbering

__all__ = ["Form", "Numbering", "Step", "canonical", "differing", "folded"]
