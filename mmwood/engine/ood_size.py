"""At which size a classifier sees out-of-distribution (OoD) images.

The one rule of mining, cluster centres and figures. Features depend on the size:
doubled, an image moves in feature space by two thirds of the distance between different
images. So OoD images are resized to the long side of the in-distribution ones before
features or scores are taken, as the released program of W-OoD (Lee et al., CVPR 2022)
resizes them to VOC's, 500 pixels. In-distribution images stay as they are.
"""

from collections.abc import Callable
from statistics import median_low
from typing import Literal

from mmengine.dataset import BaseDataset

from mmwood.fileio.images import check_readable
from mmwood.fileio.lists import TaggedImage
from mmwood.utils.check import at_least, one_of
from mmwood.utils.config import type_name

#: A long side in pixels; 'in_distribution', the median one of the in-distribution
#: images; or 'own', images as they are.
OoDSize = int | Literal["in_distribution", "own"]
#: How many images the median is taken of.
SAMPLE = 200


def check_ood_size(field: str, size: OoDSize) -> None:
    """Refuse what is no :data:`OoDSize`.

    Raises:
        ValueError: It is neither a positive integer nor one of the two words.
    """
    if isinstance(size, str):
        one_of(field, size, ("in_distribution", "own"))
    else:
        at_least(field, size, 1, integer=True)


def median_long_side(dataset: BaseDataset) -> int:
    """The median long side of a data set's images, in pixels.

    It is the lower median of 200 images evenly spread over the data set, read from the
    headers of their files: equal data sets have equal sizes.

    Raises:
        ValueError: One of these images cannot be read.
    """
    count = len(dataset)
    chosen = sorted({number * count // SAMPLE for number in range(SAMPLE)})
    paths = [dataset.get_data_info(index)["img_path"] for index in chosen]
    items = [TaggedImage(p, None, f"image {n}") for n, p in zip(chosen, paths)]
    return median_low(map(max, check_readable(items, paths, False, None)))


def ood_pipeline(
    pipeline: list[dict],
    size: OoDSize,
    in_distribution: Callable[[], BaseDataset],
    field: str,
) -> tuple[list[dict], int | None]:
    """The pipeline that OoD images go through.

    Images are resized right after they are loaded, as the test-time pipelines of class
    activation maps resize; one that has the long side stays the same to the bit. What a
    pipeline resizes to a size of its own is left to it, unless ``size`` is a number.

    Args:
        pipeline: Transforms of in-distribution images, without augmentation.
        size: See :data:`OoDSize`.
        in_distribution: Gives the in-distribution images; asked if they are needed.
        field: Where ``size`` is set, for messages.

    Returns:
        The transforms, and the long side in pixels; None if they resize to none.

    Raises:
        ValueError: There is no place for resizing, or it has taken place already; an
            in-distribution image cannot be read.
    """
    check_ood_size(field, size)
    kinds = [type_name(transform) for transform in pipeline]
    resizing = [
        kind
        for kind, transform in zip(kinds, pipeline)
        if ("Resize" in kind and not transform.get("scale_factor"))
        or "TestTimeAug" in kind
    ]
    if size == "own" or (size == "in_distribution" and resizing):
        return list(pipeline), None
    loading = [number for number, kind in enumerate(kinds) if kind.startswith("Load")]
    if resizing or not loading:
        reason = f"already has {resizing[0]}" if resizing else "loads no image"
        raise ValueError(
            f"{field}: test_dataloader.dataset.pipeline {reason}: set {field} to "
            "'own', and change the pipeline instead"
        )
    if isinstance(size, str):
        size = median_long_side(in_distribution())
    resize = dict(type="Resize", scale=(size, size), keep_ratio=True)
    # Pillow knows pictures alone.
    if all(len(step.get("bands") or "rgb") == 3 for step in pipeline):
        resize |= dict(backend="pillow", interpolation="bicubic")
    place = loading[-1] + 1
    return [*pipeline[:place], resize, *pipeline[place:]], size


def size_note(long_side: int | None) -> str:
    """What a log says of the long side that :func:`ood_pipeline` gave."""
    if long_side is None:
        return "OoD images have the size that the test pipeline gives them"
    return f"OoD images are resized to a long side of {long_side} pixels"
