"""Feature maps of a data set's images by any backbone, kept in files if wanted."""

import json
import logging
from collections.abc import Collection, Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.runner import CheckpointLoader, load_state_dict
from torch import Tensor
from torch.utils.data import DataLoader

from mmwood.engine.hooks import CheckpointGuardHook
from mmwood.engine.network import read_checkpoint, stored_state, without_start
from mmwood.engine.runner import initial_weights
from mmwood.engine.weights import state_sha256
from mmwood.fileio.files import text_sha256
from mmwood.fileio.label_folder import FEATURES, LabelFolder, load_arrays, save_arrays
from mmwood.models.utils import keep_channels_first, step_by_shape
from mmwood.models.utils.named_features import NamedFeatures
from mmwood.registry import import_locations
from mmwood.utils.check import at_least
from mmwood.utils.config import leaf_datasets, type_name, without_names


def load_backbone(
    cfg: Config, checkpoint: str | None = None, device: str | torch.device = "cpu"
) -> BaseModel:
    """The model of a config, in evaluation mode, whose backbone has trained weights.

    Args:
        cfg: A config whose model has a backbone and a data preprocessor.
        checkpoint: Weights of the model, or of those that its backbone has. None: those
            that the backbone's ``init_cfg`` names.
        device: Where the model goes.

    Raises:
        FileNotFoundError: There is no such checkpoint.
        ValueError: The model has no backbone, or it would stay random.
    """
    # A registry would swallow what breaks there.
    import_locations()
    init_default_scope(cfg.get("default_scope", "mmengine"))
    config = deepcopy(cfg.model)
    guard = CheckpointGuardHook(min_share=1)
    if checkpoint is not None:
        model = MODELS.build(without_start(config))
        content = read_checkpoint(Path(checkpoint), "--checkpoint")
        load_state_dict(model, stored_state(content), strict=False, logger="silent")
        guard.check(f"--checkpoint: {checkpoint}", content, model)
        return _usable(model).to(device).eval()
    files = initial_weights(config.get("backbone"), "model.backbone")
    if not files:
        raise ValueError(
            "--checkpoint: name the weights of the backbone; the config's "
            "model.backbone.init_cfg names none either"
        )
    model = _usable(MODELS.build(config))
    # mmengine would print a line for every parameter.
    logging.disable(logging.INFO)
    try:
        model.backbone.init_weights()
    finally:
        logging.disable(logging.NOTSET)
    for field, path in files.items():
        content = CheckpointLoader.load_checkpoint(
            path, map_location="cpu", logger="silent"
        )
        guard.check(f"{field}: {path}", content, model.backbone)
    return model.to(device).eval()


def _usable(model: BaseModel) -> BaseModel:
    for part in ("backbone", "data_preprocessor"):
        if not hasattr(model, part):
            raise ValueError(f"model: {type(model).__name__} has no {part}")
    return model


def whole_images(config: dict) -> BaseDataset:
    """A data set that gives ``img`` (H, W, 3) BGR of whole images, and reads no mask.

    Args:
        config: Of a data set, or of a wrapper; images are loaded as it says.
    """
    config = deepcopy(config)
    for leaf in leaf_datasets(config):
        steps = without_names(leaf.get("pipeline") or [], "pipeline")
        loading = [step for step in steps if type_name(step).startswith("LoadImage")]
        leaf["pipeline"] = loading[:1] or [dict(type="mmwood.LoadImage")]
    return DATASETS.build(config)


def image_tags(dataset: BaseDataset, why: str) -> list[list[int]]:
    """The classes that each image is tagged with.

    Args:
        dataset: Images with their tags (``gt_label``).
        why: What the tags are for, to end an error with.

    Raises:
        ValueError: The images have no tags.
    """
    tags = [dataset.get_data_info(i).get("gt_label") for i in range(len(dataset))]
    if None in tags:
        raise ValueError(
            "test_dataloader.dataset.label_source='none' gives images without tags: "
            f"{why}"
        )
    return [[*classes] for classes in tags]


