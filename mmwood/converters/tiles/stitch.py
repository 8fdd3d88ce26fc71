"""Masks of whole images from those of their tiles."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmwood.converters.tiles.cut import read_tiles
from mmwood.converters.tiles.grid import IMAGES, BigImage
from mmwood.converters.writer import Writer
from mmwood.fileio.files import files_by_id
from mmwood.fileio.images import UNREADABLE, image_size, unreadable
from mmwood.fileio.label_folder import PREDICTIONS, PSEUDO_LABELS, LabelFolder
from mmwood.fileio.labels import VOID, read_label_png
from mmwood.fileio.lists import bullets, without_suffix
from mmwood.functional.tile_grid import nearest_spans

_STITCHED = "mmwood stitched masks 1"


def stitch_masks(
    folder: Path,
    labels: Path,
    out: Path,
    overwrite: bool = False,
    progress: Callable[[Sequence[BigImage]], Iterable[BigImage]] = iter,
) -> dict[str, Any]:
    """Write masks of whole images from those of their tiles: the inverse of cutting.

    Of tiles that overlap, that one counts whose centre is nearest to the pixel. A tile
    without a mask is background if it is known to show no class, and void if it is
    unknown. A mask of another size, as a pipeline leaves of its smaller copies, is
    resized to the nearest pixel. The mask of an image is in memory twice, at 1 byte a
    pixel.

    Args:
        folder: What :func:`cut_images` wrote.
        labels: Label PNGs with the names of its tiles; or a folder of mmwood, with a
            ``manifest.json``.
        out: Folder to write: ``labels/`` and ``manifest.json``.
        overwrite: As in :class:`mmwood.converters.writer.Writer`.
        progress: Wraps the images while they are stitched.

    Returns:
        ``images``; ``background`` and ``void``, how many tiles without a mask were
        taken for these; ``resized``, how many masks were; ``others``, how many label
        maps are of no tile; ``left_out``, how many images have no tile that was
        written; and the writer's counts.

    Raises:
        FileExistsError: See the writer.
        FileNotFoundError: There is no such folder, or no mask of a tile.
        ValueError: ``folder`` is not complete, masks of tiles are missing or of
            another shape (names all); or ``out`` holds something else.
    """
    record = read_tiles(folder)
    names = {entry["name"] for entry in record["tiles"]}
    masks, others, description = _find_masks(labels, names)
    tiles: dict[str, list[dict]] = defaultdict(list)
    for entry in record["tiles"]:
        tiles[entry["image"]].append(entry)
    certain = description["format"] != PREDICTIONS
    _refuse_masks(labels, record["tiles"], masks, certain)
    target = LabelFolder(out, "--out")
    target.compare(description, "remove it")
    target.begin(description)
    writer = Writer(overwrite)
    cut = [
        BigImage(name, (height, width), record["size"], record["overlap"])
        for name, (height, width) in record["images"].items()
        if any(entry["file"] is not None for entry in tiles[name])
    ]
    counts: Counter[str] = Counter()
    for image in progress(cut):
        label = _stitch(image, tiles[image.name], masks, counts)
        writer.label(target.label(without_suffix(image.name)), label)
    kept = {without_suffix(image.name) for image in cut}
    for image_id, path in files_by_id(out / "labels").items():
        if image_id not in kept:
            path.unlink()
    target.finish(description, len(cut))
    return dict(
        images=len(cut),
        background=counts["background"],
        void=counts["void"],
        resized=counts["resized"],
        others=others,
        left_out=len(tiles) - len(cut),
        **writer.counts,
    )


def _stitch(
    image: BigImage,
    entries: Sequence[dict],
    masks: dict[str, Path],
    counts: Counter[str],
) -> np.ndarray:
    """The mask of an image. Shape: (H, W) uint8."""
    label = np.full(image.size, VOID, dtype=np.uint8)
    own_rows, own_columns = (
        {begin: slice(*own) for (begin, _), own in zip(spans, nearest_spans(spans))}
        for spans in (image.rows, image.columns)
    )
    for entry in entries:
        top, left = entry["y"], entry["x"]
        own = label[own_rows[top], own_columns[left]]
        if path := masks.get(entry["name"]):
            mask = read_label_png(path, "mask")
            if mask.shape != (image.tile, image.tile):
                sides = image.tile, image.tile
                nearest = Image.Resampling.NEAREST
                mask = np.asarray(Image.fromarray(mask).resize(sides, nearest))
                counts["resized"] += 1
            first = own_rows[top].start - top, own_columns[left].start - left
            own[:] = mask[first[0] :, first[1] :][: own.shape[0], : own.shape[1]]
        elif entry["labels"] == []:
            own[:] = 0
            counts["background"] += 1
        else:
            counts["void"] += 1
    return label


def _find_masks(
    labels: Path, names: Collection[str]
) -> tuple[dict[str, Path], int, dict[str, Any]]:
    """Masks by their tiles, how many others there are, and what describes them."""
    if not labels.is_dir():
        raise FileNotFoundError(f"--stitch: there is no folder {labels}")
    root = labels.parent if labels.name == "labels" else labels
    found = LabelFolder(root, "--stitch")
    description = dict(format=_STITCHED)
    files = labels
    if found.manifest_path.is_file():
        manifest, files = found.manifest(), root / "labels"
        if manifest.get("format") not in (PSEUDO_LABELS, PREDICTIONS):
            raise ValueError(
                f"--stitch: {found.manifest_path} is of {manifest.get('format')!r}, "
                "not of label maps of classes: name another folder"
            )
        if not manifest.get("complete"):
            raise ValueError(f"--stitch: {root} is not complete: finish it first")
        fields = ("format", "classes", "palette")
        description = {name: manifest[name] for name in fields if name in manifest}
    all_masks = files_by_id(files)
    # Named from the folder, or from images/ in it.
    for start in (f"{IMAGES}/", ""):
        masks = {
            image_id.removeprefix(start): path
            for image_id, path in all_masks.items()
            if image_id.startswith(start) and image_id.removeprefix(start) in names
        }
        if masks:
            return masks, len(all_masks) - len(masks), dict(description, stitched=True)
    raise FileNotFoundError(
        f"--stitch: {files} holds no mask of a tile, such as {min(names)}.png"
    )


def _refuse_masks(
    labels: Path, entries: Sequence[dict], masks: dict[str, Path], certain: bool
) -> None:
    """Refuse masks that are missing or of a shape that no tile has; names all.

    ``certain``: whether label 0 is background, as tiles that show no class have it.
    """
    faults = []
    for entry in entries:
        path, shows_none = masks.get(entry["name"]), entry["labels"] == []
        if path is None:
            if entry["file"] is not None and not (certain and shows_none):
                faults.append(f"{entry['file']} has no mask")
            continue
        try:
            width, height = image_size(path)
        except UNREADABLE as error:
            faults.append(unreadable(path, error))
            continue
        if width != height:
            faults.append(f"{path} has (W, H) = {(width, height)}, and is no square")
    if faults:
        raise ValueError(
            f"--stitch: {len(faults)} of {len(entries)} tiles in {labels} cannot be "
            "stitched:" + bullets(faults)
        )
