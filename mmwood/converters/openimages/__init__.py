"""Open Images as a pool of OoD candidates: what shows no foreground class."""

from mmwood.converters.openimages.candidates import summary_tables, write_candidates
from mmwood.converters.openimages.foreground import (
    TABLES,
    Foreground,
    read_descriptions,
    read_foreground,
    read_hierarchy,
)

__all__ = [
    "TABLES",
    "Foreground",
    "read_descriptions",
    "read_foreground",
    "read_hierarchy",
    "summary_tables",
    "write_candidates",
]
