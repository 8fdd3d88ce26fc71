"""Instance maps from COCO and LVIS annotations, for metrics."""

from collections.abc import Sequence
from itertools import chain

import numpy as np

from mmwood.fileio.coco import image_name, layered_masks, read_coco, run_lengths
from mmwood.fileio.lists import ImageIndex, TaggedImage, refuse_shared_files


class CocoInstances:
    """Instance maps from the polygons and run lengths of a COCO or LVIS file.

    An instance has the class of its annotation: its pixels are those of its mask that
    bear that class in the label map, and of two instances of one class a pixel belongs
    to the smaller. Annotations of categories that the data set has no class for are no
    instances. Crowds are void.

    Raises:
        ImportError: pycocotools is missing.
        FileNotFoundError: There is no such file.
        ValueError: It is not such JSON, or two images have one name.
    """

    def __init__(self, path: str) -> None:
        run_lengths("instance_file")
        self.path = path
        try:
            coco = read_coco(path, annotation_fields=("segmentation",))
            items = []
            for place, entry in enumerate(coco.images.values()):
                source = coco.sources("images", place)
                items.append(TaggedImage(image_name(entry, source)[1], None, source))
            refuse_shared_files(items)
        except (FileNotFoundError, ValueError) as error:
            raise type(error)(f"instance_file: {error}") from error
        self._index = ImageIndex(
            [item.image for item in items], f"instance_file: {path}"
        )
        own: dict[int, list[dict]] = {number: [] for number in coco.images}
        for annotation in coco.annotations:
            own[annotation["image_id"]].append(annotation)
        self._annotations = {
            item.image: found for item, found in zip(items, own.values())
        }
        self._categories = coco.categories

    def __call__(
        self,
        img_path: str,
        gt: np.ndarray,
        ignore_index: int,
        classes: Sequence[str] | None = None,
    ) -> np.ndarray:
        """Draw the instance map of an image.

        Args:
            img_path: The image.
            gt: Its class map. Shape: (H, W).
            ignore_index: Void in the class map and in the result.
            classes: Names of the labels, in their order. None: as
                tools/dataset_converters/coco.py draws all categories, background first.

        Returns:
            (H, W) int32: 0 for no instance, ``ignore_index``, or another number.

        Raises:
            ValueError: The file does not list the image, has it in another size, or
                has no category of these classes.
        """
        labels = self._labels(classes)
        name = self._index.find(img_path)
        found = [a for a in self._annotations[name] if a["category_id"] in labels]
        source = f"instance_file: {self.path}: image {name}"
        layers, _ = layered_masks(found, gt.shape, source)
        ids = np.zeros(gt.shape, dtype=np.int32)
        for number, layer in enumerate(layers, start=max(0, ignore_index) + 1):
            own = layer.mask & (gt == labels[layer.annotation["category_id"]])
            ids[own] = ignore_index if layer.crowd else number
        return ids

    def left_out(self, classes: Sequence[str]) -> int:
        """How many annotations are of categories that are not among the classes."""
        labels = self._labels(classes)
        every = chain(*self._annotations.values())
        return sum(annotation["category_id"] not in labels for annotation in every)

    def without_category(self, classes: Sequence[str]) -> list[str]:
        """The classes, but for background, of which no category has the name."""
        names = {*self._categories.values(), "background"}
        return [name for name in classes if name not in names]

    def _labels(self, classes: Sequence[str] | None) -> dict[int, int]:
        names = list(self._categories.values())
        # Without a name, label 0 is no category's.
        listed = [None, *names] if classes is None else list(classes)
        # LVIS has over a thousand of either, and every image asks.
        known = {name: label for label, name in enumerate(listed)}
        labels = {
            number: known[name]
            for number, name in self._categories.items()
            if name in known
        }
        if not labels:
            raise ValueError(
                f"instance_file: none of the categories of {self.path} is a class of "
                f"the data set: {names[:10]} and {listed[:10]}"
            )
        return labels
