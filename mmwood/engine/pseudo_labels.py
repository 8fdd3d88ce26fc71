"""The files of one image in a folder of pseudo labels."""

from collections.abc import Sequence

import numpy as np
import torch

from mmwood.fileio.label_folder import (
    LabelFolder,
    MapKind,
    ScoreMaps,
    save_score_maps,
)
from mmwood.fileio.labels import save_label_png
from mmwood.functional.cam import seed_from_cam


def save_pseudo_label(
    folder: LabelFolder,
    image_id: str,
    maps: ScoreMaps,
    save_scores: Sequence[MapKind],
    threshold: float,
    ignore_band: float,
) -> None:
    """Write an image's score maps, if asked for, and then its label map.

    Args:
        folder: Where to write.
        image_id: What names the files.
        maps: Normalised maps of any floating dtype; ``full`` is what labels are made
            of.
        save_scores: Which of the maps to keep.
        threshold: See :func:`mmwood.functional.cam.seed_from_cam`.
        ignore_band: As there.

    Raises:
        ValueError: A class is above 253; the id leads out of the folder.
    """
    if save_scores:
        kept = {key: getattr(maps, key).astype(np.float16) for key in save_scores}
        saved = ScoreMaps(maps.classes, maps.scores.astype(np.float32), **kept)
        save_score_maps(folder.scores(image_id), saved)
    full, classes = torch.as_tensor(maps.full).float(), torch.as_tensor(maps.classes)
    label = seed_from_cam(full, classes, threshold, ignore_band)
    # The label last: where it is, all is.
    save_label_png(label.numpy(), folder.label(image_id))
