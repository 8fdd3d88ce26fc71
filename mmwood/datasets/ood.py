"""Out-of-distribution images: a manifest, a list or a folder."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from mmwood.datasets.image_level import FileCheck
from mmwood.datasets.transforms.loading import decoding_of
from mmwood.fileio.candidates import STATES, State, read_manifest
from mmwood.fileio.files import text_sha256
from mmwood.fileio.images import check_readable, check_there, list_folder
from mmwood.fileio.lists import (
    TaggedImage,
    bullets,
    check_id,
    read_class_names,
    read_id_list,
    refuse_shared_files,
    without_suffix,
)
from mmwood.fileio.mask_review import refuse_mask_review
from mmwood.registry import DATASETS
from mmwood.utils.check import at_least, one_of
from mmwood.utils.locations import tool_command
from mmwood.utils.progress import progress

#: Which images: those that are kept out of a training, or the others.
Part = Literal["train", "held-out"]


@DATASETS.register_module()
class OoDDataset(BaseDataset):
    """Images that show no class: from a manifest, a list or a folder.

    An image of a manifest enters once, when the state of one of its rows is among
    ``states``; an image that any row rejects stays out, unless 'rejected' is among
    ``states``. Its ``ood_class`` is the class of the most probable of the rows that
    let it in.

    A smaller sample is part of every larger one of the same random seed, and which
    images it has does not depend on the order of the list. Nor does the part that an
    image is in: it follows from a hash of its file's name without folders and suffix,
    so that it is the same in every list that names the file, whatever else is in it.

    Args:
        ann_file: A manifest (``.csv``, see :mod:`mmwood.fileio.candidates`), or any
            other file: a list of images, one path a line; empty: all images below
            ``data_prefix.img_path``. Relative to ``data_root``.
        data_root: As in ``mmengine.dataset.BaseDataset``.
        data_prefix: ``img_path``: folder that relative paths start from, relative to
            ``data_root``.
        states: Which rows of a manifest count, of 'unseen', 'kept', 'rejected'.
        classes: Class names in the order of the labels, or a file with one a line.
            :class:`mmwood.OoDMixDataset` compares the manifest's classes with those of
            the in-distribution images also without.
        num_images: Take a sample of so many images.
        num_per_class: Take a sample of so many images of each ``ood_class`` that there
            is; needs a manifest.
        seed: Random seed of the sample.
        part: 'held-out' takes the fraction ``held_out`` of the images, 'train' the
            others, before any sample is taken; None takes all.
        held_out: The expected fraction. The images of a smaller one are among those
            of a larger one. Both parts must state the same.
        may_be_empty: Whether a manifest may give no image, as one of several sources
            of OoD images in a ``ConcatDataset``.
        check: 'none', 'header' or 'decode', as in :class:`mmwood.ImageLevelDataset`.
        **kwargs: As in ``mmengine.dataset.BaseDataset``.

    Raises:
        FileNotFoundError: The list, the folder or an image is missing.
        ValueError: ``states``, ``part``, ``check`` or a number has no such value; an
            unknown class; no image, or fewer than are asked for; an image listed twice
            or unreadable; a review of the manifest made decisions that it does not
            hold yet.

    Data info:
        - img_path (str): the path
        - img_id (str or None): the listed name without suffix; None where it is
          absolute or leads out of the folder, so that no file can be named after it
        - gt_label (list): empty
        - ood_class (int or None): None without a manifest or without ``classes``

    Example:
        >>> dict(type='mmwood.OoDDataset', ann_file='data/ood/ood.csv',
        ...      pipeline=train_pipeline)
    """

    def __init__(
        self,
        ann_file: str = "",
        data_root: str = "",
        data_prefix: dict | None = None,
        states: Sequence[State] = ("kept",),
        classes: str | Sequence[str] | None = None,
        num_images: int | None = None,
        num_per_class: int | None = None,
        seed: int = 0,
        part: Part | None = None,
        held_out: float = 0.2,
        may_be_empty: bool = False,
        check: FileCheck = "header",
        metainfo: dict | None = None,
        **kwargs,
    ) -> None:
        if isinstance(states, str) or not states or set(states) - set(STATES):
            raise ValueError(
                f"mmwood.OoDDataset: states must be a list of {STATES}, got {states!r}"
            )
        one_of("mmwood.OoDDataset: check", check, get_args(FileCheck))
        one_of("mmwood.OoDDataset: part", part, (None, *get_args(Part)))
        at_least("mmwood.OoDDataset: held_out", held_out, 0, below=1)
        sizes = dict(num_images=num_images, num_per_class=num_per_class)
        for name, value in sizes.items():
            if value is not None:
                at_least(f"mmwood.OoDDataset: {name}", value, 1)
        if None not in sizes.values():
            raise ValueError(
                "mmwood.OoDDataset: set num_images or num_per_class, not both"
            )
        if num_per_class is not None and not ann_file.endswith(".csv"):
            raise ValueError(
                "mmwood.OoDDataset: num_per_class needs the classes of a manifest "
                f"(.csv) as ann_file, got {ann_file!r}"
            )
        self.states = tuple(states)
        self.num_images = num_images
        self.num_per_class = num_per_class
        self.seed = seed
        self.part = part
        self.held_out = held_out
        self.may_be_empty = may_be_empty
        self.check = check
        #: Where the manifest first names each class, as ``file:line``.
        self.class_sources: dict[str, str] = {}
        metainfo = dict(metainfo or {})
        if classes is not None:
            metainfo["classes"] = read_class_names(classes, data_root)
        super().__init__(
            ann_file=ann_file,
            metainfo=metainfo,
            data_root=data_root,
            data_prefix=data_prefix or dict(img_path=""),
            **kwargs,
        )

    def load_data_list(self) -> list[dict]:
        """Read the list, take the sample, check its files; one dict per image."""
        items = self._read()
        classes = self.metainfo.get("classes")
        if classes is not None:
            self.check_classes(classes)
        items = self._sample(self._take_part(items))
        if not items:
            # mmengine cannot serialise nothing.
            self.serialize_data = False
        paths = [str(Path(self.data_prefix["img_path"], i.image)) for i in items]
        if self.check != "none":
            bar = progress(paths, "find images", delay=1)
            check_there(items, bar, "data_prefix.img_path")
            bar = progress(paths, "read images", delay=1)
            decoding = decoding_of(self)
            check_readable(items, bar, self.check == "decode", decoding)
        self._report(items, classes)
        return [
            dict(
                img_path=path,
                img_id=_image_id(item),
                gt_label=[],
                ood_class=classes.index(name)
                if classes and (name := _class_of(item))
                else None,
            )
            for item, path in zip(items, paths)
        ]

    def check_classes(self, classes: Sequence[str]) -> None:
        """Refuse a manifest that names other classes than these.

        Raises:
            ValueError: It does; the message names the line.
        """
        unknown = [
            f"{source}: {name!r}"
            for name, source in self.class_sources.items()
            if name not in classes
        ]
        if unknown:
            raise ValueError(
                f"the manifest has unknown classes; the data set's classes are "
                f"{list(classes)}:" + bullets(unknown)
            )

    def _read(self) -> list[TaggedImage]:
        if not self.ann_file:
            folder = self.data_prefix["img_path"]
            return list_folder(folder, "data_prefix.img_path")
        path = Path(self.ann_file)
        if not path.is_file():
            raise FileNotFoundError(f"ann_file: there is no file {path}")
        if path.suffix == ".csv":
            return self._read_manifest(path)
        items = read_id_list(path)
        if not items:
            raise ValueError(f"ann_file: {path} lists no image")
        for item in items:
            # As programs on Windows write it.
            item.image = item.image.replace("\\", "/")
        refuse_shared_files(items, lambda item: str(PurePosixPath(item.image)))
        return items

    def _read_manifest(self, path: Path) -> list[TaggedImage]:
        refuse_mask_review(path, "ann_file")
        # It needs fcntl, which the rest of this package can do without.
        from mmwood.fileio.journal import refuse_open_decisions

        command = tool_command("review_ood.py", [str(path)])
        refuse_open_decisions(path, "ann_file", f"bring them in with `{command}`")
        best: dict[str, tuple[float, TaggedImage]] = {}
        rejected = set()
        counts: dict[str, int] = dict.fromkeys(STATES, 0)
        for line, row in read_manifest(path):
            source = f"{path}:{line}"
            image = str(Path(row.image))
            self.class_sources.setdefault(row.class_name, source)
            counts[row.state] += 1
            if row.state == "rejected":
                rejected.add(image)
            if row.state in self.states and (
                image not in best or row.probability > best[image][0]
            ):
                item = TaggedImage(image, {row.class_name}, source)
                best[image] = (row.probability, item)
        if "rejected" in self.states:
            rejected = set()
        items = [item for _, item in best.values() if item.image not in rejected]
        if not items and not self.may_be_empty:
            raise ValueError(self._explain_empty(path, counts))
        return items

    def _explain_empty(self, path: Path, counts: dict[str, int]) -> str:
        found = sum(counts[state] for state in self.states)
        others = [
            f"{count} {state}"
            for state, count in counts.items()
            if state not in self.states and count
        ]
        message = (
            f"ann_file: {path} gives no image: {found} of {sum(counts.values())} rows "
            f"are {' or '.join(self.states)}"
        )
        if others:
            message += f", {', '.join(others)}"
        if found:
            message += "; each of their images is rejected by another row"
        if counts["unseen"] and "unseen" not in self.states:
            message += ": review them, or set states=('unseen', 'kept')"
        return message

    def _take_part(self, items: list[TaggedImage]) -> list[TaggedImage]:
        if self.part is None:
            return items
        wanted = self.part == "held-out"
        chosen = [i for i in items if _is_held_out(i.image, self.held_out) == wanted]
        if items and not chosen and not self.may_be_empty:
            raise ValueError(
                f"part: of {len(items)} images of {self.ann_file or 'the folder'} none "
                f"is in the part {self.part!r} with held_out={self.held_out}"
            )
        return chosen

    def _sample(self, items: list[TaggedImage]) -> list[TaggedImage]:
        number = self.num_images or self.num_per_class
        if number is None:
            return items
        groups: dict[str | None, list[TaggedImage]] = {}
        # An image's place is its own: it does not change with the rest of the list.
        for item in sorted(items, key=lambda i: text_sha256(f"{self.seed}:{i.image}")):
            name = None if self.num_images else _class_of(item)
            groups.setdefault(name, []).append(item)
        short = [
            f"{len(group)} images" + (f" of class {name!r}" if name else "")
            for name, group in groups.items()
            if len(group) < number
        ]
        if short:
            field = "num_images" if self.num_images else "num_per_class"
            raise ValueError(
                f"{field}: {number} are asked for, but {self.ann_file or 'the folder'} "
                f"gives {', '.join(short)}"
            )
        chosen = {item.image for group in groups.values() for item in group[:number]}
        return [item for item in items if item.image in chosen]

    def _report(self, items: list[TaggedImage], classes: Sequence[str] | None) -> None:
        where = self.ann_file or self.data_prefix["img_path"]
        part = "" if self.part is None else f", the part {self.part!r}"
        message = f"{where}: {len(items)} OoD images{part}"
        counts = Counter(name for item in items if (name := _class_of(item)))
        if counts:
            message += "; taken for " + ", ".join(
                f"{name}: {count}" for name, count in counts.most_common()
            )
            empty = [name for name in classes or () if name not in counts]
            if empty:
                message += f"; classes that none is taken for: {', '.join(empty)}"
        print_log(message, logger="current")


def _image_id(item: TaggedImage) -> str | None:
    try:
        return without_suffix(check_id(item.image, item.source))
    except ValueError:
        return None


def _is_held_out(image: str, fraction: float) -> bool:
    # Of Windows, too.
    name = PurePosixPath(image.replace("\\", "/")).stem
    return int(text_sha256(f"held-out:{name}")[:13], 16) < fraction * 16**13


def _class_of(item: TaggedImage) -> str | None:
    """The class that an image of a manifest is taken for; None without a manifest."""
    return next(iter(item.tags or ()), None)