class DenseFeatures:
    """Features F of images on one grid that spans the image.

    An image is resized so that its sides are multiples of the network's stride: the
    grid's places then divide it evenly. Levels of several strides are joined on the
    finest grid; each is scaled to length 1 at every place first, so that they count
    alike. Numbers are rounded to float16, as they are kept in files.

    Args:
        model: Has a backbone and a data preprocessor, in evaluation mode.
        modules: Names of modules of the backbone whose outputs are joined. Empty: the
            last output of the backbone.
        multiple: The coarsest stride of these, or the patch of a transformer, in
            pixels.
        scale: By which images are resized before.

    Raises:
        ValueError: There is no such module; ``multiple`` or ``scale`` is too small.
    """

    def __init__(
        self,
        model: BaseModel,
        modules: Sequence[str] = (),
        multiple: int = 32,
        scale: float = 1.0,
    ) -> None:
        at_least("--multiple", multiple, 1, integer=True)
        if not scale > 0:
            raise ValueError(f"--scale must be positive, got {scale}")
        self.model = model
        self.modules = list(modules)
        self.multiple = multiple
        self.scale = scale
        self._named = None
        keep_channels_first(model.backbone)
        if modules:
            self._named = NamedFeatures(model.backbone, modules, "--modules")

    def description(self) -> dict[str, Any]:
        """What determines the features, for a manifest."""
        preprocessor = self.model.data_preprocessor
        values = {
            name: getattr(preprocessor, name, None)
            for name in ("mean", "std", "to_rgb", "channel_conversion")
        }
        values = {
            name: value.flatten().tolist() if isinstance(value, Tensor) else value
            for name, value in values.items()
        }
        return dict(
            backbone=type(self.model.backbone).__name__,
            # Of two architectures with the same weights, one may have another stride.
            backbone_sha256=text_sha256(str(self.model.backbone)),
            weights_sha256=state_sha256(self.model.backbone.state_dict()),
            preprocessor_sha256=text_sha256(json.dumps(values, sort_keys=True)),
            modules=self.modules,
            multiple=self.multiple,
            scale=self.scale,
        )

    @torch.no_grad()
    def __call__(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The features (D, h, w) float16 of images (H, W, 3) uint8 BGR of any sizes.

        Raises:
            ValueError: The grid does not divide an image: ``multiple`` is wrong; the
                backbone gives no feature map; a feature is not finite.
        """
        device = next(self.model.backbone.parameters()).device
        inputs = [
            self._resized(torch.from_numpy(image).permute(2, 0, 1).to(device))
            for image in images
        ]
        return step_by_shape(self._step, dict(inputs=inputs))

    def _resized(self, image: Tensor) -> Tensor:
        sides = [
            max(1, round(side * self.scale / self.multiple)) * self.multiple
            for side in image.shape[1:]
        ]
        if sides == [*image.shape[1:]]:
            return image
        shrinks = sides[0] < image.shape[1] or sides[1] < image.shape[2]
        return F.interpolate(
            image[None].float(), sides, mode="bilinear", antialias=shrinks
        )[0]

    def _step(self, data: dict) -> list[np.ndarray]:
        images = self.model.data_preprocessor(data, False)["inputs"]
        levels = self._levels(images)
        for level in levels:
            self._check(level, images.shape[2:])
        levels = [level.float() for level in levels]
        if len(levels) > 1:
            finest = max((level.shape[2:] for level in levels), key=lambda s: s[0])
            levels = [
                F.interpolate(F.normalize(level, dim=1), finest, mode="bilinear")
                for level in levels
            ]
        joined = torch.cat(levels, dim=1).half().cpu().numpy()
        if not np.isfinite(joined).all():
            raise ValueError(
                "the features do not fit into float16 (65504 at most): choose others "
                "with --modules"
            )
        return [*joined]

    def _levels(self, images: Tensor) -> list[Tensor]:
        found = self.model.backbone(images)
        if self._named is not None:
            return self._named.take()
        last = found[-1] if isinstance(found, (list, tuple)) else found
        return [last]

    def _check(self, level: Tensor, size: Sequence[int]) -> None:
        if not isinstance(level, Tensor) or level.ndim != 4:
            raise ValueError(
                "the backbone gives no feature map (B, D, h, w), but "
                f"{tuple(getattr(level, 'shape', ()))}: transformers need "
                "out_type='featmap'; or name modules with --modules"
            )
        if any(side % cells for side, cells in zip(size, level.shape[2:])):
            raise ValueError(
                f"--multiple is {self.multiple}, but the grid of an image of "
                f"{tuple(size)} is {tuple(level.shape[2:])}, which does not divide it: "
                "set it to the stride or the patch of the network (14 of DINOv2's)"
            )


class ImageFeatures(NamedTuple):
    """The features of one image.

    Attributes:
        number: Which one of the data set.
        features: Shape: (D, h, w) float16.
        size: (H, W) of the image.
    """

    number: int
    features: np.ndarray
    size: tuple[int, int]


def feature_maps(
    dataset: BaseDataset,
    ids: Sequence[str],
    network: DenseFeatures,
    wanted: Collection[int],
    folder: LabelFolder | None = None,
    batch_size: int = 1,
    num_workers: int = 0,
) -> Iterator[ImageFeatures]:
    """The features of some images, in the order of the data set.

    Batches are the same whichever images are wanted: the last bits of an image's
    features depend on those that go through the network with it.

    Raises:
        ValueError: A file of features is damaged.
    """
    chunks = [
        range(start, min(start + batch_size, len(ids)))
        for start in range(0, len(ids), batch_size)
    ]
    chunks = [chunk for chunk in chunks if any(index in wanted for index in chunk)]

    def is_kept(index: int) -> bool:
        return folder is not None and folder.features(ids[index]).is_file()

    kept = [
        all(is_kept(index) for index in chunk if index in wanted) for chunk in chunks
    ]
    batches = iter(
        DataLoader(
            dataset,
            batch_sampler=[[*chunk] for chunk, there in zip(chunks, kept) if not there],
            num_workers=num_workers,
            collate_fn=_images_of,
        )
    )
    for chunk, there in zip(chunks, kept):
        if folder is not None and there:
            for index in chunk:
                if index in wanted:
                    yield _read(index, folder.features(ids[index]))
            continue
        images = next(batches)
        for index, image, features in zip(chunk, images, network(images)):
            size = image.shape[:2]
            if folder is not None and not is_kept(index):
                path = folder.features(ids[index])
                save_arrays(path, features=features, size=np.array(size))
            if index in wanted:
                yield ImageFeatures(index, features, size)


def _images_of(items: list[dict]) -> list[np.ndarray]:
    return [item["img"] for item in items]


def _read(index: int, path: Path) -> ImageFeatures:
    arrays = load_arrays(path, "features: delete it, and run again")
    height, width = arrays["size"].tolist()
    return ImageFeatures(index, arrays["features"], (height, width))


def begin_features(folder: LabelFolder, network: DenseFeatures) -> None:
    """Begin or continue a folder of features.

    Raises:
        ValueError: It holds other files, or other features.
    """
    description = dict(format=FEATURES, **network.description())
    folder.compare(description, "delete it")
    folder.begin(description)
