"""What a row of an evaluation's table is."""

from typing import Literal

Role = Literal["encoder", "file", "all", "floor", "ceiling", "model"]
"""Words of an encoder or a file, all of them together; what rows are compared with; what a model wrote by itself."""
