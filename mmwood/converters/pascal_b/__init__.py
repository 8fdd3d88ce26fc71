"""PASCAL-B: :mod:`~mmwood.converters.pascal_b.build` says what it is and holds."""

from mmwood.converters.pascal_b.annotations import read_annotations, read_class_table
from mmwood.converters.pascal_b.build import build
from mmwood.converters.pascal_b.drawing import draw_scene

__all__ = ["build", "draw_scene", "read_annotations", "read_class_table"]
