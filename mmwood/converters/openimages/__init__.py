"""Open Images as a pool of OoD candidates: what shows no foreground class.

The pool is Open Images minus every image whose labels contain a class that maps to one
of the foreground classes, its descendants in the hierarchy included (Lee et al., CVPR
2022). The tables for VOC and COCO beside this file name classes by their labels in Open
Images V6, whose annotations Google LLC licenses under CC BY 4.0.
"""

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
