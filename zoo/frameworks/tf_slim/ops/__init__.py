"""What slim has no layer for, a file a family of kinds.

Each function stands alone, or calls others of its own file: a network's source carries those that it calls.
"""

from zoo.frameworks.tf_slim.ops.detecting import *
from zoo.frameworks.tf_slim.ops.normalising import *
from zoo.frameworks.tf_slim.ops.pointwise import *
from zoo.frameworks.tf_slim.ops.pooling import *
from zoo.frameworks.tf_slim.ops.shaping import *
from zoo.frameworks.tf_slim.ops.weighted import *
