"""PASCAL VOC 2012 with the masks of SBD: the split "trainaug".

SBD, the Semantic Boundaries Dataset (Hariharan et al., ICCV 2011), has masks of
11,355 images of VOC. Together with VOC's own training images, and without those of
VOC's val, they are the 10,582 images that the field trains on.
"""

import zlib
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from mmwood.converters.writer import Writer
from mmwood.fileio.files import remove_leftovers
from mmwood.fileio.images import check_readable, check_there
from mmwood.fileio.labels import VOID, check_labels, read_label_png
from mmwood.fileio.lists import TaggedImage, check_id, read_id_list, refuse_shared_files

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair"),
    *("cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant"),
    *("sheep", "sofa", "train", "tvmonitor"),
)
LISTS = "ImageSets/Segmentation"


def convert_voc_aug(
    voc: Path,
    sbd: Path,
    objects: bool = False,
    overwrite: bool = False,
    progress: Callable[[list], Iterable] = iter,
) -> dict:
    """Write SBD's masks and the list of trainaug into VOC's folder.

    ::

        VOC2012/
          SegmentationClassAug/ID.png          trainaug and val
          SegmentationObjectAug/ID.png         the same, with ``objects``
          ImageSets/Segmentation/trainaug.txt

    Images of VOC's train and val have VOC's masks, all others SBD's. SBD marks no
    void pixels.

    Args:
        voc: ``VOCdevkit/VOC2012``.
        sbd: SBD's ``dataset``, or the ``benchmark_RELEASE`` that holds it.
        objects: Whether to write instance maps, from ``SegmentationObject`` and
            SBD's ``inst``.
        overwrite: As in :class:`mmwood.converters.writer.Writer`.
        progress: Wraps the list of images while they are written, for instance
            ``tqdm.tqdm``.

    Returns:
        How many images ``trainaug``, ``voc`` and ``sbd`` (masks by their source) are,
        and the writer's counts.

    Raises:
        FileExistsError: See the writer.
        FileNotFoundError: A list, a mask or an image is missing.
        ValueError: A file is damaged or is not what its name says.
    """
    if not (sbd / "cls").is_dir() and (sbd / "dataset/cls").is_dir():
        sbd = sbd / "dataset"
    trainaug, val, own = trainaug_ids(voc, sbd)
    items = [*trainaug, *val]
    images = [str(voc / f"JPEGImages/{item.image}.jpg") for item in items]
    check_there(items, images, "JPEGImages")
    kinds = [("SegmentationClass", "cls", "GTcls", len(VOC_CLASSES))]
    if objects:
        kinds.append(("SegmentationObject", "inst", "GTinst", VOID - 1))
    jobs = []
    for folder, sbd_folder, key, largest in kinds:
        paths = [
            voc / f"{folder}/{item.image}.png"
            if item.image in own
            else sbd / f"{sbd_folder}/{item.image}.mat"
            for item in items
        ]
        check_there(items, paths, f"masks of {folder}Aug")
        jobs.append((f"{folder}Aug", paths, key, largest))
    sizes = check_readable(items, images, decode=False)

    writer = Writer(overwrite)
    for folder, *_ in jobs:
        remove_leftovers(voc / folder)
    numbers = list(range(len(items)))
    for number in progress(numbers):
        for folder, paths, key, largest in jobs:
            path = paths[number]
            label = (
                read_sbd(path, key) if path.suffix == ".mat" else read_label_png(path)
            )
            source, size = items[number].source, sizes[number]
            if label.shape != size[::-1]:
                raise ValueError(
                    f"{source}: mask {path} has (W, H) = {label.shape[::-1]}, its "
                    f"image {size}"
                )
            check_labels(label, path, largest, what=f"{source}: mask")
            writer.label(voc / folder / f"{items[number].image}.png", label)
    ids = [item.image for item in trainaug]
    writer.lines(voc / LISTS / "trainaug.txt", ids)
    from_voc = sum(item.image in own for item in items)
    return dict(
        trainaug=len(ids), voc=from_voc, sbd=len(items) - from_voc, **writer.counts
    )


def trainaug_ids(
    voc: Path, sbd: Path
) -> tuple[list[TaggedImage], list[TaggedImage], set[str]]:
    """The images of trainaug in sorted order, those of val, and all of VOC's own.

    trainaug = (VOC train, SBD train and SBD val) without VOC val.

    Raises:
        FileNotFoundError: There is no such list.
        ValueError: An id leads out of its folder, or two would share a file.
    """
    paths = [voc / LISTS / "train.txt", sbd / "train.txt", sbd / "val.txt"]
    paths.append(voc / LISTS / "val.txt")
    lists = [read_id_list(path) for path in paths]
    for item in chain(*lists):
        item.image = check_id(item.image, item.source)
    train, sbd_train, sbd_val, val = lists
    own = {item.image for item in [*train, *val]}
    held_out = {item.image: item for item in val}
    union: dict[str, TaggedImage] = {}
    for item in [*train, *sbd_train, *sbd_val]:
        if item.image not in held_out:
            union.setdefault(item.image, item)
    trainaug = [union[name] for name in sorted(union)]
    val = list(held_out.values())
    refuse_shared_files([*trainaug, *val])
    return trainaug, val, own


def read_sbd(path: Path, key: str = "GTcls") -> np.ndarray:
    """A mask of SBD.

    Args:
        path: A ``.mat`` file of SBD's ``cls`` or ``inst``.
        key: ``GTcls`` (0 background, c + 1 class c) or ``GTinst`` (0, instances).

    Shape:
        - output: (H, W) uint8

    Raises:
        ValueError: The file is damaged or holds no such struct.
    """
    try:
        content = loadmat(path, variable_names=[key])
    # What scipy was seen to raise at damaged files, and (NotImplementedError) at
    # files of MATLAB 7.3.
    except (
        *(OSError, ValueError, TypeError, LookupError, NotImplementedError),
        *(MatReadError, zlib.error),
    ) as error:
        raise ValueError(f"{path} is damaged, or no MATLAB 5 file: {error}") from error
    struct = content.get(key)
    if struct is None or "Segmentation" not in (struct.dtype.names or ()):
        raise ValueError(f"{path}: expected a struct {key} with a field Segmentation")
    label = struct["Segmentation"].flat[0] if struct.size else np.empty(0)
    if label.ndim != 2 or label.dtype != np.uint8:
        raise ValueError(
            f"{path}: {key}.Segmentation must be (H, W) uint8, but is {label.dtype} of "
            f"shape {label.shape}"
        )
    return label
