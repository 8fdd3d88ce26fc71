"""Checks of a finished data set: every file it lists, read whole."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmwood.converters.voc_aug import LISTS, VOC_CLASSES
from mmwood.fileio.images import UNREADABLE, open_upright, why_unreadable
from mmwood.fileio.labels import VOID, check_labels, read_label_png
from mmwood.fileio.lists import (
    bullets,
    check_id,
    name_on_disk,
    read_class_names,
    read_id_list,
    refuse_background,
)
from mmwood.fileio.tables import read_csv
from mmwood.fileio.voc import tags_from_xml
from mmwood.utils.tables import number_table

ERRORS = (
    "listed twice",
    "image missing",
    "image damaged",
    "unknown class",
    "mask missing",
    "mask damaged",
    "mask of another size",
    "mask with other values",
)


@dataclass
class Entry:
    """One image of a list, and what should belong to it.

    Attributes:
        source: ``file:line``, to be named in errors.
        image: The image file.
        mask: Its mask, or None where there are no masks.
        objects: Its instance map, or None.
        tags: Names of its classes, or None where there are no tags.
    """

    source: str
    image: Path
    mask: Path | None = None
    objects: Path | None = None
    tags: set[str] | None = None


@dataclass
class Report:
    """What :func:`check_dataset` found.

    Attributes:
        counts: By name of the list: ``images``, ``masks``, and how many images have
            each of :data:`ERRORS`.
        classes: By class name, over all lists: images ``tagged`` with it,
            ``in masks``, and with ``tag only`` or ``mask only`` where an image has
            both tags and a mask.
        errors: ``file:line: what is wrong``.
        warnings: What may be meant so.
    """

    counts: dict[str, Counter] = field(default_factory=dict)
    classes: dict[str, Counter] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kinds = ("images", "masks", *ERRORS)
        counts = self.counts.values()
        rows = [(kind, *(count[kind] for count in counts)) for kind in kinds]
        text = str(number_table(["", *self.counts], rows))
        columns = ("tagged", "in masks", "tag only", "mask only")
        differing = [
            (name, *(count[column] for column in columns))
            for name, count in self.classes.items()
            if count["tag only"] or count["mask only"]
        ]
        if differing:
            text += f"\n{number_table(['images by class', *columns], differing)}"
        for word, messages in (("warnings", self.warnings), ("errors", self.errors)):
            if messages:
                text += f"\n{word} ({len(messages)}):" + bullets(messages)
        return text if self.errors else f"{text}\nno errors"


def check_dataset(
    lists: Mapping[str, Sequence[Entry]],
    classes: Sequence[str],
    ignore_index: int = VOID,
    progress: Callable[[list], Iterable] = iter,
) -> Report:
    """Read every file of a data set and compare them with each other.

    Errors: those of ``ERRORS``, and a list without an image. Warnings: tags that are
    not the set of classes in the mask (objects marked difficult, crowds, hidden and
    pseudo masks differ), classes that no image has, images of two lists.

    Args:
        lists: The entries by name of the list.
        classes: Names of the classes; class c is c + 1 in masks.
        ignore_index: Value of void pixels.
        progress: Wraps a list while its files are read, for instance ``tqdm.tqdm``.

    Raises:
        ValueError: A class is the background.
    """
    refuse_background(classes)
    report = Report(classes={name: Counter() for name in classes})
    differing = 0
    first: dict[Path, str] = {}
    shared: Counter = Counter()
    for name, entries in lists.items():
        count = report.counts[name] = Counter()
        if not entries:
            report.errors.append(f"{name}: lists no image")
        own: dict[Path, str] = {}
        for entry in progress(list(entries)):
            faults, in_mask = _check_entry(entry, classes, ignore_index)
            # Images whose names differ in their suffix would share a label file.
            label_file = entry.mask or entry.image.with_suffix("")
            if own.setdefault(label_file, entry.source) != entry.source:
                faults.append(("listed twice", f"as at {own[label_file]}"))
            other = first.setdefault(label_file, name)
            if other != name:
                shared[other, name] += 1
            count["images"] += 1
            count["masks"] += in_mask is not None
            count.update({kind for kind, _ in faults})
            report.errors += [f"{entry.source}: {k}: {what}" for k, what in faults]
            differing += _count_classes(report.classes, entry.tags, in_mask)
    for (one, two), number in shared.items():
        report.warnings.append(f"{number} images are in {one} and in {two}")
    if differing:
        report.warnings.append(
            f"the tags of {differing} images are not the classes in their masks"
        )
    unseen = [name for name, count in report.classes.items() if not count]
    if unseen and len(unseen) < len(classes):
        report.warnings.append(f"classes that no image has: {', '.join(unseen)}")
    return report


def _check_entry(
    entry: Entry, classes: Sequence[str], ignore_index: int
) -> tuple[list[tuple[str, str]], set[str] | None]:
    """The faults of one entry, and the classes in its mask if that can be told."""
    faults, size, in_mask = [], None, None
    if not entry.image.is_file():
        faults.append(("image missing", str(entry.image)))
    else:
        try:
            size = open_upright(entry.image).size
        except UNREADABLE as error:
            reason = why_unreadable(error)
            faults.append(("image damaged", f"{entry.image}: {reason}"))
    unknown = sorted((entry.tags or set()) - set(classes))
    if unknown:
        faults.append(("unknown class", f"{unknown}; the classes are {list(classes)}"))
    for path, names in ((entry.mask, classes), (entry.objects, None)):
        if path is None:
            continue
        if not path.is_file():
            faults.append(("mask missing", str(path)))
            continue
        try:
            # Instance maps may have more than 255 numbers.
            mask = read_label_png(path, "mask", wide=names is None)
        except ValueError as error:
            faults.append(("mask damaged", str(error)))
            continue
        if size is not None and mask.shape != size[::-1]:
            what = f"{path} has (W, H) = {mask.shape[::-1]}, the image {size}"
            faults.append(("mask of another size", what))
        if names is None:
            continue
        try:
            values = check_labels(mask, path, len(names), ignore_index)
            in_mask = {names[value - 1] for value in values}
        except ValueError as error:
            faults.append(("mask with other values", str(error)))
    return faults, in_mask


def _count_classes(
    classes: dict[str, Counter], tags: set[str] | None, in_mask: set[str] | None
) -> bool:
    """Count an image's classes; whether its tags differ from its mask."""
    tagged = (tags or set()) & set(classes)
    for name in tagged:
        classes[name]["tagged"] += 1
    for name in in_mask or ():
        classes[name]["in masks"] += 1
    if tags is None or in_mask is None:
        return False
    for name in tagged - in_mask:
        classes[name]["tag only"] += 1
    for name in in_mask - tagged:
        classes[name]["mask only"] += 1
    return tagged != in_mask


