"""Open Images as a pool of OoD candidates: what shows no foreground class."""

from mmwood.converters.openimages.candidates import write_candidates
from mmwood.converters.openimages.foreground import TABLES, Foreground, read_foreground

__all__ = ["TABLES", "Foreground", "read_foreground", "write_candidates"]
