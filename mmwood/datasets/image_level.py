"""Multi-label classification data from image tags, with masks only to evaluate."""

from collections.abc import Sequence
from pathlib import Path

from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from PIL import Image

from mmwood.fileio import lists as formats
from mmwood.fileio.label_folder import read_score_manifest, score_path
from mmwood.fileio.lists import Tagged
from mmwood.progress import progress
from mmwood.registry import DATASETS

__all__ = ["ImageLevelDataset"]

#: How many of a kind of fault an error message names.
NAMED_FAULTS = 10


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

    LABEL_SOURCES = ("mask", "voc_xml", "voc_list", "coco", "csv", "none")
    CHECKS = ("none", "header", "decode")
    IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")

    def __init__(
        self,
        ann_file: str = "",
        label_source: str = "csv",
        classes: str | Sequence[str] | None = None,
        data_root: str = "",
        data_prefix: dict | None = None,
        img_suffix: str = ".jpg",
        seg_map_suffix: str = ".png",
        use_difficult: bool = True,
        ignore_index: int = 255,
        score_dir: str | None = None,
        score_checkpoint: str | None = None,
        check: str = "header",
        metainfo: dict | None = None,
        **kwargs,
    ) -> None:
        if label_source not in self.LABEL_SOURCES:
            raise ValueError(
                f"label_source must be one of {self.LABEL_SOURCES}, "
                f"got {label_source!r}"
            )
        if check not in self.CHECKS:
            raise ValueError(f"check must be one of {self.CHECKS}, got {check!r}")
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
            **kwargs,
        )

    def load_data_list(self) -> list[dict]:
        """Read the annotation, check it and return one dict per image."""
        items = self._read()
        classes = self._class_names()
        where = self.ann_file or self.data_prefix["img_path"]
        if not items:
            raise ValueError(f"ann_file: {where} lists no image")
        self._refuse_duplicates(items)
        data_list = [self._data_info(item) for item in items]
        if self.label_source == "mask":
            self._check_there(items, data_list, "seg_map_path")
        if self.score_dir is not None:
            read_score_manifest(self.score_dir, classes, self.score_checkpoint)
            paths = [info["score_path"] for info in data_list]
            check_there(items, paths, "score_dir")
        tags_of = self._tag_reader(classes)
        index = {name: number for number, name in enumerate(classes)}
        pairs = zip(items, data_list)
        for item, info in progress(pairs, "tags", total=len(items), delay=1):
            if self.label_source == "none":
                continue
            tags = tags_of(item)
            unknown = sorted(tags - set(index))
            if unknown:
                raise ValueError(
                    f"{item.source}: image {item.image!r} has the unknown class "
                    f"{unknown}; the data set's classes are {list(classes)}"
                )
            info["gt_label"] = sorted(index[name] for name in tags)
        if self.check != "none":
            self._check_files(items, data_list)
        self._report(where, classes, data_list)
        return data_list

    def get_cat_ids(self, idx: int) -> list[int]:
        """The classes that image ``idx`` shows."""
        return self.get_data_info(idx)["gt_label"]

    def _read(self) -> list[Tagged]:
        if self.label_source == "none" and not self.ann_file:
            return list_folder(self.data_prefix["img_path"], self.IMAGE_SUFFIXES)
        path = Path(self.ann_file)
        if not path.is_file():
            raise FileNotFoundError(f"ann_file: there is no file {path}")
        if self.label_source == "coco":
            return formats.read_coco(path)
        if self.label_source == "csv":
            return formats.read_csv(path)
        return formats.read_id_list(path)

    def _class_names(self) -> tuple[str, ...]:
        if self.label_source == "coco":
            self._metainfo.setdefault(
                "classes", formats.coco_class_names(Path(self.ann_file))
            )
        names = tuple(self._metainfo.get("classes", ()))
        if not names:
            raise ValueError(
                "classes: name the classes in the order of their labels, as a list or "
                "as a file with one a line"
            )
        return read_class_names(names)

    def _tag_reader(self, classes: tuple[str, ...]):
        """A function from an item of the annotation to its class names."""
        if self.label_source == "mask":
            return lambda item: formats.tags_from_mask(
                self._path(item, "seg_map_path"), classes, self.ignore_index
            )
        if self.label_source == "voc_list":
            return formats.tags_from_lists(
                Path(self.ann_file), classes, self.use_difficult
            )
        if self.label_source == "voc_xml":

            def read(item: Tagged) -> set[str]:
                path = self._path(item, "xml_path")
                if not path.is_file():
                    raise FileNotFoundError(
                        f"{item.source}: there is no annotation {path} "
                        "(data_prefix.xml_path)"
                    )
                return formats.tags_from_xml(path, self.use_difficult)

            return read
        return lambda item: item.tags

    def _has_suffix(self) -> bool:
        """Whether the annotation calls images by file names instead of ids."""
        return self.label_source in ("coco", "csv") or not self.ann_file

    def _image_id(self, item: Tagged) -> str:
        """The name of the image's label files: its path without the suffix."""
        image = Path(item.image)
        return str(image.with_suffix("") if self._has_suffix() else image)

    def _path(self, item: Tagged, prefix: str) -> Path:
        folder = self.data_prefix.get(prefix)
        if folder is None:
            raise ValueError(
                f"data_prefix.{prefix}: label_source={self.label_source!r} needs it"
            )
        suffix = {"seg_map_path": self.seg_map_suffix, "xml_path": ".xml"}[prefix]
        return Path(folder, self._image_id(item) + suffix)

    def _data_info(self, item: Tagged) -> dict:
        suffix = "" if self._has_suffix() else self.img_suffix
        info = dict(
            img_path=str(Path(self.data_prefix["img_path"], item.image + suffix)),
            img_id=self._image_id(item),
        )
        if "seg_map_path" in self.data_prefix or self.label_source == "mask":
            info["seg_map_path"] = str(self._path(item, "seg_map_path"))
        if self.score_dir is not None:
            info["score_path"] = str(score_path(self.score_dir, info["img_id"]))
        return info

    def _refuse_duplicates(self, items: list[Tagged]) -> None:
        # Two images whose names differ only in their suffix would share one label
        # file.
        first: dict[str, Tagged] = {}
        for item in items:
            other = first.setdefault(self._image_id(item), item)
            if other is not item:
                raise ValueError(
                    f"{item.source}: image {item.image!r} was listed before, as "
                    f"{other.image!r} at {other.source}"
                )

    def _check_there(
        self, items: list[Tagged], data_list: list[dict], key: str
    ) -> None:
        check_there(items, [info[key] for info in data_list], f"data_prefix.{key}")

    def _check_files(self, items: list[Tagged], data_list: list[dict]) -> None:
        self._check_there(items, data_list, "img_path")
        if "seg_map_path" in self.data_prefix and self.label_source != "mask":
            self._check_there(items, data_list, "seg_map_path")
        images = [info["img_path"] for info in data_list]
        sizes = check_readable(items, images, decode=self.check == "decode")
        misfits = []
        for item, info, size in zip(items, data_list, sizes):
            if "seg_map_path" in info:
                mask_size = _image_size(info["seg_map_path"])
                if mask_size != size:
                    misfits.append(
                        f"{item.source}: mask {info['seg_map_path']} has (W, H) = "
                        f"{mask_size}, its image {size}"
                    )
        if misfits:
            raise ValueError(
                f"data_prefix.seg_map_path: {len(misfits)} of {len(items)} masks do "
                "not have their image's size:" + bullets(misfits)
            )

    def _report(self, where: str, classes: tuple, data_list: list[dict]) -> None:
        if self.label_source == "none":
            return
        counts = [0] * len(classes)
        for info in data_list:
            for label in info["gt_label"]:
                counts[label] += 1
        empty = [name for name, count in zip(classes, counts) if not count]
        untagged = sum(not info["gt_label"] for info in data_list)
        message = f"{where}: {len(data_list)} images, {len(classes)} classes"
        if untagged:
            message += f"; images that show no class: {untagged}"
        if empty:
            message += f"; classes that no image shows: {', '.join(empty)}"
        print_log(message, logger="current")


