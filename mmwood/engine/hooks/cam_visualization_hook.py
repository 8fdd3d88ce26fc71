"""Pictures of class activation maps and seeds during tests."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner
from PIL import Image, ImageOps

from mmwood.fileio.files import atomic_write
from mmwood.functional.cam import seed_from_cam
from mmwood.registry import HOOKS
from mmwood.visualization.irn_panel import irn_panel
from mmwood.visualization.panels import seed_panel

__all__ = ["CAMVisualizationHook"]


@HOOKS.register_module()
class CAMVisualizationHook(Hook):
    """Draw image | CAM overlays | seed | ground truth for tested images.

    Of a :class:`mmwood.IRN`, image | CAM overlays | edges | displacements | overlays
    after the random walk | mask | ground truth.

    Args:
        enable: Whether to draw. ``tools/test.py --show-dir`` sets it.
        interval: Draw every ``interval``-th image of each process.
        out_dir: Folder for one PNG an image. None hands the pictures to the
            visualizer's back-ends.
        threshold: Background threshold of the seed that is drawn.
    """

    def __init__(
        self,
        enable: bool = False,
        interval: int = 1,
        out_dir: str | None = None,
        threshold: float = 0.15,
    ) -> None:
        if interval < 1:
            raise ValueError(f"interval must be at least 1, got {interval}")
        self.enable = enable
        self.interval = interval
        self.out_dir = out_dir
        self.threshold = threshold
        self._seen = 0

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Sequence | None = None,
    ) -> None:
        """Draw the images of a batch whose turn it is."""
        if not self.enable:
            return
        for sample in outputs:
            if self._seen % self.interval == 0:
                self._draw(runner, sample)
            self._seen += 1

    def _draw(self, runner: Runner, sample) -> None:
        with Image.open(sample.img_path) as image:
            # The loader turns images as the camera noted, too.
            picture = np.array(ImageOps.exif_transpose(image).convert("RGB"))
        cam = sample.cam.float().cpu()
        classes = sample.cam_classes.cpu()
        truth = sample.get("gt_sem_seg")
        label = seed_from_cam(cam, classes, self.threshold).numpy()
        shared = dict(
            image=picture,
            cam_classes=classes.tolist(),
            truth=None if truth is None else truth.data[0].cpu().numpy(),
            class_names=runner.test_dataloader.dataset.metainfo["classes"],
        )
        if "edge" in sample:
            panel = irn_panel(
                cam_before=sample.score_maps.float().cpu().numpy(),
                cam_after=cam.numpy(),
                edge=sample.edge.cpu().numpy(),
                displacement=sample.displacement.cpu().numpy(),
                label=label,
                **shared,
            )
        else:
            panel = seed_panel(
                cam=cam.numpy(),
                seed=label,
                scores=sample.pred_score.cpu().tolist(),
                **shared,
            )
        name = sample.get("img_id", Path(sample.img_path).stem)
        if self.out_dir is None:
            runner.visualizer.add_image(name.replace("/", "_"), panel, self._seen)
            return
        with atomic_write(Path(self.out_dir, f"{name}.png")) as temporary:
            Image.fromarray(panel).save(temporary)
