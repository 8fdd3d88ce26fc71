"""Installation: ``pip install -e ".[onedl]"`` or ``".[openmmlab]"``."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
EXTRAS = ("onedl", "openmmlab", "crf", "coco", "review", "demo", "docs", "tests")


def requirements(name: str) -> list[str]:
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def version() -> str:
    for line in (ROOT / "mmwood" / "__init__.py").read_text().splitlines():
        if line.startswith("__version__"):
            return line.split('"')[1]
    raise RuntimeError("mmwood/__init__.py states no __version__")


setup(
    name="mmwood",
    version=version(),
    description="Segmentation from image tags, as a plugin for OpenMMLab 2.x",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    # Named, because several OpenMMLab distributions install top-level folders such as
    # tests/ beside their package.
    packages=find_packages(include=["mmwood", "mmwood.*"]),
    package_data={"mmwood": ["**/*.csv", "**/*.css", "**/*.html", "**/*.js"]},
    install_requires=requirements("runtime"),
    extras_require={name: requirements(name) for name in EXTRAS},
)
