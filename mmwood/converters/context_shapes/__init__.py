"""Context shapes: a small drawn data set whose classes come with their contexts.

A classifier trained from image tags takes what an object stands on for the object:
rails for a train, water for a boat. Here that happens on purpose and under control.
Six classes of drawn objects stand on their own context with a chosen probability, and
a pool of out-of-distribution (OoD) images shows the same contexts without any object.
The folder is laid out as PASCAL VOC 2012, so that whatever reads VOC reads it:

    JPEGImages/*.jpg            images, long side `size`
    SegmentationClass/*.png     palette PNG: 0 background, 1..C classes, 255 void
    SegmentationObject/*.png    palette PNG: 0 background, 1..n instances, 255 void
    ImageSets/Segmentation/     train.txt, val.txt
    OoD/*.jpg, OoD/list.txt     contexts without objects; paths relative to the root
    contexts.csv                image, split, class, context: the truth of every scene
    dataset.json                parameters, classes and counts; written last

Everything is painted on a canvas four times as large and then shrunk, objects and
contexts together, so that an object leaves no trace of pasting and an OoD image
differs from a training image in nothing but the missing object.
"""

from mmwood.converters.context_shapes.build import generate
from mmwood.converters.context_shapes.sample import (
    CLASSES,
    CONTEXTS,
    NEUTRAL_CONTEXTS,
    Sample,
    draw_sample,
)

__all__ = [
    "CLASSES",
    "CONTEXTS",
    "NEUTRAL_CONTEXTS",
    "Sample",
    "draw_sample",
    "generate",
]
