"""What a person has: a folder of images, their tags, candidates, masks to measure."""

import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from mmwood.converters.cvat import read_cvat
from mmwood.converters.label_studio import read_label_studio
from mmwood.converters.source import TagSource
from mmwood.converters.table import read_table
from mmwood.converters.tags import resolve_tags
from mmwood.fileio.files import files_by_id, read_text
from mmwood.fileio.images import image_paths, list_folder
from mmwood.fileio.labels import VOID
from mmwood.fileio.lists import (
    TaggedImage,
    read_class_names,
    refuse_shared_files,
    without_suffix,
)
from mmwood.own_images.command import Untagged
from mmwood.utils.check import one_of


@dataclass
class OwnImages:
    """Images and what is known of them; paths are below ``root`` unless said.

    Attributes:
        root: The folder, which is only read.
        classes: Names of the classes in the order of their labels.
        tagged: The images with a tag.
        untagged: Those that show no class, to be used as OoD images.
        left_out: How many images without a tag are not used.
        candidates: Files that should show no class, of any folder.
        candidates_root: The folder that they lie in.
        masks: Id of a tagged image -> the file of its true mask.
        corrected: Id of a tagged image -> the file of its corrected mask.
        notes: What a person should know of tags and corrected masks.
    """

    root: Path
    classes: list[str]
    tagged: list[TaggedImage]
    untagged: list[str]
    left_out: int
    candidates: list[str]
    candidates_root: Path | None
    masks: dict[str, Path]
    corrected: dict[str, Path]
    notes: list[str]


def read_own_images(
    root: Path,
    tags: Path | None = None,
    candidates: Path | None = None,
    masks: Path | None = None,
    untagged: Untagged = "use",
    corrected: Path | None = None,
) -> OwnImages:
    """Find out what there is; no image is opened.

    Args:
        root: Folder of the images, with any suffix, in folders or not.
        tags: A table, or an export of Label Studio or CVAT. None is ``root/tags.csv``.
        candidates: Folder of images that should show no class.
        masks: Folder of true masks: label PNGs with the names of the images, in the
            same folders, or without the one that holds all of them.
        untagged: Which images without a tag are used. An export of an annotation tool
            does not list what nobody has annotated yet: with one, 'use' means 'listed'.
        corrected: Folder of masks that a person corrected, named as those of ``masks``.

    Raises:
        FileNotFoundError: A folder, the tags or an image that they name is missing.
        ValueError: The tags are no such file or name no image or only one class with
            nothing to tell it from, or more than a mask can hold; a folder holds no
            image, or that of candidates a tagged one.
    """
    one_of("--untagged", untagged, get_args(Untagged))
    if root.is_file():
        raise ValueError(
            f"--data: {root} is a file: name the folder of the images, and a file of "
            "tags with --tags"
        )
    if not root.is_dir():
        raise FileNotFoundError(f"--data: there is no folder {root}")
    if tags is None and not (root / "tags.csv").is_file():
        raise FileNotFoundError(
            f"--data: {root} holds no tags.csv: write one with the columns "
            "image,labels (labels separated by semicolons), or name a file of tags "
            "with --tags"
        )
    file = tags or root / "tags.csv"
    source, of_tool = read_source(file)
    if not source.items:
        raise ValueError(f"{file}: lists no image: write a row for each")
    named = root / "classes.txt"
    names = read_class_names(str(named), field=str(named)) if named.is_file() else None
    items, classes = resolve_tags(
        root,
        source,
        classes=names,
        search=of_tool,
        remedy=f"write the names of the classes into {named}, one a line",
    )
    shown = Counter(tag for item in items for tag in item.tags or ())
    if len(shown) >= VOID:
        raise ValueError(
            f"{file}: names {len(shown)} classes, a mask holds {VOID - 1}: join some"
        )
    notes = list(source.notes)
    for count, what in (
        (0, "without an image, left out"),
        (1, "of a single image, too few to learn from"),
    ):
        if few := [name for name in classes if shown[name] == count]:
            notes.append(f"classes {what}: {', '.join(few)}")
    tagged = [item for item in items if item.tags]
    listed = [item.image for item in items if not item.tags]
    others = _not_listed(root, items, [candidates, masks, corrected])
    used = {
        "use": listed if of_tool else sorted(listed + others),
        "listed": listed,
        "leave-out": [],
    }[untagged]
    if others and untagged != "leave-out":
        note = f"{len(others)} images of the folder are not among the tags"
        if of_tool or untagged == "listed":
            notes.append(f"{note}: left out, since nobody may have looked at them")
        else:
            notes.append(
                f"{note}: they count as images without a tag, which show no class "
                "(--untagged listed: only rows with an empty field do)"
            )
    if len(shown) == 1 and not used:
        raise ValueError(
            f"{file}: all tagged images have the one tag {next(iter(shown))!r}, and "
            f"with --untagged {untagged} there is none without: a classifier has "
            "nothing to tell it from. Add images that do not show it, as rows with an "
            "empty field"
        )
    drawn = _masks(corrected, tagged, "--corrected") if corrected else {}
    if corrected and (more := len(files_by_id(corrected)) - len(drawn)):
        notes.append(
            f"{more} masks in --corrected {corrected} are of no tagged image: left out"
        )
    return OwnImages(
        root=root,
        classes=[name for name in classes if name in shown],
        tagged=tagged,
        untagged=used,
        left_out=len(listed) + len(others) - len(used),
        candidates=_candidates(candidates, root, tagged) if candidates else [],
        candidates_root=candidates,
        masks=_masks(masks, tagged, "--masks") if masks else {},
        corrected=drawn,
        notes=notes,
    )


