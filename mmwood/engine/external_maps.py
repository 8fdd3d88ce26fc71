"""Pseudo labels from maps of any model: a function of an image and class names.

What is written is a folder as :class:`mmwood.PseudoLabelHook` leaves it, which IRN, the
label filter and segmentation configs read.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import torch
from mmengine.dataset import BaseDataset

from mmwood.datasets.transforms.loading import decoding_of, loaded_rgb
from mmwood.engine.dense_features import image_tags
from mmwood.engine.image_ids import ImageIds
from mmwood.engine.pseudo_labels import save_pseudo_label
from mmwood.fileio.files import file_sha256
from mmwood.fileio.label_folder import PSEUDO_LABELS, LabelFolder, MapKind, ScoreMaps
from mmwood.functional.cam import merge_scales, strided_size
from mmwood.utils.check import at_least
from mmwood.utils.progress import progress

#: Of an image (H, W, 3), uint8 RGB, and n class names: n maps (n, h, w) of any size, an
#: array or a tensor. What is larger is surer; 0 and less is background.
MapFunction = Callable[[np.ndarray, list[str]], Any]


@dataclass(frozen=True)
class MapSource:
    """A function that makes maps, and what is said of it.

    Attributes:
        function: The function.
        name: MODULE:NAME.
        supervision: What its model was trained with.
        details: What else determines the maps, for the manifest.
    """

    function: MapFunction
    name: str
    supervision: str
    details: Mapping[str, Any]


def load_maps(
    name: str, options: Mapping[str, Any] | None = None, supervision: str | None = None
) -> MapSource:
    """Import a function that makes maps, or a class whose objects do.

    Args:
        name: MODULE:NAME.
        options: Arguments of the class, or further arguments of the function.
        supervision: What the model was trained with. None: the attribute of this name.

    Raises:
        ValueError: There is no such module or name, it cannot be called, takes no such
            options, or nobody says what it was trained with.
    """
    options = dict(options or {})
    found = _imported(name)
    path = inspect.getsourcefile(inspect.getmodule(found) or found)
    signature = inspect.signature(found)
    is_class = inspect.isclass(found)
    try:
        (signature.bind if is_class else signature.bind_partial)(**options)
    except TypeError as error:
        raise ValueError(f"--maps-options: {name} {error}") from error
    if is_class:
        function = found(**options)
    else:
        function = partial(found, **options) if options else found
    if not callable(function):
        raise ValueError(f"--maps: {name} is {type(function).__name__}, no function")
    supervision = supervision or getattr(found, "supervision", None)
    if not supervision:
        raise ValueError(
            "--supervision: say what the model behind the maps was trained with, such "
            'as "400 million images with captions": it belongs to every result'
        )
    details: dict[str, Any] = dict(options=_as_json(options))
    if hasattr(function, "description"):
        details.update(_as_json(function.description()))
    if path is not None:
        details["source_sha256"] = file_sha256(path)
    return MapSource(function, name, supervision, details)


def _imported(name: str) -> Any:
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise ValueError(f"--maps must be MODULE:NAME, but is {name!r}")
    try:
        found = import_module(module)
    except ModuleNotFoundError as error:
        # What the module itself lacks is another fault.
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise ValueError(
            f"--maps: there is no module {module!r}; PYTHONPATH names the folder of a "
            "file of your own"
        ) from error
    if not callable(getattr(found, attribute, None)):
        raise ValueError(f"--maps: {module} has no function or class {attribute!r}")
    return getattr(found, attribute)


def _as_json(value: Any) -> Any:
    """As it is read from a manifest."""
    if isinstance(value, Mapping):
        return {str(key): _as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(item) for item in value]
    return value if isinstance(value, (bool, int, float, type(None))) else str(value)


def image_maps(
    found: Any, count: int, size: tuple[int, int], where: str
) -> tuple[np.ndarray, np.ndarray]:
    """Normalised maps of an image from what a function returned.

    Below 0 they become 0; then each is resized bilinearly and divided by its maximum,
    as class activation maps are (:func:`mmwood.functional.cam.merge_scales`).

    Args:
        found: What the function returned.
        count: The number n of classes.
        size: (H, W) of the image.
        where: What to begin an error with.

    Returns:
        The maps at the image's size and those on the stride-4 grid, float16.

    Raises:
        ValueError: It is no array (n, h, w) of finite numbers.

    Shape:
        - output: (n, H, W), (n, (H-1)//4+1, (W-1)//4+1)
    """
    try:
        maps = torch.as_tensor(found).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{where}: expected an array of maps ({count}, h, w), got "
            f"{type(found).__name__}"
        ) from error
    if maps.ndim != 3 or len(maps) != count or not maps[0].numel():
        raise ValueError(
            f"{where}: expected maps ({count}, h, w), one for each class name, got "
            f"{tuple(maps.shape)}"
        )
    if maps.is_complex() or not torch.isfinite(maps).all():
        raise ValueError(f"{where}: expected finite numbers in the maps")
    maps = maps.float().clamp(min=0)
    full, strided = (merge_scales([maps], s) for s in (size, strided_size(size)))
    return full.half().numpy(), strided.half().numpy()


class ExternalMaps:
    """Writes the label maps and score maps of a data set.

    The function is asked for the classes that an image is tagged with; images without
    one are background. In the score files the probability of a tag is 1, that of
    another class 0. What is there and whole is kept, so a run that was ended continues
    where it was.

    Args:
        dataset: Images with their tags (``gt_label``), from
            :func:`mmwood.engine.dense_features.whole_images`.
        out: Where to write.
        source: What makes the maps.
        threshold, ignore_band, save_scores: As of :class:`mmwood.PseudoLabelHook`.
        overwrite: Remove what is in ``out``, whatever made it.

    Raises:
        ValueError: An option has a value that it cannot have; an image has no tags; two
            images would share a file; ``out`` holds something else.
    """

    def __init__(
        self,
        dataset: BaseDataset,
        out: LabelFolder,
        source: MapSource,
        threshold: float = 0.15,
        ignore_band: float = 0.0,
        save_scores: Sequence[MapKind] = ("strided",),
        overwrite: bool = False,
    ) -> None:
        at_least("--threshold", threshold, 0, below=1)
        at_least("--ignore-band", ignore_band, 0)
        self.dataset, self.out, self.source = dataset, out, source
        self.threshold, self.ignore_band = threshold, ignore_band
        self.save_scores = list(save_scores)
        self.classes = list(dataset.metainfo["classes"])
        self.ids = [*ImageIds(dataset, out.field)]
        self.tags = image_tags(
            dataset, "maps are made of the classes that an image is tagged with"
        )
        self.description = dict(
            format=PSEUDO_LABELS,
            classes=self.classes,
            maps=source.name,
            supervision=source.supervision,
            made_with=dict(source.details),
            decoding=_as_json(asdict(decoding_of(dataset))),
            threshold=threshold,
            ignore_band=ignore_band,
            scores=self.save_scores,
            instances=False,
        )
        out.compare(self.description, "make all anew with --overwrite", overwrite)
        self._overwrite = overwrite

    def run(self) -> tuple[int, int]:
        """Make all that is not there.

        Returns:
            How many images' files were made, and how many were there.

        Raises:
            ValueError: The function returns something else than maps; names the image.
        """
        self.out.begin(self.description, self._overwrite)
        wanted = [
            index
            for index, name in enumerate(progress(self.ids, "find", delay=1))
            if not self.out.is_whole(name, self.save_scores)
        ]
        for index in progress(wanted, "maps"):
            self._make(index)
        self.out.finish(self.description, len(self.ids))
        return len(wanted), len(self.ids) - len(wanted)

    def _make(self, index: int) -> None:
        image = loaded_rgb(self.dataset[index]["img"])
        size = image.shape[:2]
        tags = self.tags[index]
        found = np.zeros((0, *size)), np.zeros((0, *strided_size(size)))
        if tags:
            names = [self.classes[tag] for tag in tags]
            where = f"--maps: {self.source.name} of image {self.ids[index]!r}"
            with torch.no_grad():
                maps = self.source.function(image, names)
            found = image_maps(maps, len(tags), size, where)
        scores = np.zeros(len(self.classes))
        scores[tags] = 1
        save_pseudo_label(
            self.out,
            self.ids[index],
            ScoreMaps(np.array(tags, dtype=np.int64), scores, found[1], found[0]),
            self.save_scores,
            self.threshold,
            self.ignore_band,
        )