def read_class_names(
    classes: str | Sequence[str], data_root: str = "", field: str = "classes"
) -> tuple[str, ...]:
    """Class names from a list, or from a file below ``data_root`` with one a line.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A name occurs twice.
    """
    if isinstance(classes, str):
        path = Path(data_root, classes)
        if not path.is_file():
            raise FileNotFoundError(f"{field}: there is no file {path}")
        classes = [item.image for item in formats.read_id_list(path)]
    if len(set(classes)) != len(classes):
        raise ValueError(f"{field}: a name occurs twice in {list(classes)}")
    return tuple(classes)


def list_folder(folder: str | Path, suffixes: Sequence[str]) -> list[Tagged]:
    """All images below a folder, in sorted order, named from it.

    Raises:
        FileNotFoundError: There is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"data_prefix.img_path: there is no folder {folder}")
    return [
        Tagged(str(path.relative_to(folder)), None, str(path))
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in suffixes
    ]


def check_there(items: Sequence[Tagged], paths: Sequence[str], field: str) -> None:
    """Refuse files that do not exist, with the lines that name them.

    Raises:
        FileNotFoundError: One is missing.
    """
    faults = [
        f"{item.source}: {path}"
        for item, path in progress(
            zip(items, paths), f"find {field}", total=len(items), delay=1
        )
        if not Path(path).is_file()
    ]
    if faults:
        raise FileNotFoundError(
            f"{field}: {len(faults)} of {len(items)} files do not exist:"
            + bullets(faults)
        )


def check_readable(
    items: Sequence[Tagged], paths: Sequence[str], decode: bool
) -> list[tuple[int, int]]:
    """The images' sizes (W, H), from their headers or from decoding them whole.

    Raises:
        ValueError: One is not an image or, with ``decode``, damaged.
    """
    sizes, faults = [], []
    pairs = zip(items, paths)
    for item, path in progress(pairs, "read images", total=len(items), delay=1):
        try:
            sizes.append(_image_size(path, decode))
        except (OSError, SyntaxError) as error:
            faults.append(f"{item.source}: {path}: {error}")
    if faults:
        raise ValueError(
            f"{len(faults)} of {len(items)} images cannot be read:" + bullets(faults)
        )
    return sizes


def bullets(faults: Sequence[str]) -> str:
    """The first faults, one a line, and how many more there are."""
    more = len(faults) - NAMED_FAULTS
    lines = [*faults[:NAMED_FAULTS], *([f"... and {more} more"] if more > 0 else [])]
    return "".join(f"\n  {line}" for line in lines)


def _image_size(path: str, decode: bool = False) -> tuple[int, int]:
    """(W, H) as seen after the camera's orientation is applied."""
    with Image.open(path) as image:
        if decode:
            image.load()
        # EXIF orientations 5 to 8 swap the sides.
        turned = image.getexif().get(0x0112, 1) >= 5
        return image.size[::-1] if turned else image.size
