"""Multi-label classification data from image tags, with masks only to evaluate."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from mmwood.datasets.transforms.loading import decoding_of
from mmwood.fileio.coco import tags_from_coco
from mmwood.fileio.images import check_readable, check_there, image_size, list_folder
from mmwood.fileio.label_folder import LabelFolder
from mmwood.fileio.labels import tags_from_mask
from mmwood.fileio.lists import (
    TaggedImage,
    bullets,
    check_id,
    name_on_disk,
    read_class_names,
    read_id_list,
    refuse_background,
    refuse_shared_files,
    unknown_classes,
    without_suffix,
)
from mmwood.fileio.tables import read_csv
from mmwood.fileio.voc import tags_from_lists, tags_from_xml
from mmwood.registry import DATASETS
from mmwood.utils.check import one_of
from mmwood.utils.config import without_names
from mmwood.utils.progress import progress

LabelSource = Literal["mask", "voc_xml", "voc_list", "coco", "csv", "none"]
#: What is looked at when a data set is made.
FileCheck = Literal["none", "header", "decode"]


@DATASETS.register_module()
class ImageLevelDataset(BaseDataset):
    """Images with image-level labels, from the format that ``label_source`` names.

    =========== ==================================== ===============================
    label_source ``ann_file``                        the tags come from
    =========== ==================================== ===============================
    'mask'      list of image ids                    ``data_prefix.seg_map_path``
    'voc_xml'   list of image ids                    ``data_prefix.xml_path``
    'voc_list'  ``ImageSets/Main/SPLIT.txt``         ``CLASS_SPLIT.txt`` beside it
    'coco'      COCO annotation JSON                 its annotations
    'csv'       CSV: ``image``, ``labels`` (``;``)   the file itself
    'none'      list of ids; empty: all images       nowhere: images without labels
    =========== ==================================== ===============================

    Masks of ``data_prefix.seg_map_path`` are evaluation data: their paths travel to
    :class:`mmwood.LoadSemanticMask`, and training pipelines do not load them. With
    ``label_source='mask'`` the set of classes in the mask is used, nothing else.

    Every fault that can be seen without decoding pixels is raised before training.

    Args:
        ann_file: See the table; relative to ``data_root``.
        label_source: See the table.
        classes: Class names in the order of the labels, or a file with one a line.
            Only 'coco' can do without: it has names of its own.
        data_prefix: Folders relative to ``data_root``: ``img_path`` always,
            ``seg_map_path`` and ``xml_path`` where there are any.
        img_suffix: Appended to image ids ('mask', 'voc_xml', 'voc_list', and 'none'
            with a list).
        seg_map_suffix: Suffix of the masks.
        use_difficult: Whether objects that VOC marks as difficult count. The
            published image-level labels count them.
        ignore_index: Value of void pixels in masks.
        score_dir: Folder in which :class:`mmwood.PseudoLabelHook` kept score maps of
            these images; each image's file goes to ``score_path``. Not relative to
            ``data_root``.
        score_checkpoint: The classifier that must have made them. None takes any.
        check: What is looked at when the data set is made: 'none', 'header' (each
            file is there, is an image, and fits its mask), or 'decode' (each image
            can be decoded whole; milliseconds an image). A damaged image that no
            check found is an error when it is met.
        pipeline: Transforms, in a list or by names, so that a config changes one field
            of one: ``train_dataloader.dataset.pipeline.label.folder=labels``.
        **kwargs: As in ``mmengine.dataset.BaseDataset``.

    Raises:
        FileNotFoundError: A list, a mask, an image or its score maps are missing.
        ValueError: Anything else is wrong: an unknown class name, an empty list, an
            image listed twice, a mask of another size than its image, ....

    Example:
        >>> dict(type='mmwood.ImageLevelDataset', label_source='csv',
        ...      ann_file='tags.csv', classes=['train', 'boat'],
        ...      data_root='my_images', data_prefix=dict(img_path='jpg'))
    """

    def __init__(
        self,
        ann_file: str = "",
        label_source: LabelSource = "csv",
        classes: str | Sequence[str] | None = None,
        data_root: str = "",
        data_prefix: dict | None = None,
        img_suffix: str = ".jpg",
        seg_map_suffix: str = ".png",
        use_difficult: bool = True,
        ignore_index: int = 255,
        score_dir: str | None = None,
        score_checkpoint: str | None = None,
        check: FileCheck = "header",
        metainfo: dict | None = None,
        pipeline: Sequence | Mapping[str, dict | None] = (),
        **kwargs,
    ) -> None:
        one_of("label_source", label_source, get_args(LabelSource))
        one_of("check", check, get_args(FileCheck))
        self.label_source = label_source
        self.img_suffix = img_suffix
        self.seg_map_suffix = seg_map_suffix
        self.use_difficult = use_difficult
        self.ignore_index = ignore_index
        self.score_dir = score_dir
        self.score_checkpoint = score_checkpoint
        self.check = check
        metainfo = dict(metainfo or {})
        if classes is not None:
            metainfo["classes"] = read_class_names(classes, data_root)
        super().__init__(
            ann_file=ann_file,
            metainfo=metainfo,
            data_root=data_root,
            data_prefix=data_prefix or dict(img_path=""),
            pipeline=without_names(pipeline or (), "pipeline"),
            **kwargs,
        )

    def load_data_list(self) -> list[dict]:
        """Read the annotation, check it and return one dict per image."""
        self._notes: list[str] = []
        items = self._read()
        classes = self._class_names()
        where = self.ann_file or self.data_prefix["img_path"]
        if not items:
            raise ValueError(f"ann_file: {where} lists no image")
        for item in items:
            name = check_id(item.image, item.source)
            folder = self.data_prefix["img_path"]
            item.image = name_on_disk(folder, name, self._image_suffix)
        refuse_shared_files(items, self._image_id)
        data_list = [self._data_info(item) for item in items]
        if self.label_source == "mask":
            self._check_there(items, data_list, "seg_map_path")
        if self.score_dir is not None:
            scores = LabelFolder(self.score_dir, "score_dir")
            scores.require_scores(classes, self.score_checkpoint)
            paths = [info["score_path"] for info in data_list]
            bar = progress(paths, "find score maps", delay=1)
            check_there(items, bar, "score_dir")
        tags_of = self._tag_reader(classes)
        index = {name: number for number, name in enumerate(classes)}
        for item, info in zip(progress(items, "tags", delay=1), data_list):
            tags = tags_of(item)
            if tags is None:
                continue
            if fault := unknown_classes(tags, classes):
                raise ValueError(f"{item.source}: image {item.image!r} has {fault}")
            info["gt_label"] = sorted(index[name] for name in tags)
        if self.check != "none":
            self._check_files(items, data_list)
        if self.label_source == "mask":
            self._refuse_masks_without_class(data_list)
        self._report(where, classes, data_list)
        return data_list

    @property
    def CLASSES(self) -> tuple[str, ...] | None:
        """Names of the classes, where mmpretrain's hooks and tools look for them."""
        return self.metainfo.get("classes")

    def get_cat_ids(self, idx: int) -> list[int]:
        """The classes that image ``idx`` shows."""
        return self.get_data_info(idx)["gt_label"]

    def _read(self) -> list[TaggedImage]:
        if self.label_source == "none" and not self.ann_file:
            folder = self.data_prefix["img_path"]
            return list_folder(folder, "data_prefix.img_path")
        path = Path(self.ann_file)
        if self.label_source == "none" and path.suffix == ".csv":
            raise ValueError(
                f"ann_file: label_source='none' takes a list of image ids, not {path}; "
                "ann_file='' takes all images of data_prefix.img_path"
            )
        if not path.is_file():
            raise FileNotFoundError(f"ann_file: there is no file {path}")
        if self.label_source == "coco":
            items, names = tags_from_coco(path)
            self._metainfo.setdefault("classes", names)
            return items
        if self.label_source == "csv":
            return read_csv(path, self._notes)
        return read_id_list(path)

    def _class_names(self) -> tuple[str, ...]:
        names = tuple(self._metainfo.get("classes", ()))
        if not names:
            raise ValueError(
                "classes: name the classes in the order of their labels, as a list or "
                "as a file with one a line"
            )
        names = read_class_names(names)
        refuse_background(names)
        return names

    def _tag_reader(
        self, classes: tuple[str, ...]
    ) -> Callable[[TaggedImage], set[str] | None]:
        """A function from an item of the annotation to its class names."""
        if self.label_source == "mask":
            return lambda item: tags_from_mask(
                self._path(item, "seg_map_path", self.seg_map_suffix),
                classes,
                self.ignore_index,
            )
        if self.label_source == "voc_list":
            return tags_from_lists(Path(self.ann_file), classes, self.use_difficult)
        if self.label_source == "voc_xml":
            return self._tags_from_xml
        return lambda item: item.tags

    def _tags_from_xml(self, item: TaggedImage) -> set[str]:
        try:
            return tags_from_xml(
                self._path(item, "xml_path", ".xml"), self.use_difficult
            )
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{item.source}: {error} (data_prefix.xml_path)"
            ) from error

    @property
    def _has_suffix(self) -> bool:
        """Whether the annotation calls images by file names instead of ids."""
        return self.label_source in ("coco", "csv") or not self.ann_file

    @property
    def _image_suffix(self) -> str:
        return "" if self._has_suffix else self.img_suffix

    def _image_id(self, item: TaggedImage) -> str:
        """The name of the image's label files: its path without the suffix."""
        return without_suffix(item.image) if self._has_suffix else item.image

    def _path(self, item: TaggedImage, prefix: str, suffix: str) -> Path:
        folder = self.data_prefix.get(prefix)
        if folder is None:
            raise ValueError(
                f"data_prefix.{prefix}: label_source={self.label_source!r} needs it"
            )
        return Path(folder, name_on_disk(folder, self._image_id(item), suffix) + suffix)

    def _data_info(self, item: TaggedImage) -> dict:
        folder, name = self.data_prefix["img_path"], item.image + self._image_suffix
        info = dict(img_path=str(Path(folder, name)), img_id=self._image_id(item))
        if "seg_map_path" in self.data_prefix or self.label_source == "mask":
            path = self._path(item, "seg_map_path", self.seg_map_suffix)
            info["seg_map_path"] = str(path)
        if self.score_dir is not None:
            scores = LabelFolder(self.score_dir, "score_dir")
            info["score_path"] = str(scores.scores(info["img_id"]))
        return info

    def _refuse_masks_without_class(self, data_list: list[dict]) -> None:
        if any(info["gt_label"] for info in data_list):
            return
        raise ValueError(
            f"data_prefix.seg_map_path: none of {len(data_list)} masks shows a class. "
            f"Label 0 is background, c + 1 is class c, {self.ignore_index} is void: "
            "masks of 0 and 255, as paint programs write them, need 1 in place of 255"
        )

    def _check_there(
        self, items: list[TaggedImage], data_list: list[dict], key: str
    ) -> None:
        paths = [info[key] for info in data_list]
        bar = progress(paths, "find files", delay=1)
        check_there(items, bar, f"data_prefix.{key}")

    def _check_files(self, items: list[TaggedImage], data_list: list[dict]) -> None:
        self._check_there(items, data_list, "img_path")
        if "seg_map_path" in self.data_prefix and self.label_source != "mask":
            self._check_there(items, data_list, "seg_map_path")
        images = [info["img_path"] for info in data_list]
        bar = progress(images, "read images", delay=1)
        decoding = decoding_of(self)
        sizes = check_readable(items, bar, self.check == "decode", decoding)
        if "seg_map_path" not in data_list[0]:
            return
        masks = [info["seg_map_path"] for info in data_list]
        misfits = [
            f"{item.source}: mask {mask} has (W, H) = {found}, its image {size}"
            for item, mask, size in zip(items, masks, sizes)
            if (found := image_size(mask)) != size
        ]
        if misfits:
            raise ValueError(
                f"data_prefix.seg_map_path: {len(misfits)} of {len(items)} masks do "
                "not have their image's size:" + bullets(misfits)
            )

    def _report(self, where: str, classes: tuple, data_list: list[dict]) -> None:
        if self.label_source == "none":
            return
        shown = {label for info in data_list for label in info["gt_label"]}
        empty = [name for label, name in enumerate(classes) if label not in shown]
        untagged = sum(not info["gt_label"] for info in data_list)
        message = f"{where}: {len(data_list)} images, {len(classes)} classes"
        if untagged:
            message += f"; images that show no class: {untagged}"
        if empty:
            message += f"; classes that no image shows: {', '.join(empty)}"
        for note in (*self._notes, message):
            print_log(note, logger="current")