def read_source(path: Path) -> tuple[TagSource, bool]:
    """Tags from a file whose kind its suffix and its header tell.

    Returns:
        The tags, and whether an annotation tool wrote them, whose names of images are
        not the paths of the files.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not of the kind that it seems to be.
    """
    if not path.is_file():
        raise FileNotFoundError(f"--tags: there is no file {path}")
    kind = path.suffix.lower()
    if kind == ".xml":
        return read_cvat(path), True
    if kind == ".json":
        return read_label_studio(path), True
    header = next(iter(read_text(path, what="table").splitlines()), "")
    columns = {name.strip(' "') for name in re.split("[,;\t]", header)}
    if "choice" in columns and "labels" not in columns:
        return read_label_studio(path), True
    return read_table(path), False


def _not_listed(
    root: Path, items: list[TaggedImage], others: list[Path | None]
) -> list[str]:
    """Images below the root that no tag names, without those of other folders."""
    apart = [other.resolve() for other in others if other is not None]
    known = {item.image for item in items}
    return [
        name
        for path in image_paths(root)
        if (name := path.relative_to(root).as_posix()) not in known
        and not any(path.resolve().is_relative_to(other) for other in apart)
    ]


def _candidates(folder: Path, root: Path, tagged: list[TaggedImage]) -> list[str]:
    """The images of a folder that holds none of the tagged ones."""
    found = list_folder(folder, "--candidates")
    for path in (root / item.image for item in tagged):
        if path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(
                f"--candidates: {folder} holds {path}, which has a tag: name a folder "
                "of images that show no class"
            )
    return [item.image for item in found]


def _masks(folder: Path, tagged: list[TaggedImage], field: str) -> dict[str, Path]:
    """The masks that there are, by the ids of their images."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{field}: there is no folder {folder}")
    refuse_shared_files(tagged, lambda item: without_suffix(item.image))
    names = [without_suffix(item.image) for item in tagged]
    # All images may lie in one folder, images/, and their masks directly in this one.
    shared = os.path.commonpath([os.path.dirname(name) for name in names])
    for start in (".", shared):
        paths = {name: folder / f"{os.path.relpath(name, start)}.png" for name in names}
        found = {name: path for name, path in paths.items() if path.is_file()}
        if found:
            return found
    raise FileNotFoundError(
        f"{field}: {folder} holds no mask of a tagged image, such as {paths[names[0]]}"
    )
