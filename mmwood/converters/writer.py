"""Files of a data set, each written once and never over something else."""

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmwood.fileio.files import atomic_write, read_json
from mmwood.fileio.labels import DamagedError, read_label_png, save_label_png
from mmwood.fileio.lists import TaggedImage


def find_record(
    root: Path, *names: str, needs: Sequence[str] = (), **expected: object
) -> dict[str, Any] | None:
    """What describes the data set in a folder, or None where the folder is empty.

    Args:
        root: The folder.
        *names: Where the description may be, the first one first.
        needs: Keys that it must have.
        **expected: What tells this data set's from others.

    Raises:
        ValueError: ``root`` is a file, or holds something else; or the description is
            damaged.
    """
    if root.exists() and not root.is_dir():
        raise ValueError(f"out_dir: {root} is a file: name a folder")
    if not root.is_dir() or all(path.name[0] == "." for path in root.iterdir()):
        return None
    for path in (root / name for name in names):
        record = read_json(path) if path.is_file() else None
        if isinstance(record, dict) and expected.items() <= record.items():
            if missing := [key for key in needs if key not in record]:
                raise ValueError(
                    f"out_dir: {path} is damaged, it has no {', '.join(missing)}: name "
                    "another folder"
                )
            return record
    raise ValueError(
        f"out_dir: {root} holds something else (no {names[-1]} of this data set): name "
        "an empty or a new folder"
    )


def write_lines(path: str | os.PathLike, lines: Sequence[str]) -> None:
    """Write a list or a table, one line each, atomically."""
    with atomic_write(path) as temporary:
        temporary.write_bytes("".join(f"{line}\n" for line in lines).encode("utf-8"))


def save_jpeg(image: np.ndarray, path: str | os.PathLike, quality: int) -> None:
    """Write (H, W, 3) uint8 RGB as a JPEG without chroma subsampling, atomically."""
    # To memory first: writing to a file, Pillow does not see that the disk is full.
    jpeg = io.BytesIO()
    Image.fromarray(image).save(jpeg, "JPEG", quality=quality, subsampling=0)
    with atomic_write(path) as temporary:
        temporary.write_bytes(jpeg.getvalue())


def refuse_semicolons(classes: Sequence[str], source: Path) -> None:
    """Refuse class names that ``tags.csv`` could not hold.

    Raises:
        ValueError: A name holds a semicolon.
    """
    for name in classes:
        if ";" in name:
            raise ValueError(
                f"{source}: the class name {name!r} must not hold a semicolon, which "
                "separates the labels of an image"
            )


class Writer:
    """Write label maps, lists, tags and links, atomically.

    A file that is there with the same content is left as it is, and a damaged label
    map is made anew, so that a run that was ended can be started again.

    Args:
        overwrite: Replace a file that holds something else. Otherwise it is an error.

    Attributes:
        counts: How many files were ``written``, ``kept`` and ``replaced``.

    Raises:
        FileExistsError: A file holds something else, and not ``overwrite``.
    """

    def __init__(self, overwrite: bool = False) -> None:
        self.overwrite = overwrite
        self.counts = dict(written=0, kept=0, replaced=0)

    def label(self, path: Path, label: np.ndarray, optimize: bool = False) -> None:
        """Write a label map as a palette PNG. Shape: (H, W) uint8."""
        same = None
        if path.is_file():
            try:
                same = np.array_equal(read_label_png(path), label)
            except DamagedError:
                # As if it were not there.
                pass
            except ValueError:
                same = False
        if not self._is_kept(path, same):
            save_label_png(label, path, optimize=optimize)

    def lines(self, path: Path, lines: Sequence[str]) -> None:
        """Write a list: one line each."""
        self._text(path, "".join(f"{line}\n" for line in lines))

    def tags(
        self, path: Path, items: Sequence[TaggedImage], classes: Sequence[str]
    ) -> None:
        """Write what :func:`mmwood.fileio.tables.read_csv` reads.

        Args:
            path: The CSV file.
            items: Images and their tags.
            classes: Names of the classes; an image's tags stand in their order.

        Raises:
            ValueError: A class name holds a semicolon, which separates them.
        """
        refuse_semicolons(classes, path)
        order = {name: number for number, name in enumerate(classes)}
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["image", "labels"])
        for item in items:
            labels = sorted(item.tags or (), key=order.__getitem__)
            table.writerow([item.image, ";".join(labels)])
        self._text(path, text.getvalue())

    def content(self, path: Path, content: bytes) -> None:
        """Write a file of these bytes."""
        same = path.read_bytes() == content if path.is_file() else None
        if not self._is_kept(path, same):
            with atomic_write(path) as temporary:
                temporary.write_bytes(content)

    def json(self, path: Path, content: object) -> None:
        """Write indented JSON."""
        self._text(path, json.dumps(content, indent=2) + "\n")

    def link(self, path: Path, target: Path) -> None:
        """Write a symbolic link to a file."""
        same = None
        if os.path.lexists(path):
            same = path.is_symlink() and os.readlink(path) == str(target)
        if not self._is_kept(path, same):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.symlink_to(target)

    def _text(self, path: Path, text: str) -> None:
        self.content(path, text.encode("utf-8"))

    def _is_kept(self, path: Path, same: bool | None) -> bool:
        """Count a file; ``same`` is None where there is none."""
        if same is False and not self.overwrite:
            raise FileExistsError(
                f"{path} is there and holds something else: move it away, choose "
                "another folder, or replace such files with --overwrite"
            )
        self.counts[{None: "written", True: "kept", False: "replaced"}[same]] += 1
        return same is True
