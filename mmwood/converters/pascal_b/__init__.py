"""PASCAL-B: an evaluation set with about equally many objects of each class and size.

Images with the 20 classes of PASCAL VOC, chosen from the annotations of LVIS and COCO
so that small, medium and large objects of every class count alike. Source: Mun et al.,
"Small Objects Matter in Weakly-supervised Semantic Segmentation", WACV 2024, whose own
list (1,137 images) cannot be had from the text. The folder is laid out as PASCAL VOC:

    SegmentationClass/*.png     palette PNG: 0 background, 1..20 classes, 255 void
    SegmentationObject/*.png    0 no instance, 255 void, any other value an instance;
                                palette PNG, or 16 bits where 254 are not enough
    ImageSets/Segmentation/val.txt
    JPEGImages/                 the images, where they were linked or copied
    counts.csv                  instances by class and size, as they are drawn
    pascal_b.json               parameters, counts, what was left out; complete at last

People look at the masks in ``tools/review_ood.py`` (see :func:`build`, ``review``).

``classes.csv`` says which categories are which class. Its LVIS names were checked
against version 1's list (detectron2's ``lvis_v1_categories.py``), and chosen by VOC's
annotation guidelines: cars without emergency vehicles, chairs without stools, tables to
eat at, trains as a whole. LVIS has no potted plants; they come from COCO.
"""

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
