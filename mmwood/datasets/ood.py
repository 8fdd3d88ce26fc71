"""Out-of-distribution images, and their mixture with labelled ones."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from pathlib import Path, PurePosixPath

from mmengine.dataset import BaseDataset, Compose, ConcatDataset
from mmengine.logging import print_log
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from torch.utils.data import Dataset

from mmwood.datasets.image_level import ImageLevelDataset
from mmwood.fileio.candidates import STATES, read_manifest
from mmwood.fileio.files import file_sha256, text_sha256
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
from mmwood.registry import DATASETS
from mmwood.utils.config import leaf_datasets
from mmwood.utils.progress import progress

__all__ = ["OoDDataset", "OoDMixDataset"]


@DATASETS.register_module()
class OoDDataset(BaseDataset):
    """Images that show no class: from a manifest, a list or a folder.

    An image of a manifest enters once, when the state of one of its rows is among
    ``states``; an image that any row rejects stays out, unless 'rejected' is among
    ``states``. Its ``ood_class`` is the class of the most probable of the rows that
    let it in.

    A smaller sample is part of every larger one of the same seed, and which images it
    has does not depend on the order of the list.

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
        seed: Seed of the sample.
        check: 'none', 'header' or 'decode', as in :class:`mmwood.ImageLevelDataset`.
        **kwargs: As in ``mmengine.dataset.BaseDataset``.

    Raises:
        FileNotFoundError: The list, the folder or an image is missing.
        ValueError: A field has no such value; an unknown class; no image, or fewer
            than are asked for; an image listed twice or unreadable; a review of the
            manifest made decisions that it does not hold yet.

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
        states: Sequence[str] = ("kept",),
        classes: str | Sequence[str] | None = None,
        num_images: int | None = None,
        num_per_class: int | None = None,
        seed: int = 0,
        check: str = "header",
        metainfo: dict | None = None,
        **kwargs,
    ) -> None:
        if isinstance(states, str) or not states or set(states) - set(STATES):
            raise ValueError(f"states must be a list of {STATES}, got {states!r}")
        if check not in ImageLevelDataset.CHECKS:
            raise ValueError(
                f"check must be one of {ImageLevelDataset.CHECKS}, got {check!r}"
            )
        sizes = dict(num_images=num_images, num_per_class=num_per_class)
        for name, value in sizes.items():
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if None not in sizes.values():
            raise ValueError("set num_images or num_per_class, not both")
        if num_per_class is not None and not ann_file.endswith(".csv"):
            raise ValueError(
                "num_per_class needs the classes of a manifest (.csv) as ann_file, "
                f"got {ann_file!r}"
            )
        self.states = tuple(states)
        self.num_images = num_images
        self.num_per_class = num_per_class
        self.seed = seed
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
        items = self._sample(items)
        paths = [str(Path(self.data_prefix["img_path"], i.image)) for i in items]
        if self.check != "none":
            check_there(items, paths, "data_prefix.img_path", _bar("find images"))
            decode = self.check == "decode"
            check_readable(items, paths, decode, _bar("read images"))
        self._report(items, classes)
        return [
            dict(
                img_path=path,
                img_id=_image_id(item),
                gt_label=[],
                ood_class=classes.index(_class_of(item))
                if classes and item.tags
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
        _refuse_open_decisions(path)
        best: dict[str, tuple[float, TaggedImage]] = {}
        rejected = set()
        counts = dict.fromkeys(STATES, 0)
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
        if not items:
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

    def _sample(self, items: list[TaggedImage]) -> list[TaggedImage]:
        number = self.num_images or self.num_per_class
        if number is None:
            return items
        groups: dict[str, list[TaggedImage]] = {}
        # An image's place is its own: it does not change with the rest of the list.
        for item in sorted(items, key=lambda i: text_sha256(f"{self.seed}:{i.image}")):
            name = "" if self.num_images else _class_of(item)
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
        message = f"{where}: {len(items)} OoD images"
        counts = Counter(_class_of(item) for item in items if item.tags)
        if counts:
            message += "; taken for " + ", ".join(
                f"{name}: {count}" for name, count in counts.most_common()
            )
            empty = [name for name in classes or () if name not in counts]
            if empty:
                message += f"; classes that none is taken for: {', '.join(empty)}"
        print_log(message, logger="current")


@DATASETS.register_module()
class OoDMixDataset(ConcatDataset):
    """In-distribution images, then OoD images.

    Every data sample says with ``is_ood`` what it is: pipelines need no change.
    :class:`mmwood.OoDRatioSampler` makes batches of both kinds.

    Args:
        in_distribution: The labelled data set, or its config. The mixture has its
            metainfo.
        ood: The OoD data set, or its config.
        pipeline: Transforms of both, in place of their own.
        lazy_init: As in ``mmengine.dataset.ConcatDataset``.

    Attributes:
        num_in: Number of in-distribution images: indices from it are OoD.

    Raises:
        ValueError: The manifest of the OoD images names a class that the
            in-distribution images lack; an OoD image is a copy of an in-distribution
            one; a pipeline does not end with ``PackInputs`` (at the first image).

    Example:
        >>> dict(type='mmwood.OoDMixDataset',
        ...      in_distribution=dict(type='mmwood.ImageLevelDataset', ...),
        ...      ood=dict(type='mmwood.OoDDataset', ann_file='data/ood/ood.csv'),
        ...      pipeline=train_pipeline)
    """

    def __init__(
        self,
        in_distribution: dict | BaseDataset,
        ood: dict | BaseDataset,
        pipeline: list | None = None,
        lazy_init: bool = False,
    ) -> None:
        # ConcatDataset wants equal metainfo, which OoD images do not have.
        super().__init__([in_distribution], lazy_init=True)
        self.datasets.append(
            MMENGINE_DATASETS.build(ood) if isinstance(ood, dict) else ood
        )
        if pipeline is not None:
            for part in self.datasets:
                for dataset in leaf_datasets(part):
                    dataset.pipeline = Compose(pipeline)
        if not lazy_init:
            self.full_init()

    @property
    def CLASSES(self) -> tuple[str, ...] | None:
        """Names of the classes, where mmpretrain's hooks and tools look for them."""
        return self.metainfo.get("classes")

    @property
    def in_distribution(self) -> Dataset:
        """The labelled images."""
        return self.datasets[0]

    @property
    def ood(self) -> Dataset:
        """The OoD images."""
        return self.datasets[1]

    @property
    def num_in(self) -> int:
        """Number of in-distribution images."""
        return len(self.in_distribution)

    def full_init(self) -> None:
        """Initialise both parts and compare them."""
        if self._fully_initialized:
            return
        super().full_init()
        self._check_classes()
        self._refuse_copies()

    def __getitem__(self, idx: int) -> dict:
        """The image's packed data, with ``data_samples.is_ood`` (bool)."""
        data = super().__getitem__(idx)
        part, _ = self._get_ori_dataset_idx(idx)
        if "data_samples" not in data:
            name = ("in_distribution", "ood")[part]
            raise ValueError(
                f"dataset.{name}.pipeline must end with PackInputs, which makes the "
                f"data_samples; it gives {sorted(data)}"
            )
        data["data_samples"].set_field(part == 1, "is_ood")
        return data

    def _check_classes(self) -> None:
        classes = self.metainfo.get("classes")
        if classes is None:
            return
        for dataset in leaf_datasets(self.ood):
            if isinstance(dataset, OoDDataset):
                dataset.check_classes(classes)
                own = dataset.metainfo.get("classes")
                if own is not None and tuple(own) != tuple(classes):
                    raise ValueError(
                        f"dataset.ood.classes are {list(own)}, those of the "
                        f"in-distribution images {list(classes)}: leave them out or "
                        "make them equal"
                    )

    def _refuse_copies(self) -> None:
        """Files of equal size are compared by hash, others need not be read."""
        by_size: dict[int, list[str]] = {}
        for path in _image_paths(self.in_distribution):
            by_size.setdefault(os.stat(path).st_size, []).append(path)
        digest = cache(file_sha256)
        copies = [
            f"{path} is {other}"
            for path in progress(_image_paths(self.ood), "find copies", delay=1)
            for other in by_size.get(os.stat(path).st_size, ())
            if digest(path) == digest(other)
        ]
        if copies:
            raise ValueError(
                f"dataset.ood: {len(copies)} OoD images are copies of in-distribution "
                "ones; take them out of one of the two lists:" + bullets(copies)
            )


def _refuse_open_decisions(manifest: Path) -> None:
    """A review's journal holds what is not in the manifest yet."""
    # It needs fcntl, which the rest of this package can do without.
    from mmwood.fileio.journal import journal_path

    journal = journal_path(manifest)
    if not journal.is_file():
        return
    with journal.open("rb") as file:
        # The other lines say who opened the file.
        count = sum(not line.startswith(b'{"format"') for line in file)
    if count:
        raise ValueError(
            f"ann_file: {manifest} lacks {count} decisions of its review, which are in "
            f"{journal}: finish the review; if it was cut off, bring them in with "
            f"`python tools/review_ood.py {manifest}`"
        )


def _image_id(item: TaggedImage) -> str | None:
    try:
        return without_suffix(check_id(item.image, item.source))
    except ValueError:
        return None


def _bar(label: str) -> Callable[[Sequence], Iterable]:
    return partial(progress, label=label, delay=1)


def _class_of(item: TaggedImage) -> str:
    """The class that an image of a manifest is taken for."""
    (name,) = item.tags
    return name


def _image_paths(dataset: Dataset) -> list[str]:
    """The files of a data set; one that repeats images names each once."""
    infos = (dataset.get_data_info(index) for index in range(len(dataset)))
    return list(dict.fromkeys(info["img_path"] for info in infos))
