"""Which image a prediction is of, as the name of its files."""

from typing import Any

from torch.utils.data import Dataset

from mmwood.fileio.label_folder import image_ids
from mmwood.utils.progress import progress

__all__ = ["ImageIds"]


class ImageIds:
    """The ids of a data set's images; see :func:`mmwood.fileio.label_folder.image_ids`.

    Args:
        dataset: Wrapped (``ConcatDataset``, ...) or not.
        field: What names files after images, for errors.

    Raises:
        ValueError: Two images would share a file; the message names both.
    """

    def __init__(self, dataset: Dataset, field: str) -> None:
        self._field = field
        infos = (dataset.get_data_info(index) for index in range(len(dataset)))
        bar = progress(infos, "list images", total=len(dataset), delay=1)
        try:
            self._ids = image_ids(bar)
        except ValueError as error:
            raise ValueError(f"{field}: {error}") from error

    def __iter__(self):
        return iter(self._ids.values())

    def __len__(self) -> int:
        return len(self._ids)

    def __call__(self, sample: Any) -> str:
        """The id of a prediction's image, or of what a data set says of one.

        Raises:
            ValueError: It does not say of which image it is.
        """
        name = self._ids.get(str(sample.get("img_path")), sample.get("img_id"))
        if name is None:
            raise ValueError(
                f"{self._field}: predictions do not say of which image they are: the "
                "meta_keys of the pipeline's PackInputs need img_path"
            )
        return str(name)
