"""A folder of images and their tags: ``tags.csv`` from what people have."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

from mmwood.converters.source import TagSource
from mmwood.converters.writer import Writer
from mmwood.fileio.images import image_paths
from mmwood.fileio.lists import (
    TaggedImage,
    bullets,
    check_id,
    name_on_disk,
    question_classes,
    refuse_background,
    refuse_shared_files,
    unknown_classes,
    without_suffix,
)

#: What Label Studio puts before the name of an uploaded file.
UPLOAD = re.compile(r"^[0-9a-f]{8}-")


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
        search: Find images as :meth:`ImageFinder.search` does. Otherwise their names in
            the source are their paths from ``images``.
        overwrite: As in :class:`mmwood.converters.writer.Writer`.

    Returns:
        ``images``, ``untagged`` (images without a tag), ``classes`` (the number of
        images by class), and the writer's counts.

    Raises:
        FileExistsError: See the writer.
        FileNotFoundError: Images are missing.
        ValueError: There is no tag, a tag is not among ``classes``, a class is the
            background, or two entries mean one image, or two that differ only in their
            suffix.
    """
    items, classes = resolve_tags(root, source, images, classes, search)
    counts = Counter(tag for item in items for tag in item.tags or ())
    writer = Writer(overwrite)
    writer.tags(root / "tags.csv", items, classes)
    writer.lines(root / "classes.txt", classes)
    return dict(
        images=len(items),
        untagged=sum(not item.tags for item in items),
        classes={name: counts[name] for name in classes},
        **writer.counts,
    )


def resolve_tags(
    root: Path,
    source: TagSource,
    images: str = "",
    classes: Sequence[str] | None = None,
    search: bool = False,
    remedy: str = "name the classes with --classes",
) -> tuple[list[TaggedImage], list[str]]:
    """The images of a source by their paths from a folder, and the classes in order.

    Arguments and errors are those of :func:`convert_tags`, which writes them;
    ``remedy`` is what else helps against tags that are hardly meant.
    """
    classes = resolve_classes(source.items, classes or source.classes, remedy)
    finder = ImageFinder(root, images)
    missing, items = [], []
    for item in source.items:
        name, place = item.image, item.source
        path = finder.search(name, place) if search else finder.inside(name)
        if path is None:
            missing.append(f"{place}: {name}{finder.hint(name)}")
        else:
            items.append(replace(item, image=check_id(path, place)))
    refuse_shared_files(items, lambda item: without_suffix(item.image))
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(source.items)} images are not in "
            f"{root / images}, where their paths start:" + bullets(missing)
        )
    if not any(item.tags for item in items):
        first = f", from {items[0].source} on" if items else ""
        raise ValueError(f"no image has a tag: write what each shows beside it{first}")
    return items, classes


def resolve_classes(
    items: Sequence[TaggedImage],
    classes: Sequence[str] | None = None,
    remedy: str = "name the classes with --classes",
) -> list[str]:
    """The classes in order: those that are named, or all tags by the alphabet.

    Raises:
        ValueError: A tag is not among ``classes``, or without these hardly is a class;
            or a class is the background.
    """
    if not classes:
        question_classes(items, remedy)
    tags = {tag for item in items for tag in item.tags or ()}
    classes = list(classes or sorted(tags))
    refuse_background(classes)
    for item in items:
        if fault := unknown_classes(item.tags or (), classes):
            end = "" if fault.endswith("?") else "."
            raise ValueError(
                f"{item.source}: image {item.image!r} has {fault}{end} Mend it, or "
                f"{remedy}"
            )
    return classes


class ImageFinder:
    """Finds the files that a source of tags means."""

    def __init__(self, root: Path, images: str = "") -> None:
        self.root = root
        self.folder = Path(root, images)

    def inside(self, name: str) -> str | None:
        """The path from the root, with slashes, of the file of this name.

        None where it is not there, or not below the root.
        """
        # A program on Windows writes backslashes, and macOS other letters for ü.
        name = name_on_disk(self.folder, name.replace("\\", "/"))
        path = Path(self.folder, name)
        relative = PurePosixPath(Path(os.path.relpath(path, self.root)).as_posix())
        if relative.parts[:1] == ("..",) or not path.is_file():
            return None
        return str(relative)

    def search(self, image: str, source: str) -> str | None:
        """The file that an annotation tool means, as a path from the root.

        A name may be a URL or start with folders that are not here: the file is the one
        with the longest matching end of its path. Names of uploaded files may have lost
        the eight digits that Label Studio puts before them, and what it takes out of
        them: spaces become ``_``, brackets and the like go.

        Returns:
            The path with slashes, or None where there is no such file.

        Raises:
            ValueError: Several files may be the one that was uploaded, or it is a
                malformed URL.
        """
        try:
            url, name = urlsplit(image), image
        except ValueError as error:
            raise ValueError(f"{source}: image {image!r}: {error}") from error
        if url.path.endswith("/local-files/") and "d" in parse_qs(url.query):
            # Label Studio: /data/local-files/?d=folder/image.jpg
            name = parse_qs(url.query)["d"][0]
        elif "://" in name or url.path.startswith("/data/upload/"):
            name = unquote(url.path)
        path = PurePosixPath(name.replace("\\", "/"))
        parts = [part for part in path.parts if part not in ("/", "..")]
        ends = ["/".join(parts[start:]) for start in range(len(parts))]
        uploaded = UPLOAD.sub("", parts[-1], count=1) if parts else ""
        if parts and uploaded != parts[-1]:
            ends.append(uploaded)
        for end in ends:
            if (found := self.inside(end)) is not None:
                return found
        if len(ends) == len(parts):
            return None
        # Names are cleaned when they are uploaded.
        alike = self._cleaned.get(_cleaned(uploaded), [])
        if len(alike) > 1:
            raise ValueError(
                f"{source}: image {image!r} may be any of {alike}, whose "
                "names are the same to Label Studio: rename them, or the images there"
            )
        return alike[0] if alike else None

    def hint(self, name: str) -> str:
        """What else a name may mean that no file has; empty if nothing."""
        stem = PurePosixPath(name.replace("\\", "/")).stem.casefold()
        alike = self._by_stem.get(stem)
        return f" (there is {alike[0]})" if alike else ""

    @cached_property
    def _cleaned(self) -> dict[str, list[str]]:
        """The images below the folder by what an upload makes of their names."""
        return self._images_by(lambda path: _cleaned(path.name))

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        """The same by their names without folder, suffix and letter case."""
        return self._images_by(lambda path: path.stem.casefold())

    def _images_by(self, key: Callable[[Path], str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        if self.folder.is_dir():
            for path in image_paths(self.folder):
                relative = Path(os.path.relpath(path, self.root)).as_posix()
                found.setdefault(key(path), []).append(relative)
        return found


def _cleaned(name: str) -> str:
    """What Label Studio makes of the name of a file that is uploaded."""
    composed = unicodedata.normalize("NFC", name).strip().replace(" ", "_")
    return re.sub(r"[^\w.-]", "", composed)
