"""Which image a prediction is of, as the name of its files."""

from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

from mmengine.dataset import BaseDataset

from mmwood.fileio.label_folder import image_ids
from mmwood.utils.progress import progress


class ImageIds:
    """The ids of a data set's images; see :func:`mmwood.fileio.label_folder.image_ids`.

    Raises:
        ValueError: Two images would share a file; the message names both.
    """

    def __init__(self, dataset: BaseDataset, field: str) -> None:
        self._field = field
        try:
            self._ids = _listed(dataset)
        except ValueError as error:
            raise ValueError(f"{field}: {error}") from error

    def __iter__(self) -> Iterator[str]:
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


# Several hooks of one test ask for the ids of its data set.
_known: WeakKeyDictionary[BaseDataset, dict[str, str]] = WeakKeyDictionary()


def _listed(dataset: BaseDataset) -> dict[str, str]:
    # A data set may have been cut since.
    if len(_known.get(dataset, ())) != len(dataset):
        infos = (dataset.get_data_info(index) for index in range(len(dataset)))
        infos = progress(infos, "list images", total=len(dataset), delay=1)
        _known[dataset] = image_ids(infos)
    return _known[dataset]
