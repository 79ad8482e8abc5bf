"""Does a rewritten prompt still say what the original said? `check` in `checker.py` is the method."""

from .checker import Atom, Change, FaithfulnessReport, check

__all__ = ["Atom", "Change", "FaithfulnessReport", "check"]
