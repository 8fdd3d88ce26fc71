"""MARS's label filter: label maps in, label maps without biased objects out.

See :mod:`mmwood.functional.debias` for what it computes. Its files, beside the labels::

    out_dir/
      manifest.json         what made the labels, and what was removed of each class
      labels/IMAGE_ID.png   as they were, with 254 (BIASED) where an object was not one
      centers/IMAGE_ID.npz  vectors, labels, counts: mmwood.functional.debias
    features/
      manifest.json         what made them
      features/IMAGE_ID.npz features (D, h, w) float16, size (H, W) of the image
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, get_args

import numpy as np
from mmengine.dataset import BaseDataset

from mmwood.datasets.transforms.loading import loaded_rgb
from mmwood.engine.dense_features import (
    DenseFeatures,
    begin_features,
    feature_maps,
    image_tags,
)
from mmwood.engine.image_ids import ImageIds
from mmwood.fileio.files import file_sha256
from mmwood.fileio.label_folder import (
    PSEUDO_LABELS,
    LabelFolder,
    load_arrays,
    save_arrays,
)
from mmwood.fileio.labels import (
    BIASED,
    VOID,
    biased_as_void,
    check_labels,
    read_label_png,
    save_label_png,
)
from mmwood.functional.debias import (
    RegionCenters,
    Rule,
    biased_mask,
    debiased_centers,
    region_centers,
)
from mmwood.utils.check import at_least, fraction, one_of
from mmwood.utils.progress import progress

#: Labels of pixels that are in no region.
IGNORED = (BIASED, VOID)


@dataclass(frozen=True)
class FilterSettings:
    """How labels are filtered; see :mod:`mmwood.functional.debias`.

    Raises:
        ValueError: A field has a value that it cannot have; names the option.
    """

    rule: Rule = "nearest"
    alpha: float = 0.40
    centers: int = 2
    background_centers: int = 2
    center: bool = True
    nearest: float | None = 0.05
    components: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        one_of("--rule", self.rule, get_args(Rule))
        fraction("--alpha", self.alpha)
        if self.nearest is not None:
            fraction("--nearest", self.nearest)
        if self.components is not None:
            at_least("--components", self.components, 1, integer=True)
        at_least("--centers", self.centers, 1, integer=True)
        at_least("--background-centers", self.background_centers, 1, integer=True)
        at_least("--seed", self.seed, 0, integer=True)


@dataclass
class FilterSummary:
    """What :meth:`LabelFilter.run` did.

    Attributes:
        made: How many label maps were made.
        were_there: How many were there.
        pixels: Pixels of each class before. Shape: (C,) int64.
        removed: How many of them were removed. Shape: (C,) int64.
        emptied: In how many images nothing of the class is left. Shape: (C,) int64.
    """

    made: int = 0
    were_there: int = 0
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    removed: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    emptied: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def add(self, before: np.ndarray, after: np.ndarray) -> None:
        """Count an image's label map."""
        most = len(self.pixels) + 1
        own = before[(before > 0) & (before < most)]
        left = after[(after > 0) & (after < most)]
        pixels = np.bincount(own, minlength=most)[1:]
        kept = np.bincount(left, minlength=most)[1:]
        self.pixels += pixels
        self.removed += pixels - kept
        self.emptied += (pixels > 0) & (kept == 0)


