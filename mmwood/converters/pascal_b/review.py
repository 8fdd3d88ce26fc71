"""What people look at: pictures of the masks, and the manifest that lists them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mmwood.converters.pascal_b.annotations import Scene
from mmwood.converters.pascal_b.drawing import draw_review
from mmwood.converters.reviewed import reviewed_rows
from mmwood.converters.writer import save_jpeg
from mmwood.fileio.candidates import Candidate, write_manifest
from mmwood.fileio.files import file_sha256, remove_leftovers
from mmwood.fileio.images import read_rgb
from mmwood.fileio.labels import VOID
from mmwood.fileio.lists import TaggedImage, bullets, read_id_list

#: The manifest of the pictures that people review, in their folder.
REVIEW = "review.csv"


def check_review(folder: Path, names: Sequence[str]) -> None:
    """Refuse a manifest that is faulty, under review, or of something else."""
    with reviewed_rows(folder / REVIEW, "review") as rows:
        for line, row in rows:
            if row.class_name not in names:
                raise ValueError(
                    f"review: {folder / REVIEW}:{line}: {row.class_name!r} is no class "
                    "of this data set: name another folder"
                )


def read_exclude(path: Path, sources: Iterable[Mapping[int, Scene]]) -> list[str]:
    """The ids of rejected images, from a list or a manifest.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is faulty or under review, or an image is not in ``sources``.
    """
    if not path.is_file():
        raise FileNotFoundError(f"exclude: there is no file {path}")
    known = {scene.stem for scenes in sources for scene in scenes.values()}
    if path.suffix == ".csv":
        with reviewed_rows(path, "exclude") as rows:
            items = [
                TaggedImage(Path(row.image).stem, None, f"{path}:{line}")
                for line, row in rows
                if row.state == "rejected"
            ]
    else:
        items = read_id_list(path)
    # Not Path.stem for all: an id may hold a dot.
    stems = [i.image if i.image in known else Path(i.image).stem for i in items]
    unknown = [
        f"{item.source}: {item.image}"
        for item, stem in zip(items, stems)
        if stem not in known
    ]
    if unknown:
        raise ValueError(
            f"exclude: {len(unknown)} of {len(items)} images are not in the "
            "annotations:" + bullets(unknown)
        )
    return sorted(set(stems))


def write_review(
    folder: Path,
    drawn: Iterable[tuple[Scene, Path, np.ndarray, np.ndarray]],
    names: Sequence[str],
) -> None:
    """Write the pictures, and the manifest that lists them."""
    with reviewed_rows(folder / REVIEW, "review") as lines:
        # The folder may have been moved, or be named from elsewhere.
        old = {folder / r.class_name / Path(r.image).name: r for _, r in lines}
        remove_leftovers(folder)
        rows = []
        for scene, source, classes, ids in drawn:
            image = read_rgb(source)
            for label in sorted(set(np.unique(classes).tolist()) - {0, VOID}):
                name = names[label - 1]
                path = folder / name / f"{scene.stem}.jpg"
                save_jpeg(draw_review(image, classes, ids, label), path, quality=90)
                digest = file_sha256(path)
                before = old.pop(path, None)
                same = before is not None and before.sha256 == digest
                state = before.state if before and same else "unseen"
                fraction = round(float((classes == label).mean()), 6)
                rows.append(Candidate(str(path), name, fraction, 0, state, digest))
        # Without the rejected rows the next build would choose their images again.
        stay = {path: row for path, row in old.items() if row.state != "unseen"}
        rows += [replace(row, image=str(path)) for path, row in stay.items()]
        rows.sort(key=lambda r: (names.index(r.class_name), -r.probability, r.image))
        ranks: Counter[str] = Counter()
        for row in rows:
            ranks[row.class_name] += 1
            row.rank = ranks[row.class_name]
        write_manifest(folder / REVIEW, rows)
        for path in old.keys() - stay.keys():
            path.unlink(missing_ok=True)
