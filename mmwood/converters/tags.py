"""A folder of images and their tags: ``tags.csv`` from what people have."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

from mmwood.converters.source import TagSource
from mmwood.converters.writer import Writer
from mmwood.datasets.image_level import bullets
from mmwood.fileio.lists import Tagged

__all__ = ["convert_tags", "find_image"]

#: What Label Studio puts before the name of an uploaded file.
UPLOAD = re.compile(r"[0-9a-f]{8}-")


def convert_tags(
    root: Path,
    source: TagSource,
    images: str = "",
    classes: Sequence[str] | None = None,
    search: bool = False,
    overwrite: bool = False,
) -> dict:
    """Write the tags of a source as a data set with ``label_source='csv'``.

    ::

        root/
          tags.csv       image (its path from root), labels (separated by semicolons)
          classes.txt    the classes in the order of their labels

    Args:
        root: Folder of the data set; the images lie in it.
        source: What a reader gave.
        images: Folder that the source's names of images start from, relative to
            ``root``.
        classes: Names of the classes in the order of their labels. None is the
            source's order, or the alphabet.
        search: Find images as :func:`find_image` does. Otherwise their names in the
            source are their paths from ``images``.
        overwrite: As in :class:`mmwood.converters.writer.Writer`.

    Returns:
        ``images``, ``untagged`` (images without a tag), ``classes`` (the number of
        images by class), and the writer's counts.

    Raises:
        FileExistsError: See the writer.
        FileNotFoundError: Images are missing.
        ValueError: There is no tag, a tag is not among ``classes``, or two entries
            mean one image, or two that differ only in their suffix.
    """
    classes = list(classes or source.classes or _sorted_tags(source.items))
    missing, items, first = [], [], {}
    for item in source.items:
        unknown = sorted(item.tags - set(classes))
        if unknown:
            raise ValueError(
                f"{item.source}: image {item.image!r} has the unknown class {unknown}; "
                f"the classes are {classes}"
            )
        path = find_image(root, images, item.image) if search else None
        if not search:
            path = _inside(root, Path(root, images, item.image))
        if path is None:
            missing.append(f"{item.source}: {item.image}")
            continue
        # Images whose names differ only in their suffix would share one label file.
        other = first.setdefault(str(PurePosixPath(path).with_suffix("")), item)
        if other is not item:
            raise ValueError(
                f"{item.source}: image {item.image!r} is {root / path}, which is the "
                f"image, or has the name, of {other.image!r} at {other.source}"
            )
        items.append(Tagged(path, item.tags, item.source))
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(source.items)} images are not in "
            f"{root / images}:" + bullets(missing)
        )
    counts = Counter(tag for item in items for tag in item.tags)
    if not counts:
        raise ValueError("no image has a tag")
    writer = Writer(overwrite)
    writer.tags(root / "tags.csv", items, classes)
    writer.lines(root / "classes.txt", classes)
    return dict(
        images=len(items),
        untagged=sum(not item.tags for item in items),
        classes={name: counts[name] for name in classes},
        **writer.counts,
    )


def find_image(root: Path, images: str, name: str) -> str | None:
    """The file that an annotation tool means, as a path from ``root``.

    A name may be a URL or start with folders that are not here: the file is the one
    with the longest matching end of its path. Names of uploaded files may have lost
    the eight digits that Label Studio puts before them.

    Returns:
        The path from ``root`` with slashes, or None where there is no such file.
    """
    url = urlsplit(name)
    if url.path.endswith("/local-files/") and "d" in parse_qs(url.query):
        # Label Studio: /data/local-files/?d=folder/image.jpg
        name = parse_qs(url.query)["d"][0]
    elif "://" in name or url.path.startswith("/data/upload/"):
        name = unquote(url.path)
    parts = [part for part in PurePosixPath(name).parts if part not in ("/", "..")]
    ends = [Path(*parts[start:]) for start in range(len(parts))]
    if parts and UPLOAD.match(parts[-1]):
        ends.append(Path(UPLOAD.sub("", parts[-1], count=1)))
    for end in ends:
        path = _inside(root, Path(root, images, end))
        if path is not None:
            return path
    return None


def _inside(root: Path, path: Path) -> str | None:
    """A file's path from ``root``, or None if it is not there or not below it."""
    relative = Path(os.path.relpath(path, root))
    if relative.parts[:1] == ("..",) or not path.is_file():
        return None
    return relative.as_posix()


def _sorted_tags(items: Sequence[Tagged]) -> list[str]:
    return sorted(set().union(*(item.tags for item in items)))
