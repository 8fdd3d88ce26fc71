"""Rules in place of a person, for those who have none to look at the candidates.

They are blunt: a rule sees hashes and probabilities, and nobody sees the images. What
they do is logged beside the manifest, under ``auto`` in its JSON, and a row that is
decided already is never changed.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from prettytable import PrettyTable
from tqdm import tqdm

from mmwood.fileio.decoding import PICTURE, Decoding
from mmwood.fileio.files import write_json
from mmwood.fileio.images import list_folder
from mmwood.fileio.journal import SaveError
from mmwood.ood.results import mined_decoding, read_summary
from mmwood.ood.review.counts import KEPT, REJECTED, UNSEEN, ReviewRows
from mmwood.ood.review.decisions import Review
from mmwood.ood.review.pictures import PictureError, open_picture

NOTE = "no person has looked at these"
#: Images that are compared with each other at a time.
BLOCK = 256


@dataclass(frozen=True)
class Rules:
    """What to reject, and whether to keep the rest.

    Each rule looks at the manifest as it was before: what another one rejects changes
    nothing for it, and their order does not matter.

    Attributes:
        duplicates: Reject images that look like another candidate. Of those that look
            the same, the image of the row with the largest probability stays; one that
            was kept before stays in any case, and one that was rejected before is not
            compared.
        in_distribution: Reject images that look like one in this folder.
        max_bits: Two images look the same when at most so many of the 64 bits of their
            hashes differ. Of 200 photos that were resized to 0.3 to 1.5 times their
            size and compressed anew, 186 differed by at most 2 bits. Of 3.1 million
            pairs among 2,500 photos, many of them landscapes, one differed by so few,
            and it showed different things; nine by at most 4.
        max_probability: Reject rows above it: the very sure ones mostly do show the
            object.
        keep_rest: Keep all other unseen rows.

    Raises:
        ValueError: There is no rule, or a limit out of its bounds.
    """

    duplicates: bool = False
    in_distribution: str | os.PathLike | None = None
    max_bits: int = 2
    max_probability: float | None = None
    keep_rest: bool = False

    def __post_init__(self) -> None:
        limits = (self.in_distribution, self.max_probability)
        if not (self.duplicates or self.keep_rest) and limits == (None, None):
            raise ValueError(
                "there is no rule: name duplicates, in_distribution, max_probability "
                "or keep_rest"
            )
        if not 0 <= self.max_bits < 64:
            raise ValueError(f"max_bits must be in 0..63, got {self.max_bits}")
        limit = self.max_probability
        if limit is not None and not 0 <= limit <= 1:
            raise ValueError(f"max_probability must be in [0, 1], got {limit}")


def apply_rules(review: Review, rules: Rules) -> tuple[dict, dict[str, str]]:
    """Decide about the unseen rows of a review and save it.

    Images that a row keeps are passed over by every rule: rejecting another row of
    theirs would take them out again. Images that are missing or unreadable stay
    unseen. The log is written before the first decision, with ``finished`` false, so
    that there is none that it does not explain.

    Returns:
        What was logged, see :func:`rules_table`; and the images that were not
        compared, as path -> reason, those of ``in_distribution`` among them.

    Raises:
        FileNotFoundError: There is no folder ``in_distribution``.
        ValueError: It holds no image, or the JSON beside the manifest is malformed.
        SaveError: The journal or the manifest cannot be written.
        OSError: The JSON cannot be written; then nothing is decided.

    Example:
        >>> review = Review('ood.csv')
        >>> apply_rules(review, Rules(duplicates=True, max_probability=0.99))
        >>> review.close()
    """
    if review.fault:
        raise SaveError(review.fault)
    summary = read_summary(review.path)
    table = ReviewRows(review)
    images, image_of = table.images, table.image_of

    def having(rows: np.ndarray) -> np.ndarray:
        """Which images have one of these rows. Shape (images,)."""
        return np.bincount(image_of[rows], minlength=len(images)) > 0

    unseen, kept, rejected = (
        having(table.states == state) for state in (UNSEEN, KEPT, REJECTED)
    )
    decoding = mined_decoding(review.path)
    known, known_faults = _in_distribution(rules, decoding)
    compared = np.flatnonzero(unseen | kept if rules.duplicates else unseen)
    candidates = [images[number] for number in compared]
    found, faults = _hashes(candidates, "candidates", decoding)
    hashes = np.zeros((len(images), 8), dtype=np.uint8)
    hashes[compared] = found
    readable = np.zeros(len(images), dtype=bool)
    readable[compared] = [images[number] not in faults for number in compared]

    decidable = (table.states == UNSEEN) & readable[image_of]
    free = decidable & ~kept[image_of]
    log: list[dict] = []
    out = np.zeros(len(image_of), dtype=bool)

    def note(rule: str, rows: np.ndarray, **parameters: Any) -> None:
        numbers = dict(rows=int(rows.sum()), images=int(having(rows).sum()))
        log.append(dict(rule=rule, **parameters, **numbers))

    def reject(rule: str, rows: np.ndarray, **parameters: Any) -> None:
        note(rule, rows, **parameters)
        out[rows] = True

    if rules.duplicates:
        largest = np.zeros(len(images))
        np.maximum.at(largest, image_of, table.probability)
        order = np.flatnonzero(unseen & readable & ~kept & ~rejected)
        order = order[np.argsort(-largest[order], kind="stable")]
        copies = near(hashes[order], hashes[kept & readable], rules.max_bits)
        rest = order[~copies]
        copies[~copies] = duplicates(hashes[rest], rules.max_bits)
        same = np.isin(image_of, order[copies])
        reject("duplicates", free & same, max_bits=rules.max_bits)
    if rules.in_distribution is not None:
        same = near(hashes, known, rules.max_bits)
        reject(
            "in_distribution",
            free & same[image_of],
            folder=str(rules.in_distribution),
            compared_with=len(known),
            unreadable=len(known_faults),
            max_bits=rules.max_bits,
        )
    if rules.max_probability is not None:
        limit = rules.max_probability
        reject("max_probability", free & (table.probability > limit), limit=limit)
    keep = decidable & ~out & rules.keep_rest
    if rules.keep_rest:
        note("keep_rest", keep)
    left = (table.states == UNSEEN) & ~out & ~keep
    entry = dict(
        note=NOTE,
        finished=False,
        rules=log,
        rejected=int(out.sum()),
        kept=int(keep.sum()),
        left_unseen=int(left.sum()),
        unreadable=int((unseen & ~readable).sum()),
    )
    summary = dict(summary, auto=[*summary.get("auto", []), entry])
    path = review.path.with_suffix(".json")
    write_json(path, summary)
    for state, rows in (("rejected", out), ("kept", keep)):
        if rows.any():
            review.decide(np.flatnonzero(rows).tolist(), state, looked_at=())
    review.save()
    entry["finished"] = True
    write_json(path, summary)
    return entry, {**faults, **known_faults}


def rules_table(entry: dict) -> str:
    """What :func:`apply_rules` logged, as a table for a terminal."""
    table = PrettyTable(["rule", "parameters", "rows", "images"], align="r", title=NOTE)
    table.align["rule"] = table.align["parameters"] = "l"
    for rule in entry["rules"]:
        fixed = ("rule", "rows", "images")
        parameters = [f"{key}={rule[key]}" for key in rule if key not in fixed]
        name = "keep_rest: kept" if rule["rule"] == "keep_rest" else rule["rule"]
        last = rule is entry["rules"][-1]
        row = [name, "\n".join(parameters), rule["rows"], rule["images"]]
        table.add_row(row, divider=last)
    table.add_row(["rejected by any of them", "", entry["rejected"], ""])
    table.add_row(["left unseen", "", entry["left_unseen"], ""])
    table.add_row(["not readable, left unseen", "", "", entry["unreadable"]])
    return str(table)


def image_hash(path: str | os.PathLike, decoding: Decoding = PICTURE) -> np.ndarray:
    """The 64-bit difference hash (dHash) of an image.

    The picture is averaged over 8 × 9 cells of equal size, in shades of grey. Bit
    (i, j) says whether cell (i, j + 1) is brighter than cell (i, j). Copies in another
    size or format differ in few bits. So do different pictures with hardly any
    structure, as of an empty sky: they count as the same. Source: N. Krawetz, "Kind of
    Like That", hackerfactor.com, 2013.

    Returns:
        The bits, row by row. Shape (8,), uint8.

    Raises:
        PictureError: The image is missing or cannot be read; says why.
    """
    # A JPEG decoder can leave out what would be averaged away.
    grey = np.array(open_picture(path, (144, 128), "L", decoding))
    cells = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA)
    return np.packbits(cells[:, 1:] > cells[:, :-1])


def near(hashes: np.ndarray, others: np.ndarray, max_bits: int) -> np.ndarray:
    """Which hashes differ in at most ``max_bits`` bits from one of the others.

    Shape:
        - hashes: (N, 8), others: (M, 8), uint8
        - output: (N,), bool
    """
    if not len(hashes) or not len(others):
        return np.zeros(len(hashes), dtype=bool)
    distance, _ = cv2.batchDistance(
        hashes, others, cv2.CV_32S, normType=cv2.NORM_HAMMING, K=1
    )
    return distance[:, 0] <= max_bits


def duplicates(hashes: np.ndarray, max_bits: int) -> np.ndarray:
    """Which hashes look like an earlier one that is no duplicate itself.

    All pairs are compared, of 100,000 hashes in about a minute, and memory is for one
    block of them.

    Shape:
        - hashes: (N, 8), uint8, the most wanted first
        - output: (N,), bool
    """
    found = np.zeros(len(hashes), dtype=bool)
    staying = np.empty_like(hashes)
    count = 0
    starts = range(0, len(hashes), BLOCK)
    for start in tqdm(starts, desc="duplicates", disable=None):
        block = hashes[start : start + BLOCK]
        copy = near(block, staying[:count], max_bits)
        bits = np.unpackbits(block[:, None] ^ block, axis=2).sum(axis=2)
        for number, close in enumerate(bits <= max_bits):
            copy[number] |= (close & ~copy)[:number].any()
        found[start : start + BLOCK] = copy
        new = block[~copy]
        staying[count : count + len(new)] = new
        count += len(new)
    return found


def _in_distribution(
    rules: Rules, decoding: Decoding
) -> tuple[np.ndarray, dict[str, str]]:
    """Hashes of the folder's images (M, 8), and why others have none."""
    folder = rules.in_distribution
    if folder is None:
        return np.zeros((0, 8), dtype=np.uint8), {}
    paths = [item.source for item in list_folder(folder, "in_distribution")]
    hashes, faults = _hashes(paths, str(folder), decoding)
    if len(faults) == len(paths):
        raise ValueError(f"in_distribution: {folder} holds no image that can be read")
    return hashes[[path not in faults for path in paths]], faults


def _hashes(
    paths: Sequence[str], label: str, decoding: Decoding
) -> tuple[np.ndarray, dict[str, str]]:
    """Hashes (N, 8), zeros where there is none, and path -> reason of these."""
    hashes = np.zeros((len(paths), 8), dtype=np.uint8)
    faults = {}
    bar = tqdm(paths, desc=label, unit="image", disable=None)
    for number, path in enumerate(bar):
        try:
            hashes[number] = image_hash(path, decoding)
        except PictureError as error:
            faults[path] = str(error)
    return hashes, faults
