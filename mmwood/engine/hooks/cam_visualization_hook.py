"""Pictures of class activation maps and seeds during tests."""

from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmwood.datasets.transforms.loading import decoding_of
from mmwood.engine.image_ids import ImageIds
from mmwood.fileio.images import read_picture, refuse_foreign_drawing, save_picture
from mmwood.fileio.label_folder import LabelFolder
from mmwood.functional.cam import seed_from_cam
from mmwood.registry import HOOKS
from mmwood.utils.check import at_least
from mmwood.visualization.irn_panel import irn_panel
from mmwood.visualization.panels import seed_panel

#: Matplotlib's back-ends without windows.
FILE_BACKENDS = ("agg", "cairo", "pdf", "pgf", "ps", "svg", "template")


@HOOKS.register_module()
class CAMVisualizationHook(Hook):
    """Draw image | CAM overlays | seed | ground truth for tested images.

    Of a :class:`mmwood.IRN`, image | CAM overlays | edges | displacements | overlays
    after the random walk | mask | ground truth.

    Args:
        enable: Whether to draw. ``tools/test.py --show-dir`` sets it, and so does
            MMPretrain's.
        interval: Draw every ``interval``-th image of each process.
        show: Show each picture in a window. Without a display this is left out, with a
            warning.
        wait_time: Seconds that a window stays; 0 is until the space key is pressed.
        out_dir: Folder for one PNG an image. None hands the pictures to the
            visualizer's back-ends.
        threshold: Background threshold of the seed that is drawn.

    Raises:
        FileExistsError: ``out_dir`` holds a picture of that name that mmwood did not
            draw.
        ValueError: ``interval`` is below 1; two images would share a file.
    """

    def __init__(
        self,
        enable: bool = False,
        interval: int = 1,
        show: bool = False,
        wait_time: float = 0.0,
        out_dir: str | None = None,
        threshold: float = 0.15,
    ) -> None:
        at_least("mmwood.CAMVisualizationHook: interval", interval, 1, integer=True)
        self.enable = enable
        self.interval = interval
        self.show = show
        self.wait_time = wait_time
        self.out_dir = out_dir
        self.threshold = threshold

    def before_test(self, runner: Runner) -> None:
        """Count from the first image, and look for a display."""
        self._seen = 0
        if self.enable:
            dataset = runner.test_loop.dataloader.dataset
            self._ids = ImageIds(dataset, "default_hooks.visualization")
            if self.out_dir is not None:
                # Before the first one is drawn.
                for name in self._ids:
                    refuse_foreign_drawing(LabelFolder(self.out_dir).picture(name))
        self._shows = self.enable and self.show and _has_display()
        if self.enable and self.show and not self._shows:
            runner.logger.warning(
                "mmwood.CAMVisualizationHook.show: there is no display, so pictures "
                "are not shown (Matplotlib's back-end opens no windows)"
            )

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs: Sequence = ()
    ) -> None:
        """Draw the images of a batch whose turn it is."""
        if not self.enable:
            return
        for sample in outputs:
            if self._seen % self.interval == 0:
                self._draw(runner, sample)
            self._seen += 1

    def _draw(self, runner: Runner, sample) -> None:
        cam = sample.cam.float().cpu()
        classes = sample.cam_classes.cpu()
        truth = sample.get("gt_sem_seg")
        label = seed_from_cam(cam, classes, self.threshold).numpy()
        dataset = runner.test_dataloader.dataset
        shared = dict(
            image=read_picture(sample.img_path, decoding_of(dataset)),
            cam_classes=classes.tolist(),
            truth=None if truth is None else truth.data[0].cpu().numpy(),
            class_names=dataset.metainfo["classes"],
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
        name = self._ids(sample)
        if self._shows:
            runner.visualizer.show(panel, win_name=name, wait_time=self.wait_time)
        if self.out_dir is None:
            runner.visualizer.add_image(name.replace("/", "_"), panel, self._seen)
            return
        save_picture(panel, LabelFolder(self.out_dir).picture(name))


def _has_display() -> bool:
    """Whether Matplotlib, which the visualizer shows with, can open a window."""
    # It takes a second to import, and only this needs it.
    from matplotlib import pyplot

    # The others draw into files: a window of theirs is waited for without end.
    return pyplot.get_backend().lower() not in FILE_BACKENDS