class LabelFilter:
    """Filters the label maps of a data set.

    What is there and whole is kept, so a run that was ended continues where it was, and
    the result is the same to the byte.

    Args:
        dataset: Images with their tags (``gt_label``), from
            :func:`mmwood.engine.dense_features.whole_images`.
        labels: The label maps, of :class:`mmwood.PseudoLabelHook` or of this filter.
        out: Where to write.
        network: What computes features.
        settings: How to filter.
        features: Where features are kept; None: they are computed twice.
        batch_size, num_workers: See
            :func:`mmwood.engine.dense_features.feature_maps`.
        overwrite: Remove the labels in ``out``, whatever made them.

    Raises:
        FileNotFoundError: There are no such labels.
        ValueError: ``labels`` are not complete, or of other classes; there are more
            than 253 of them; an image has no tags; ``out`` holds something else.
    """

    def __init__(
        self,
        dataset: BaseDataset,
        labels: LabelFolder,
        out: LabelFolder,
        network: DenseFeatures,
        settings: FilterSettings,
        features: LabelFolder | None = None,
        batch_size: int = 1,
        num_workers: int = 0,
        overwrite: bool = False,
    ) -> None:
        self.dataset, self.labels, self.out = dataset, labels, out
        self.network, self.settings, self.features = network, settings, features
        self._loading = dict(batch_size=batch_size, num_workers=num_workers)
        self.classes = list(dataset.metainfo["classes"])
        if len(self.classes) >= BIASED:
            raise ValueError(
                f"{len(self.classes)} classes: a label map has room for {BIASED - 1} "
                f"beside {BIASED}, the removed pixels, and {VOID}"
            )
        if labels.root.resolve() == out.root.resolve():
            raise ValueError(
                f"{out.field}: {out.root} holds the labels that are to be filtered: "
                "name another folder"
            )
        wanted = dict(format=PSEUDO_LABELS, classes=self.classes)
        labels.require(wanted, "the stage that made it", "its option to overwrite")
        self.ids = [*ImageIds(dataset, labels.field)]
        self.tags = image_tags(dataset, "the filter needs to know what an image shows")
        self.description = self._describe()
        out.compare(self.description, "make all anew with --overwrite", overwrite)
        self._overwrite = overwrite

    def run(
        self, draw: Callable[[int, np.ndarray, np.ndarray], None] | None = None
    ) -> FilterSummary:
        """Filter all label maps.

        Args:
            draw: Called with each image's index, and its label map before and after.

        Raises:
            ValueError: A label map is damaged, holds another label, or has not the size
                of its image; features do not fit.
        """
        if self.features is not None:
            begin_features(self.features, self.network)
        self.out.begin(self.description, self._overwrite)
        self._make_centers()
        summary = self._filter(draw)
        removed = {
            name: dict(zip(("pixels", "removed", "emptied"), map(int, numbers)))
            for name, *numbers in zip(
                self.classes, summary.pixels, summary.removed, summary.emptied
            )
        }
        description = dict(self.description, removed=removed)
        self.out.finish(description, len(self.ids))
        return summary

    def _describe(self) -> dict[str, Any]:
        return dict(
            format=PSEUDO_LABELS,
            classes=self.classes,
            biased=BIASED,
            # Labels alone.
            scores=[],
            labels_sha256=file_sha256(self.labels.manifest_path),
            filter=asdict(self.settings),
            features=self.network.description(),
        )

    def _label(self, index: int) -> np.ndarray:
        path = self.labels.label(self.ids[index])
        label = read_label_png(path)
        without, _ = biased_as_void(label, len(self.classes))
        check_labels(without, path, len(self.classes), what="label map")
        return label

    def _feature_maps(self, wanted: Sequence[int], title: str):
        """Features and label maps of images."""
        found = feature_maps(
            self.dataset,
            self.ids,
            self.network,
            {*wanted},
            self.features,
            **self._loading,
        )
        for item in progress(found, title, total=len(wanted)):
            label = self._label(item.number)
            if label.shape != item.size:
                raise ValueError(
                    f"{self.labels.label(self.ids[item.number])} has (H, W) = "
                    f"{label.shape}, its image {item.size}"
                )
            yield item.number, item.features, label

    def _make_centers(self) -> None:
        paths = [self.out.centers(name) for name in self.ids]
        wanted = [index for index, path in enumerate(paths) if not path.is_file()]
        options = self.settings
        for index, features, label in self._feature_maps(wanted, "centres"):
            found = region_centers(
                features,
                label,
                options.centers,
                options.background_centers,
                IGNORED,
                options.seed,
            )
            save_arrays(paths[index], **found._asdict())

    def _filter(
        self, draw: Callable[[int, np.ndarray, np.ndarray], None] | None
    ) -> FilterSummary:
        options, classes = self.settings, len(self.classes)
        centers = debiased_centers(
            [self._read_centers(name) for name in self.ids],
            classes,
            options.alpha,
            options.center,
            options.nearest,
            options.components,
        )
        summary = FilterSummary(0, 0, *np.zeros((3, classes), dtype=np.int64))
        # Before any is made.
        there = [self.out.is_whole(name) for name in progress(self.ids, "find")]
        for index in np.flatnonzero(there).tolist():
            before = self._label(index)
            after = read_label_png(self.out.label(self.ids[index]))
            summary.add(before, after)
            summary.were_there += 1
            if draw is not None:
                draw(index, before, after)
        wanted = np.flatnonzero(np.logical_not(there)).tolist()
        for index, features, label in self._feature_maps(wanted, "filter"):
            removed = biased_mask(
                features,
                label,
                self.tags[index],
                centers,
                options.rule,
                options.nearest,
                image=self._image(index) if options.rule == "crf" else None,
                number=index,
                ignore=IGNORED,
            )
            after = np.where(removed, np.uint8(BIASED), label)
            save_label_png(after, self.out.label(self.ids[index]))
            summary.add(label, after)
            summary.made += 1
            if draw is not None:
                draw(index, label, after)
        return summary

    def _read_centers(self, name: str) -> RegionCenters:
        path = self.out.centers(name)
        return RegionCenters(**load_arrays(path, "centres: delete it, and run again"))

    def _image(self, index: int) -> np.ndarray:
        """As people see it."""
        return loaded_rgb(self.dataset[index]["img"])
