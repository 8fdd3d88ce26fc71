"""PASCAL-B: :mod:`~mmwood.converters.pascal_b.build` says what it is and holds."""

from mmwood.converters.pascal_b.annotations import (
    CLASS_TABLE,
    ClassTable,
    Item,
    Scene,
    read_annotations,
    read_class_table,
)
from mmwood.converters.pascal_b.build import LIST, PLACES, build
from mmwood.converters.pascal_b.choice import (
    LEFT_OUT,
    SIZES,
    choose_images,
    find_candidates,
)
from mmwood.converters.pascal_b.drawing import (
    count_instances,
    draw_review,
    draw_scene,
)
from mmwood.converters.pascal_b.review import REVIEW

__all__ = [
    "CLASS_TABLE",
    "LEFT_OUT",
    "LIST",
    "PLACES",
    "REVIEW",
    "SIZES",
    "ClassTable",
    "Item",
    "Scene",
    "build",
    "choose_images",
    "count_instances",
    "draw_review",
    "draw_scene",
    "find_candidates",
    "read_annotations",
    "read_class_table",
]
