"""Candidate images in any number, from a list that stays on disk."""

from pathlib import Path

import cv2
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.dataset import BaseDataset

from mmwood.datasets.transforms.loading import decoding_of
from mmwood.fileio.images import UNREADABLE, why_unreadable
from mmwood.fileio.stores import is_stored
from mmwood.registry import DATASETS

#: What Pillow, OpenCV and mmcv raise at files that are not whole images.
FAULTS = (*UNREADABLE, AssertionError, cv2.error)


@DATASETS.register_module()
class CandidateDataset(BaseDataset):
    """Images without labels from a list of any length.

    The list is mapped into memory; a candidate takes the eight bytes that say where its
    line ends. (mmengine's serialised list takes 260, and 670 while it is made.) An
    image that cannot be read does not end the run and no other takes its place: a black
    one of 32×32 pixels goes through the pipeline's other transforms instead.

    The metainfo of each sample says ``candidate``, the image's number, and ``fault``,
    why it could not be read, or None.

    Args:
        ann_file: A list with one path, or another locator of
            :mod:`mmwood.fileio.stores`, a line in UTF-8, as
            :func:`mmwood.ood.candidates.write_candidate_list` writes it.
        pipeline: Transforms; they end with ``PackInputs``. Truncated files are found
            where ``mmwood.LoadImage`` loads: OpenCV takes them for whole.
        metainfo: ``classes``, the names of the classifier's classes.

    Raises:
        FileNotFoundError: There is no list.
        ValueError: It is empty; its first image is in a store, which the pipeline does
            not read.

    Example:
        >>> dict(type='mmwood.CandidateDataset', ann_file='mining/candidates.txt',
        ...      pipeline=[dict(type='mmwood.LoadImage'), dict(type='PackInputs')])
    """

    _fully_initialized: bool

    def __init__(
        self, ann_file: str, pipeline: list, metainfo: dict | None = None
    ) -> None:
        super().__init__(
            ann_file=ann_file, pipeline=pipeline, metainfo=metainfo, test_mode=True
        )

    def full_init(self) -> None:
        """Map the list into memory."""
        if self._fully_initialized:
            return
        if not Path(self.ann_file).is_file():
            raise FileNotFoundError(f"ann_file: there is no file {self.ann_file}")
        with open(self.ann_file, "rb") as file:
            self._ends = np.cumsum(np.fromiter(map(len, file), np.int64))
        if not len(self._ends):
            raise ValueError(f"ann_file: {self.ann_file} lists no image")
        self._lines = np.memmap(self.ann_file, dtype=np.uint8, mode="r")
        self._fully_initialized = True
        self._refuse_stores(self.get_data_info(0)["img_path"])

    def _refuse_stores(self, image: str) -> None:
        loading = (
            transform
            for transform in self.pipeline.transforms
            if isinstance(transform, LoadImageFromFile)
        )
        if is_stored(image) and not all(
            getattr(transform, "reads_stores", False) for transform in loading
        ):
            raise ValueError(
                f"ann_file: {self.ann_file} lists images of stores, such as {image}: "
                "load them with mmwood.LoadImage, without backend_args, "
                "imdecode_backend and color_type"
            )

    def __len__(self) -> int:
        self.full_init()
        return len(self._ends)

    def get_data_info(self, idx: int) -> dict:
        """``img_path`` and ``sample_idx`` of an image."""
        self.full_init()
        start = self._ends[idx - 1] if idx else 0
        line = self._lines[start : self._ends[idx]].tobytes()
        return dict(img_path=line.decode("utf-8").rstrip("\r\n"), sample_idx=idx)

    def prepare_data(self, idx: int) -> dict:
        """The packed image, or a stand-in where it cannot be read."""
        info = self.get_data_info(idx)
        fault = None
        try:
            data = self.pipeline(dict(info))
        except FAULTS as error:
            fault = why_unreadable(error)
            # A fault of the pipeline itself shows here too, and ends the run.
            data = self._stand_in(info)
        data["data_samples"].set_metainfo(
            dict(candidate=idx, fault=fault, img_path=info["img_path"])
        )
        return data

    def _stand_in(self, info: dict) -> dict:
        side = 32
        channels = decoding_of(self).channels
        image = np.zeros((side, side, channels), dtype=np.uint8)
        results = dict(info, img=image, img_shape=(side, side), ori_shape=(side, side))
        for transform in self.pipeline.transforms:
            if not isinstance(transform, LoadImageFromFile):
                results = transform(results)
        return results
