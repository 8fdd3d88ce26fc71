"""Sizes, batches and lengths of trainings from the data and the machine, by rules.

The rules and their constants are here. They start from what was measured on mini_voc
(1,149 images at long side 320 on a CPU) and from the published settings (10,582 images
of PASCAL VOC, about 500 pixels wide, on a GPU). What depends on the backbone alone is
in :mod:`mmwood.own_images.configs`: thresholds of seeds, the weight of L_d, and the
learning rates, of which :attr:`Settings.rate` is only a factor. IRN's rate is that of
``configs/irn/*_own-images.py``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from statistics import median_low

import numpy as np

from mmwood.fileio.decoding import PICTURE, Decoding
from mmwood.own_images.backbones import Backbone

#: The longest side that stages see, on a CPU and on a GPU.
LONGEST = dict(cpu=320, gpu=512)
#: A crop is this fraction of the long side, to the nearest multiple of CROP_STEP.
CROP, CROP_STEP = 0.8, 32
#: The images of a batch; the segmentation network's.
BATCH, NETWORK_BATCH = 16, 8
#: GPU memory in GB of one image of a batch, at CROP_OF_MEMORY pixels a side; W-OoD's
#: batch has twice as many. Estimates for ResNet-50 and DeepLab-v2 on ResNet-101.
GPU_IMAGE, GPU_NETWORK_IMAGE, CROP_OF_MEMORY = 0.4, 1.2, 416
#: Below so many GB of memory a CPU's batches are halved, below half of it halved again.
RAM = 8
#: Optimisation steps that suit pretrained weights: of the classifier, of W-OoD's
#: fine-tuning, of IRN; for the small network those of mini_voc, for the others between
#: these and the published 3,300, 3,300 and 1,000.
STEPS = dict(small=(360, 72, 216), large=(720, 360, 1000))
#: Least (mini_voc's and the published ones) and most epochs of each.
EPOCHS = dict(small=((5, 50), (1, 20), (3, 50)), large=((5, 60), (5, 30), (3, 80)))
#: Learning rates of classifiers are for batches and numbers of classes such as these.
#: Their loss is a mean over the classes: the fewer there are, the larger is each one's
#: part, and one class of its own makes the training diverge at the rate of 20.
RATE_BATCH, RATE_CLASSES = 16, 20
#: Epochs of the segmentation network, and least and most iterations.
NETWORK_EPOCHS = 20
ITERATIONS = dict(cpu=(200, 500), gpu=(1000, 20000))
#: K-means clusters of the OoD images, as published, and the images of each at least.
CLUSTERS, IMAGES_PER_CLUSTER = 50, 4
#: Of so many candidates one is expected to be mined and kept.
CANDIDATES_PER_IMAGE = 10
#: Steps of IRN's random walk, and the long side that they are for.
WALK = dict(small=(64, 320), large=(256, 500))
#: Images from which the label filter, which needs the background of others, takes part.
FILTER_IMAGES = 10
#: Of all pixels of more than 8 bits this share becomes black, and as large a one white.
OUTERMOST = 0.001
#: OoD images of less than this fraction of the long side are soft when enlarged.
SOFT = 0.75


@dataclass(frozen=True)
class Facts:
    """What the settings follow from.

    Attributes:
        classes: Names of the classes.
        long_sides: The long side of each tagged image, in pixels.
        untagged: Images without a tag that are used.
        candidates: Candidates for OoD images.
        masks: True masks to measure with.
        corrected: Masks that a person corrected.
        ood_long_side: The lower median long side of untagged images and candidates;
            None without.
        deep: Images of more than 8 bits a channel, of all kinds.
        decoding: How images are read.
        levels_named: Whether a person said what is black and white in them.
        gpu: The GPU's name; '' is a CPU.
        memory: Of the GPU, or of the machine without one, in GB.
    """

    classes: tuple[str, ...]
    long_sides: tuple[int, ...]
    untagged: int = 0
    candidates: int = 0
    masks: int = 0
    corrected: int = 0
    ood_long_side: int | None = None
    deep: int = 0
    decoding: Decoding = PICTURE
    levels_named: bool = False
    gpu: str = ""
    memory: float = 16.0


@dataclass(frozen=True)
class Setting:
    """One choice, for people."""

    name: str
    value: str
    reason: str


@dataclass(frozen=True)
class Settings:
    """Everything that the configs are written from.

    Attributes:
        backbone: Of classifier and IRN.
        network: Of the segmentation network.
        long_side: The one scale, in pixels.
        crop: Of training images.
        batch, network_batch: Images of a batch.
        epochs, wood_epochs, irn_epochs: Lengths of trainings.
        iterations: Of the segmentation network.
        wood: Whether W-OoD takes part.
        clusters: K of the OoD images.
        soften: Least and largest size that half of W-OoD's images are softened to, or
            None.
        walk_steps: Of IRN's random walk.
        label_filter: Whether pseudo masks go over the label filter.
        decoding: How images are read.
        rate: What classifiers' learning rates are multiplied by.
        rows: All of it with reasons.
    """

    backbone: Backbone
    network: Backbone
    long_side: int
    crop: int
    batch: int
    network_batch: int
    epochs: int
    wood_epochs: int
    irn_epochs: int
    iterations: int
    wood: bool
    clusters: int
    soften: tuple[int, int] | None
    walk_steps: int
    label_filter: bool
    decoding: Decoding
    rate: float
    rows: tuple[Setting, ...]


def default_backbone(gpu: str) -> tuple[str, str]:
    """Names of the backbones of classifier and IRN, and of the network."""
    return ("resnet50", "resnet101") if gpu else ("efficientnet-lite0",) * 2


def choose_settings(
    facts: Facts,
    backbone: Backbone,
    network: Backbone,
    short: bool = False,
    filtered: bool = True,
) -> Settings:
    """The settings for some data on some machine; a pure function.

    Args:
        facts: Data and machine.
        backbone: Of classifier and IRN.
        network: Of the segmentation network.
        short: One epoch and four iterations, to see whether everything runs.
        filtered: Whether pseudo masks may go over the label filter.

    Raises:
        ValueError: A backbone cannot see as many bands.
    """
    if facts.decoding.channels != 3 and "wide-resnet38" in (
        backbone.name,
        network.name,
    ):
        raise ValueError(
            "--bands: wide-resnet38 sees three bands: name three, or another --backbone"
        )
    rows: list[Setting] = []

    def note(name: str, value: object, reason: str) -> None:
        rows.append(Setting(name, str(value), reason))

    kind = "small" if backbone.small else "large"
    machine = "gpu" if facts.gpu else "cpu"
    on = f"the GPU {facts.gpu}" if facts.gpu else "a CPU"
    images = len(facts.long_sides)
    note(
        "data",
        f"{images} images with a tag",
        f"their classes: {', '.join(facts.classes)}",
    )
    _note_decoding(facts, note)
    note("backbone", backbone.name, _backbone_reason(facts, backbone))
    note("network", f"DeepLab-v2 on {network.name}", "trained on the pseudo masks")

    median = median_low(facts.long_sides)
    long_side = min(median, LONGEST[machine])
    note(
        "long side",
        long_side,
        f"half of the images have a long side of {median} or less; at most "
        f"{LONGEST[machine]} on {on}",
    )
    crop = max(CROP_STEP, round(CROP * long_side / CROP_STEP) * CROP_STEP)
    note("crop", crop, f"{CROP} of the long side, to a multiple of {CROP_STEP}")

    batch, why = _batch(facts, BATCH, GPU_IMAGE * 2, crop)
    note("batch", batch, why)
    network_batch, why = _batch(facts, NETWORK_BATCH, GPU_NETWORK_IMAGE, crop)
    note("batch of the network", network_batch, why)

    wood, clusters = _wood(facts, note)
    soften = None
    if wood and facts.ood_long_side and facts.ood_long_side < SOFT * long_side:
        soften = (max(1, round(SOFT * facts.ood_long_side)), facts.ood_long_side)
        note(
            "softening",
            f"{soften[0]} to {soften[1]}",
            "the OoD images are smaller, so soft: half of all images are made as soft, "
            "or softness would tell them apart",
        )

    classes = len(facts.classes)
    rate = min(1.0, batch / RATE_BATCH) * min(1.0, classes / RATE_CLASSES)
    if rate < 1:
        note(
            "learning rates",
            f"{rate:.3g} of the usual ones",
            f"of the classifiers, which are for {RATE_CLASSES} classes in batches of "
            f"{RATE_BATCH}; here {classes} in {batch}",
        )
    lengths = []
    # One class is told from images without a tag by the first classifier, too.
    seen = images + (facts.untagged if classes == 1 else 0)
    per_epoch = (ceil(seen / batch), max(1, images // batch), ceil(images / batch))
    names = ("epochs", "epochs of W-OoD", "epochs of IRN")
    for name, steps, wanted, (least, most) in zip(
        names, per_epoch, STEPS[kind], EPOCHS[kind]
    ):
        length = 1 if short else min(max(round(wanted / steps), least), most)
        lengths.append(length)
        if name == "epochs of W-OoD" and not wood:
            continue
        reason = (
            f"{length * steps} steps; about {wanted} suit these weights, within "
            f"{least} to {most} epochs"
        )
        note(name, length, "--short" if short else reason)
    least, most = ITERATIONS[machine]
    wanted = ceil(NETWORK_EPOCHS * images / network_batch)
    iterations = 4 if short else min(max(wanted, least), most)
    note(
        "iterations of the network",
        iterations,
        "--short"
        if short
        else f"{NETWORK_EPOCHS} epochs would be {wanted}; {least} to {most} on {on}",
    )

    steps, side = WALK[kind]
    walk_steps = max(16, round(steps * (long_side / side) ** 2))
    note(
        "steps of IRN's walk",
        walk_steps,
        f"{steps} at long side {side}; a walk's reach grows with their square root",
    )
    label_filter = filtered and images >= FILTER_IMAGES
    note(
        "label filter",
        "takes part" if label_filter else "left out",
        "pixels of pseudo masks that are more like the background of other images than "
        f"like their class are left open; from {FILTER_IMAGES} images on"
        if filtered
        else "--no-label-filter",
    )
    if facts.masks:
        note("masks", facts.masks, "measure seeds, pseudo masks and network; no more")
    if facts.corrected:
        note(
            "corrected masks",
            facts.corrected,
            "the network learns from them in place of the pseudo masks",
        )
    return Settings(
        backbone,
        network,
        long_side,
        crop,
        batch,
        network_batch,
        lengths[0],
        lengths[1],
        lengths[2],
        iterations,
        wood,
        clusters,
        soften,
        walk_steps,
        label_filter,
        facts.decoding,
        rate,
        tuple(rows),
    )


def _note_decoding(facts: Facts, note: Callable) -> None:
    bands, levels = facts.decoding.bands, facts.decoding.levels
    if bands is not None:
        shown = bands[:3] if len(bands) >= 3 else bands[:1]
        seen = ", ".join(map(str, shown))
        note("bands", ", ".join(map(str, bands)), f"--bands; people see {seen}")
    if levels is None:
        return
    pairs = np.reshape(levels, (-1, 2)).tolist()
    note(
        "levels",
        "; ".join(f"{low:g} is black, {high:g} white" for low, high in pairs),
        f"{facts.deep} images have more than 8 bits; "
        + (
            "--levels"
            if facts.levels_named
            else f"{OUTERMOST:.1%} of their pixels are darker, as many brighter"
        ),
    )


def _backbone_reason(facts: Facts, backbone: Backbone) -> str:
    about = f"; {backbone.weights.text}" if backbone.weights else ""
    if backbone.name != default_backbone(facts.gpu)[0]:
        return f"--backbone{about}"
    reason = "as published, on a GPU" if facts.gpu else "small enough for a CPU"
    return f"{reason}{about}"


def _batch(facts: Facts, wanted: int, gb: float, crop: int) -> tuple[int, str]:
    """Images of a batch: not more than there are, nor than memory holds."""
    if facts.gpu:
        image = gb * (crop / CROP_OF_MEMORY) ** 2
        fits = max(1, int(0.8 * facts.memory / image))
        memory = f"{facts.memory:.0f} GB of GPU memory hold {fits}"
    else:
        fits = wanted
        for limit in (RAM, RAM / 2):
            fits = max(1, fits // 2) if facts.memory < limit else fits
        memory = f"{facts.memory:.0f} GB of memory"
    batch = min(wanted, fits, len(facts.long_sides))
    if batch == wanted:
        return batch, f"the usual one; {memory}"
    if batch == len(facts.long_sides):
        return batch, "there are no more images"
    return batch, memory


def _wood(facts: Facts, note) -> tuple[bool, int]:
    """Whether W-OoD takes part, and its clusters, with the reasons noted."""
    sources = [
        f"{count} {name}"
        for count, name in (
            (facts.untagged, "images without a tag, which need no review"),
            (facts.candidates, "candidates, to be mined and reviewed"),
        )
        if count
    ]
    if not sources:
        note(
            "W-OoD",
            "left out",
            "there are no OoD images: neither images without a tag nor --candidates",
        )
        return False, 0
    if not facts.candidates and facts.untagged < IMAGES_PER_CLUSTER:
        note(
            "W-OoD",
            "left out",
            f"{facts.untagged} images without a tag are too few, at least "
            f"{IMAGES_PER_CLUSTER} are needed",
        )
        return False, 0
    note("W-OoD", "takes part", " and ".join(sources))
    count = facts.untagged or facts.candidates // CANDIDATES_PER_IMAGE
    clusters = max(1, min(CLUSTERS, count // IMAGES_PER_CLUSTER))
    images = (
        f"{count} images"
        if facts.untagged
        else f"{count} images that one in {CANDIDATES_PER_IMAGE} candidates would be"
    )
    note(
        "clusters of OoD images",
        clusters,
        f"{CLUSTERS} as published, at most a quarter of the {images}",
    )
    return True, clusters
