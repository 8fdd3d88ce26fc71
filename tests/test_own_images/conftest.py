"""A folder as a person has it: photographs of any suffix, size and orientation."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

#: Names of the images, and their tags.
IMAGES = {
    "a.jpg": "boat",
    "b.png": "train",
    "walks/c.tif": "train;boat",
    "walks/d.JPG": "boat",
    "empty 1.jpg": "",
    "empty 2.png": "",
}
#: EXIF's orientation: turned by 90 degrees.
ORIENTATION, TURNED = 0x0112, 6


def save(path: Path, size: tuple[int, int], seed: int, turned: bool = False) -> None:
    """Save a smooth image of some size (W, H) as its file has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
    exif = Image.Exif()
    if turned:
        exif[ORIENTATION] = TURNED
    image.save(path, exif=exif)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six images, two of them without a tag, one turned by its camera."""
    root = tmp_path / "my_images"
    for number, name in enumerate(IMAGES):
        size = (60, 48) if number else (48, 60)
        save(root / name, size, number, turned=name == "a.jpg")
    rows = [f"{name},{tags}" for name, tags in IMAGES.items()]
    (root / "tags.csv").write_text("\n".join(["image,labels", *rows]) + "\n")
    return root


@pytest.fixture
def deepen(folder: Path) -> Callable[[int, int], None]:
    """Give the images of :func:`folder` 16 bits: times the first plus the second."""

    def run(factor: int, offset: int) -> None:
        for name in IMAGES:
            image = ImageOps.exif_transpose(Image.open(folder / name)).convert("RGB")
            values = np.asarray(image)[..., ::-1].astype(np.uint16) * factor + offset
            (folder / name).unlink()
            path = (folder / name).with_suffix(".png")
            assert cv2.imwrite(str(path), values)
        rows = [f"{Path(name).with_suffix('.png')},{IMAGES[name]}" for name in IMAGES]
        (folder / "tags.csv").write_text("\n".join(["image,labels", *rows]) + "\n")

    return run


@pytest.fixture
def save_image() -> Callable:
    """:func:`save`, for tests."""
    return save
