"""Imported before torch, which reads these settings of the environment once."""

import os

from zoo.training import SETTINGS

os.environ |= SETTINGS | os.environ
