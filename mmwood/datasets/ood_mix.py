"""In-distribution images and out-of-distribution ones as one data set."""

import os
from functools import cache

from mmengine.dataset import BaseDataset, Compose, ConcatDataset
from mmengine.registry import DATASETS as MMENGINE_DATASETS

from mmwood.datasets.ood import OoDDataset
from mmwood.fileio.files import file_sha256
from mmwood.fileio.lists import bullets
from mmwood.registry import DATASETS
from mmwood.utils.config import leaf_datasets
from mmwood.utils.progress import progress


@DATASETS.register_module()
class OoDMixDataset(ConcatDataset):
    """In-distribution images, then OoD images.

    Every data sample says with ``is_ood`` what it is: pipelines need no change.
    :class:`mmwood.OoDRatioSampler` makes batches of both kinds. The in-distribution
    data set of a segmentation network is one of mmseg's, and its OoD one a
    :class:`mmwood.OoDBackgroundDataset`.

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
    def in_distribution(self) -> BaseDataset:
        """The labelled images."""
        return self.datasets[0]

    @property
    def ood(self) -> BaseDataset:
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
        samples = data["data_samples"]
        # Of TestTimeAug there is one a view.
        for sample in samples if isinstance(samples, list) else [samples]:
            sample.set_field(part == 1, "is_ood")
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


def _image_paths(dataset: BaseDataset) -> list[str]:
    """The files of a data set; one that repeats images names each once."""
    infos = (dataset.get_data_info(index) for index in range(len(dataset)))
    return list(dict.fromkeys(info["img_path"] for info in infos))
