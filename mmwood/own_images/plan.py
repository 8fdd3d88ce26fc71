"""A folder of images in, a pipeline out: what there is, the settings, their configs."""

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median_low
from textwrap import fill

from mmwood.fileio.decoding import PICTURE, Decoding
from mmwood.fileio.files import atomic_write, read_json, text_sha256, write_json
from mmwood.own_images.backbones import find_backbone
from mmwood.own_images.command import Untagged
from mmwood.own_images.configs import Places, write_configs
from mmwood.own_images.levels import deep_images, find_levels
from mmwood.own_images.prepare import image_sizes
from mmwood.own_images.settings import (
    Facts,
    Settings,
    choose_settings,
    default_backbone,
)
from mmwood.own_images.source import OwnImages, read_own_images
from mmwood.pipeline.references import references

#: What was written last time, by hash: another text is a person's.
_WRITTEN = "written.json"
_PLAN = "plan.json"
_NAME_WIDTH = 26


@dataclass(frozen=True)
class OwnPlan:
    """What was planned and written.

    Attributes:
        pipeline: The config to run.
        settings: What it follows from.
        notes: What a person should know.
        changed: Configs that a person has changed, so that they stayed.
    """

    pipeline: Path
    settings: Settings
    notes: list[str]
    changed: list[Path]

    def __str__(self) -> str:
        lines = [
            fill(
                f"{row.value}  ({row.reason})",
                100,
                initial_indent=f"{row.name:{_NAME_WIDTH}}",
                subsequent_indent=" " * _NAME_WIDTH,
                break_long_words=False,
                break_on_hyphens=False,
            )
            for row in self.settings.rows
        ]
        lines += [f"note: {note}" for note in self.notes]
        lines += [f"{path} was changed by hand and stays" for path in self.changed]
        return "\n".join(lines)


def plan_own_images(
    configs: Path,
    data: Path,
    work_dir: Path | None = None,
    tags: Path | None = None,
    candidates: Path | None = None,
    masks: Path | None = None,
    untagged: Untagged = "use",
    backbone: str | None = None,
    short: bool = False,
    decoding: Decoding = PICTURE,
    corrected: Path | None = None,
    filtered: bool = True,
) -> OwnPlan:
    """Plan a pipeline for a folder, and write its configs to ``work_dir/configs``.

    The same folder and options give the same bytes. A config that a person has changed
    since stays as it is. Arguments are as of
    :func:`mmwood.own_images.source.read_own_images`,
    :func:`mmwood.own_images.backbones.find_backbone` and
    :func:`mmwood.own_images.settings.choose_settings`.

    Raises:
        FileNotFoundError: A folder or a file is missing.
        ValueError: The data or an option is not what is expected; one names the other.
    """
    own = read_own_images(data, tags, candidates, masks, untagged, corrected)
    place = (work_dir or Path("work_dirs", data.resolve().name)).resolve()
    _refuse_taken(place, data.resolve())
    read = dict(data=data, candidates=candidates, masks=masks, corrected=corrected)
    for name, folder in read.items():
        if folder is not None:
            _refuse_inside(place, folder.resolve(), name)
    if corrected is not None and corrected.resolve().is_relative_to(place):
        raise ValueError(
            f"--corrected: {corrected} lies in the work dir, {place}, whose folders "
            "stages make anew: move a person's work out of it"
        )
    facts = gather_facts(own, decoding)
    names = default_backbone(facts.gpu) if backbone is None else (backbone, backbone)
    classifier, network = map(find_backbone, names)
    settings = choose_settings(facts, classifier, network, short, filtered)
    places = Places(
        configs=configs,
        work_dir=place,
        data=data.resolve(),
        tags=tags and tags.resolve(),
        candidates=candidates and candidates.resolve(),
        masks=masks and masks.resolve(),
        untagged=untagged,
        corrected=corrected and corrected.resolve(),
    )
    for text in map(str, (*own.classes, *vars(places).values())):
        if "{{" in text or references(text):
            raise ValueError(
                f"{text}: a name in braces is a reference in configs: rename it"
            )
    changed = _write(places.own, write_configs(own, facts, settings, places))
    content = dict(
        data=str(places.data),
        settings=[asdict(row) for row in settings.rows],
        notes=own.notes,
        changed=[path.name for path in changed],
    )
    write_json(places.own / _PLAN, content)
    return OwnPlan(places.own / "pipeline.py", settings, own.notes, changed)


def gather_facts(own: OwnImages, decoding: Decoding = PICTURE) -> Facts:
    """Sizes of images, from their headers, their levels, and the machine.

    Raises:
        ValueError: An image cannot be read; names all.
    """
    import torch

    gpu, memory = "", _ram()
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        gpu, memory = properties.name, properties.total_memory / 1e9
    bands = decoding.bands
    deep = deep_images(own, bands)
    named = decoding.levels is not None
    if deep and not named:
        decoding = find_levels(deep, bands)
    tagged = [item.image for item in own.tagged]
    return Facts(
        classes=tuple(own.classes),
        long_sides=_long_sides(own.root, tagged, decoding),
        deep=len(deep),
        decoding=decoding if deep else Decoding(bands=bands),
        levels_named=named,
        untagged=len(own.untagged),
        candidates=len(own.candidates),
        masks=len(own.masks),
        corrected=len(own.corrected),
        ood_long_side=_ood_long_side(own, decoding),
        gpu=gpu,
        memory=memory,
    )


def _ood_long_side(own: OwnImages, decoding: Decoding) -> int | None:
    sides = _long_sides(own.root, own.untagged, decoding)
    if own.candidates_root is not None:
        sides += _long_sides(own.candidates_root, own.candidates, decoding)
    return median_low(sides) if sides else None


def _long_sides(
    root: Path, images: Iterable[str], decoding: Decoding
) -> tuple[int, ...]:
    return tuple(map(max, image_sizes(root, images, decoding)))


def _ram() -> float:
    """Memory of the machine in GB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def _refuse_taken(work_dir: Path, data: Path) -> None:
    """Refuse a file, and a work dir whose results are of other images."""
    for path in (work_dir, *work_dir.parents):
        if path.is_file():
            raise ValueError(f"--work-dir: {path} is a file: name a folder")
    plan = work_dir / "configs" / _PLAN
    if not plan.is_file() or not (work_dir / "data").exists():
        return
    other = read_json(plan).get("data", "")
    # The images may have been moved.
    if other != str(data) and Path(other).is_dir():
        raise ValueError(
            f"--work-dir: {work_dir} has the results of {other}: name another folder"
        )


def _refuse_inside(work_dir: Path, folder: Path, name: str) -> None:
    """Keep what is written out of what is only read, and the other way round."""
    if work_dir.is_relative_to(folder):
        raise ValueError(
            f"--work-dir: {work_dir} lies in --{name} {folder}, which is only read: "
            "name a folder outside"
        )
    if folder.is_relative_to(work_dir / "data"):
        raise ValueError(
            f"--{name}: {folder} lies where the working copy goes, in "
            f"{work_dir / 'data'}: name another --work-dir"
        )


def _write(folder: Path, files: dict[str, str]) -> list[Path]:
    """Write configs; gives those that a person has changed, which stay."""
    record = folder / _WRITTEN
    known = read_json(record) if record.is_file() else {}
    changed = []
    for name, text in files.items():
        path = folder / name
        if path.is_file():
            there = path.read_text(encoding="utf-8")
            if there == text:
                known[name] = text_sha256(text)
                continue
            if known.get(name) != text_sha256(there):
                changed.append(path)
                continue
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        known[name] = text_sha256(text)
    write_json(record, dict(sorted(known.items())))
    return changed