def list_entries(
    path: Path,
    images: Path,
    img_suffix: str = ".jpg",
    masks: Path | None = None,
    objects: Path | None = None,
    annotations: Path | None = None,
) -> list[Entry]:
    """The entries of a list with one image id a line.

    Raises:
        FileNotFoundError: There is no list, or an image has no annotation.
        ValueError: An id is not below its folder, or an annotation is not XML.
    """
    entries = []
    for item in read_id_list(path):
        # As the data set finds it.
        name = check_id(item.image, item.source)
        name = name_on_disk(images, name, img_suffix)
        tags = None
        if annotations:
            xml = annotations / f"{name}.xml"
            if not xml.is_file():
                raise FileNotFoundError(f"{item.source}: there is no annotation {xml}")
            tags = tags_from_xml(xml, use_difficult=True)
        entries.append(
            Entry(
                item.source,
                images / (name + img_suffix),
                masks and masks / f"{name}.png",
                objects and objects / f"{name}.png",
                tags,
            )
        )
    return entries


def tag_entries(path: Path, root: Path, masks: Path | None = None) -> list[Entry]:
    """The entries of a ``tags.csv``, whose masks have the images' paths with ``.png``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no such CSV file, or an image is not below ``root``.
    """
    entries = []
    for item in read_csv(path):
        # As the data set finds it.
        name = name_on_disk(root, check_id(item.image, item.source))
        mask = masks and (masks / name).with_suffix(".png")
        entries.append(Entry(item.source, root / name, mask, tags=item.tags))
    return entries


def voc_aug_entries(voc: Path) -> tuple[dict[str, list[Entry]], Sequence[str]]:
    """Lists and classes of what :mod:`mmwood.converters.voc_aug` writes.

    Tags are those of VOC's annotations, instance maps are looked at where there is a
    folder of them.
    """
    return _voc_entries(voc, ("trainaug", "val"), "Aug"), VOC_CLASSES


def mini_voc_entries(root: Path) -> tuple[dict[str, list[Entry]], Sequence[str]]:
    """Lists and classes of what :mod:`mmwood.converters.mini_voc` writes."""
    return _voc_entries(root, ("train", "val")), VOC_CLASSES


def _voc_entries(
    root: Path, names: Sequence[str], ending: str = ""
) -> dict[str, list[Entry]]:
    """The lists of a VOC folder whose folders of masks have an ending."""
    objects, annotations = root / f"SegmentationObject{ending}", root / "Annotations"
    return {
        name: list_entries(
            root / LISTS / f"{name}.txt",
            root / "JPEGImages",
            masks=root / f"SegmentationClass{ending}",
            objects=objects if objects.is_dir() else None,
            annotations=annotations if annotations.is_dir() else None,
        )
        for name in names
    }


def coco_entries(root: Path) -> tuple[dict[str, list[Entry]], Sequence[str]]:
    """Lists and classes of what :mod:`mmwood.converters.coco` writes.

    Raises:
        FileNotFoundError: There is no ``tags_SPLIT.csv`` or no list of its split.
        ValueError: A list and the tags of its split name different images.
    """
    classes = read_class_names("classes.txt", root, "data set")
    masks = root / "SegmentationClass"
    tables = sorted(root.glob("tags_*.csv"))
    if not tables:
        raise FileNotFoundError(f"there is no {root / 'tags_SPLIT.csv'}")
    lists = {}
    for table in tables:
        name = table.stem.removeprefix("tags_")
        path = root / f"ImageSets/{name}.txt"
        tagged = {Path(item.image).stem: item for item in read_csv(table)}
        listed = read_id_list(path)
        for item in listed:
            if item.image not in tagged:
                raise ValueError(f"{item.source}: {item.image!r} is not in {table}")
        names = {item.image for item in listed}
        for stem, item in tagged.items():
            if stem not in names:
                raise ValueError(f"{item.source}: {stem!r} is not in {path}")
        lists[name] = [
            Entry(
                item.source,
                root / tagged[item.image].image,
                masks / f"{item.image}.png" if masks.is_dir() else None,
                tags=tagged[item.image].tags,
            )
            for item in listed
        ]
    return lists, classes
