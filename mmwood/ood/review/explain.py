"""Why the classifier took a candidate for a class: its CAM laid over the image."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.device import get_device
from mmengine.model import BaseModel
from mmengine.registry import HOOKS, MODELS, init_default_scope
from mmengine.runner import load_checkpoint
from PIL import Image

from mmwood.datasets.transforms.loading import decoding_of
from mmwood.engine.ood_size import OoDSize
from mmwood.fileio.files import file_sha256
from mmwood.fileio.images import UNREADABLE, read_rgb
from mmwood.ood.config import class_names, use_candidates
from mmwood.ood.results import read_summary
from mmwood.ood.review.pictures import PictureError, Pictures, to_jpeg
from mmwood.registry import import_locations
from mmwood.utils.config import type_name
from mmwood.utils.locations import find_config, read_config
from mmwood.visualization.panels import overlay_heat

#: Long side of the overlay, in pixels.
SIDE = 800


class Explainer:
    """Class activation maps of candidates, by the classifier that mined them.

    Maps are made when they are asked for and kept in the pictures' cache. Call it from
    one thread only.

    Args:
        config: The classifier's config; its model is a :class:`mmwood.CAMClassifier`.
        checkpoint: Its checkpoint.
        manifest: What was mined. If mining left its summary beside it, the checkpoint
            must be the one of then.
        classes: The manifest's classes.
        pictures: The manifest's images.
        size: As ``--size`` of mining. None: what mining's summary says.

    Raises:
        FileNotFoundError: There is no such config or checkpoint.
        ValueError: The model makes no maps, lacks a class or cannot be built, or the
            checkpoint is another one.
    """

    def __init__(
        self,
        config: str | os.PathLike,
        checkpoint: str | os.PathLike,
        manifest: str | os.PathLike,
        classes: Sequence[str],
        pictures: Pictures,
        size: OoDSize | None = None,
    ) -> None:
        config = find_config(config)
        for option, path in (("--config", config), ("--checkpoint", checkpoint)):
            if not Path(path).is_file():
                raise FileNotFoundError(f"{option}: there is no file {path}")
        self.pictures = pictures
        digest = file_sha256(checkpoint)
        summary = read_summary(manifest)
        expected = summary.get("checkpoint_sha256")
        if expected not in (None, digest):
            raise ValueError(
                f"--checkpoint: {checkpoint} is not the one that {manifest} was mined "
                f"with: {Path(manifest).with_suffix('.json')} names {expected}, this "
                f"is {digest}"
            )
        cfg = read_config(config)
        cfg.load_from = str(checkpoint)
        mined: OoDSize = "in_distribution"
        if summary:
            mined = summary.get("size") or "own"
        use_candidates(cfg, candidates="none", size=mined if size is None else size)
        kind = type_name(cfg.model)
        if "CAMClassifier" not in kind:
            raise ValueError(
                f"--config: maps need a mmwood.CAMClassifier, {config} has a {kind}"
            )
        self.classes = class_names(cfg)
        unknown = [name for name in classes if name not in self.classes]
        if unknown:
            raise ValueError(
                f"--config: the classifier of {config} knows no {unknown}, which "
                f"{manifest} names; its classes are {self.classes}"
            )
        cfg.model.test_cfg = dict(cam_labels="given")
        pipeline = cfg.test_dataloader.dataset.pipeline
        self._key = f"{digest} {pipeline}"
        try:
            self._model = _build(cfg)
        except OSError as error:
            raise ValueError(
                f"--config: the model of {config} cannot be built: {error!r}; start "
                "where mining started, so that its paths lead to the same files"
            ) from error
        self._pipeline = Compose(pipeline)

    def overlay(self, row: int, class_name: str) -> bytes:
        """The map of a class over the image, blue for 0 and red for 1, as JPEG.

        Raises:
            PictureError: The image is missing or cannot be read.
        """
        key = self.pictures.key(row, f"cam {SIDE} {class_name} {self._key}")
        return self.pictures.cache.get(key, lambda: self._make(row, class_name))

    @torch.no_grad()
    def _make(self, row: int, class_name: str) -> bytes:
        path = self.pictures.images[row]
        label = self.classes.index(class_name)
        try:
            picture = read_rgb(path, decoding_of(self._pipeline))
            data = self._pipeline(dict(img_path=path, sample_idx=row))
        except UNREADABLE as error:
            raise PictureError("not a whole image") from error
        data["data_samples"].set_gt_label([label])
        (sample,) = self._model.test_step(pseudo_collate([data]))
        heat = overlay_heat(picture, sample.cam[0].float().cpu().numpy())
        shown = Image.fromarray(heat)
        shown.thumbnail((SIDE, SIDE))
        return to_jpeg(shown)


def _build(cfg: Config) -> BaseModel:
    import_locations()
    init_default_scope(cfg.get("default_scope", "mmpretrain"))
    model = MODELS.build(cfg.model)
    checkpoint = load_checkpoint(model, cfg.load_from, map_location="cpu")
    guard = dict(type="mmwood.CheckpointGuardHook")
    if guard := cfg.default_hooks.get("checkpoint_guard", guard):
        name = f"--checkpoint: {cfg.load_from}"
        HOOKS.build(guard).check(name, checkpoint, model, whole=True)
    return model.to(get_device()).eval()
