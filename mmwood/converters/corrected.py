"""Label maps of which a person has corrected some."""

from pathlib import Path

from mmwood.converters.writer import Writer
from mmwood.fileio.files import files_by_id
from mmwood.fileio.label_folder import PSEUDO_LABELS, LabelFolder
from mmwood.fileio.labels import check_labels, read_label_png
from mmwood.fileio.lists import bullets


def replace_corrected(labels: Path, corrected: Path, out: Path) -> dict[str, int]:
    """Write pseudo masks anew, with those that are corrected in their places.

    Returns:
        How many there are of ``images``, and of ``corrected`` ones.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: ``labels`` is not complete; a corrected mask has another size or
            other values, or no image (names all); or ``out`` holds something else.
    """
    source, target = LabelFolder(labels, "LABELS"), LabelFolder(out, "--out")
    found = source.require(dict(format=PSEUDO_LABELS), "tools/test.py", "--overwrite")
    if not corrected.is_dir():
        raise FileNotFoundError(f"--corrected: there is no folder {corrected}")
    classes = found["classes"]
    masks, files = files_by_id(labels / "labels"), files_by_id(corrected)
    faults = [
        f"{path}: there is no {source.label(name)}"
        for name, path in files.items()
        if name not in masks
    ]
    for name in files.keys() & masks.keys():
        try:
            label = read_label_png(files[name], "mask")
            check_labels(label, files[name], len(classes))
        except ValueError as error:
            faults.append(str(error))
            continue
        shape = read_label_png(masks[name]).shape
        if label.shape != shape:
            faults.append(
                f"{files[name]} has (W, H) = {label.shape[::-1]}, {masks[name]} "
                f"{shape[::-1]}"
            )
    if faults:
        raise ValueError(
            f"--corrected: {len(faults)} of {len(files)} masks cannot be used:"
            + bullets(sorted(faults))
        )
    description = dict(format=PSEUDO_LABELS, classes=classes, corrected=True)
    if source.holds_biased:
        description["biased"] = found["biased"]
    target.compare(description, "remove it")
    target.begin(description)
    writer = Writer(overwrite=True)
    for name, path in masks.items():
        writer.label(target.label(name), read_label_png(files.get(name, path)))
    for name, path in files_by_id(out / "labels").items():
        if name not in masks:
            path.unlink()
    target.finish(description, len(masks))
    return dict(images=len(masks), corrected=len(files))
