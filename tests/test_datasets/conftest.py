from pathlib import Path

import numpy as np
import pytest
from PIL import Image

MANIFEST = """image,class,probability,rank,state,sha256
a.jpg,disc,0.9,1,kept,
b.jpg,disc,0.8,1,rejected,
c.jpg,disc,0.7,1,unseen,
d.jpg,disc,0.6,1,kept,
a.jpg,square,0.95,1,kept,
b.jpg,square,0.85,1,kept,
c.jpg,square,0.6,1,kept,
e.jpg,square,0.55,1,unseen,
./d.jpg,square,0.5,1,kept,
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five images, each another one, and their manifest ``ood.csv``."""
    folder = tmp_path / "ood"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for name in "abcde":
        picture = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(picture).save(folder / f"{name}.jpg")
    (folder / "ood.csv").write_text(MANIFEST)
    return folder
