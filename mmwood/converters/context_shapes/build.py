"""Context shapes: a small drawn data set whose classes come with their contexts.

A classifier trained from image tags takes what an object stands on for the object:
rails for a train, water for a boat. Here that happens on purpose and under control.
Six classes of drawn objects stand on their own context with a chosen probability, and
a pool of out-of-distribution (OoD) images shows the same contexts without any object.
The folder is laid out as PASCAL VOC 2012, so that whatever reads VOC reads it:

    JPEGImages/*.jpg            images, long side `size`
    SegmentationClass/*.png     palette PNG: 0 background, 1..C classes, 255 void
    SegmentationObject/*.png    palette PNG: 0 background, 1..n instances, 255 void
    ImageSets/Segmentation/     train.txt, val.txt
    OoD/*.jpg, OoD/list.txt     contexts without objects; paths relative to the root
    contexts.csv                image, split, class, context: the truth of every scene
    dataset.json                parameters, classes and counts; written last

Everything is painted on a canvas four times as large and then shrunk, objects and
contexts together, so that an object leaves no trace of pasting and an OoD image
differs from a training image in nothing but the missing object.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mmwood.converters.context_shapes.sample import (
    CLASSES,
    CONTEXTS,
    SPLITS,
    Split,
    draw_sample,
)
from mmwood.converters.writer import find_record, save_jpeg, write_lines
from mmwood.fileio.files import compare_description, write_json
from mmwood.fileio.labels import save_label_png
from mmwood.utils.check import at_least

MIN_SIZE = 64
VERSION = 1
# Fewer are drawn sooner than a process starts.
_IMAGES_PER_WORKER = 50
_DATASET = "context shapes"
_JSON = "dataset.json"
_UNFINISHED = "unfinished.json"
#: A split, and the number of an image in it.
Task = tuple[Split, int]


def generate(
    out_dir: str | os.PathLike,
    train: int = 600,
    val: int = 150,
    ood: int = 200,
    size: int = 128,
    correlation: float = 0.95,
    seed: int = 0,
    force: bool = False,
    progress: Callable[[list], Iterable] = iter,
    workers: int = 1,
) -> dict[str, Any]:
    """Write the data set; see the module's text for its layout.

    A folder that already holds it with the same parameters is left as it is. An image
    depends on its split, its number, `size`, `correlation` and `seed` alone: with
    more images, the first ones stay the same.

    Args:
        out_dir: The folder; it may be missing, empty, or hold this data set.
        train: Number of training images. Classes take turns: fewer images than
            classes leave some class out.
        val: Number of validation images.
        ood: Number of images without objects.
        size: Long side of the images in pixels, at least 64.
        correlation: Probability that a class stands on its own context rather than
            on a neutral one or on that of another class.
        seed: Random seed of the whole data set, not negative.
        force: Replace this data set where it was made with other parameters.
        progress: Wraps the list of images while they are drawn, for instance
            `tqdm.tqdm`.
        workers: Number of processes that draw, at most; few images take fewer. Where
            the platform does not fork, a script that calls this with more than one
            needs its `if __name__ == "__main__":`.

    Returns:
        The content of dataset.json: `parameters`, `classes`, `contexts` and `counts`
        (images per split; images and instances per class, without OoD).

    Raises:
        ValueError: A parameter is out of range; `out_dir` holds something else, or this
            data set with other parameters (unless `force`).
    """
    counts = dict(train=train, val=val, ood=ood)
    for name, count in dict(**counts, seed=seed).items():
        at_least(name, count, 0)
    at_least("size", size, MIN_SIZE)
    at_least("workers", workers, 1)
    if not 0 <= correlation <= 1:  # also refuses NaN
        raise ValueError(f"correlation must be between 0 and 1, but is {correlation}")
    root = Path(out_dir)
    parameters = dict(**counts, size=size, correlation=correlation, seed=seed)
    record = dict(dataset=_DATASET, version=VERSION, parameters=parameters)
    found = find_record(
        root, _UNFINISHED, _JSON, needs=("parameters",), dataset=_DATASET
    )
    tasks = _tasks(counts)
    if found is not None:
        if not force:
            remedy = "choose another folder, or replace it with force=True"
            compare_description(found, record, root, remedy, "out_dir")
            files = (path for task in tasks for path in _files(root, *task))
            if "counts" in found and all(path.is_file() for path in files):
                return found
        _remove(root, found["parameters"])
    write_json(root / _UNFINISHED, record)
    scenes: list[tuple[str, ...]] = []
    images: Counter[int] = Counter()
    instances: Counter[int] = Counter()
    draw = partial(_draw, root, size, correlation, seed)
    with _pool(min(workers, len(tasks) // _IMAGES_PER_WORKER)) as run:
        drawn = run(draw, tasks)
        for split, index in progress(tasks):
            contexts, present = next(drawn)
            scenes += [(_name(split, index), split, *pair) for pair in contexts]
            instances.update(present)
            images.update(set(present))
    for split in SPLITS[:-1]:  # OoD images have a list of paths
        names = [_name(split, i) for i in range(counts[split])]
        write_lines(root / f"ImageSets/Segmentation/{split}.txt", names)
    names = [f"OoD/{_name('ood', i)}.jpg" for i in range(ood)]
    write_lines(root / "OoD/list.txt", names)
    rows = [("image", "split", "class", "context"), *scenes]
    write_lines(root / "contexts.csv", [",".join(row) for row in rows])
    record.update(
        classes=list(CLASSES),
        contexts=CONTEXTS,
        counts=dict(
            images=counts,
            images_of_class={name: images[i] for i, name in enumerate(CLASSES, 1)},
            instances_of_class={
                name: instances[i] for i, name in enumerate(CLASSES, 1)
            },
        ),
    )
    write_json(root / _JSON, record)
    (root / _UNFINISHED).unlink()
    return record


@contextmanager
def _pool(workers: int) -> Iterator[Callable[..., Iterator]]:
    """A map over many processes, in order; the built-in one for less than two."""
    if workers < 2:
        yield map
        return
    # A forked process lacks the threads that OpenCV believes to have; 0 is to use none.
    with ProcessPoolExecutor(
        workers, initializer=cv2.setNumThreads, initargs=(0,)
    ) as executor:
        try:
            yield partial(executor.map, chunksize=4)
        finally:
            executor.shutdown(cancel_futures=True)


def _draw(
    root: Path, size: int, correlation: float, seed: int, task: Task
) -> tuple[list[tuple[str, str]], list[int]]:
    """Draw and write one image; gives its contexts and the class of each instance."""
    sample = draw_sample(*task, size, correlation, seed)
    image, *maps = _files(root, *task)
    # Without chroma subsampling: objects can be a few pixels wide.
    save_jpeg(sample.image, image, quality=95)
    for path, labels in zip(maps, (sample.classes, sample.instances)):
        save_label_png(labels, path)
    pairs = np.stack([sample.instances, sample.classes]).reshape(2, -1)
    pairs = np.unique(pairs[:, (pairs[0] > 0) & (pairs[0] < 255)], axis=1)
    return sample.contexts, pairs[1].tolist()


def _tasks(counts: dict[str, int]) -> list[Task]:
    return [(split, i) for split in SPLITS for i in range(counts[split])]


def _name(split: Split, index: int) -> str:
    return f"{split}_{index:06d}"


def _files(root: Path, split: Split, index: int) -> list[Path]:
    """Image, class map, instance map; an OoD image has no maps."""
    name = _name(split, index)
    if split == "ood":
        return [root / f"OoD/{name}.jpg"]
    return [
        root / f"JPEGImages/{name}.jpg",
        root / f"SegmentationClass/{name}.png",
        root / f"SegmentationObject/{name}.png",
    ]


def _remove(root: Path, counts: dict[str, int]) -> None:
    """Remove the files of a data set with these numbers of images and nothing else."""
    (root / _JSON).unlink(missing_ok=True)
    for task in _tasks(counts):
        for path in _files(root, *task):
            path.unlink(missing_ok=True)
