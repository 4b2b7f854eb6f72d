"""The original name of the base of persistent classes: `from pbase import pbase`."""

from persist import Object

pbase = Object

__all__ = ["pbase"]
