"""Instances as COCO annotations: masks as run lengths, one JSON for a whole split."""

from collections.abc import Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

__all__ = ["decode_mask", "encode_mask", "merge_instances", "run_lengths"]


def encode_mask(mask: np.ndarray) -> dict:
    """COCO's compressed run lengths of a mask, ready for JSON.

    Args:
        mask: The pixels of one instance.

    Returns:
        ``size``, the list [H, W], and ``counts``, a str.

    Shape:
        - mask: (H, W) bool

    Raises:
        ImportError: pycocotools is not installed.
        ValueError: ``mask`` is not a two-dimensional array of bool.

    Example:
        >>> encode_mask(np.array([[True, False], [True, True]]))
        {'size': [2, 2], 'counts': '021O'}
    """
    mask = np.asarray(mask)
    if mask.ndim != 2 or mask.dtype != bool:
        raise ValueError(
            f"mask must be (H, W) bool, but is {mask.dtype} of shape {mask.shape}"
        )
    rle = run_lengths().encode(np.asfortranarray(mask.view(np.uint8)))
    return dict(size=list(mask.shape), counts=rle["counts"].decode("ascii"))


def decode_mask(rle: Mapping[str, Any]) -> np.ndarray:
    """The mask of COCO's compressed run lengths.

    Args:
        rle: ``size`` [H, W] and ``counts``, a str.

    Shape:
        - output: (H, W) bool

    Raises:
        ImportError: pycocotools is not installed.
    """
    return run_lengths().decode(dict(rle)).astype(bool)


def merge_instances(
    parts: Iterable[Mapping[str, Any]], class_names: Sequence[str]
) -> dict:
    """One COCO annotation from the instances of every image.

    Args:
        parts: One mapping per image: ``image`` with its ``file_name``, ``width`` and
            ``height``, and ``instances``, each with its ``category_id`` (from 1, in
            the order of ``class_names``), ``score``, ``segmentation`` (of
            :func:`encode_mask`), ``area`` and ``bbox``.
        class_names: Names of the classes, without a background.

    Returns:
        ``images``, ``annotations`` and ``categories``, ready for JSON. Images and
        annotations are numbered from 1 in the order of ``parts``.

    Raises:
        ValueError: A file name occurs twice, a category has no name, or a mask does
            not have its image's size.
    """
    images, annotations = [], []
    seen = set()
    for image_id, part in enumerate(parts, start=1):
        image = part["image"]
        name = image["file_name"]
        if name in seen:
            raise ValueError(f"parts: image {name!r} occurs twice")
        seen.add(name)
        size = [image["height"], image["width"]]
        images.append(dict(id=image_id, file_name=name, width=size[1], height=size[0]))
        for instance in part["instances"]:
            _check_instance(instance, name, size, len(class_names))
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image_id,
                    category_id=instance["category_id"],
                    segmentation=instance["segmentation"],
                    area=instance["area"],
                    bbox=instance["bbox"],
                    iscrowd=0,
                    score=instance["score"],
                )
            )
    categories = [
        dict(id=number, name=name) for number, name in enumerate(class_names, start=1)
    ]
    return dict(images=images, annotations=annotations, categories=categories)


def _check_instance(
    instance: Mapping[str, Any], name: str, size: list[int], count: int
) -> None:
    if not 1 <= instance["category_id"] <= count:
        raise ValueError(
            f"parts: image {name!r} has an instance with category_id "
            f"{instance['category_id']}; with {count} classes it must be in 1..{count}"
        )
    if list(instance["segmentation"]["size"]) != size:
        raise ValueError(
            f"parts: image {name!r} has (H, W) = {size}, a segmentation of it "
            f"{instance['segmentation']['size']}"
        )


def run_lengths(user: str = "drawing COCO masks") -> ModuleType:
    """``pycocotools.mask``.

    Args:
        user: What needs it, for the error.

    Raises:
        ImportError: pycocotools is not installed; the message says how to install it.
    """
    try:
        from pycocotools import mask
    except ImportError as error:
        raise ImportError(
            f'{user} needs pycocotools: pip install "mmwood[coco]"'
        ) from error
    return mask
