"""Installation: ``pip install -e ".[onedl]"`` or ``".[openmmlab]"``."""

import os
import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
EXTRAS = (
    "onedl",
    "openmmlab",
    "coco",
    "export",
    "bands",
    "parquet",
    "remote",
    "clip",
    "review",
    "demo",
    "docs",
    "tests",
)
#: What a wheel holds in mmwood/.mim/, where OpenMMLab's mim and mmwood look for it.
MIM = ("configs", "tools", "model-index.yml")


def requirements(name: str) -> list[str]:
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def version() -> str:
    for line in (ROOT / "mmwood" / "__init__.py").read_text().splitlines():
        if line.startswith("__version__"):
            return line.split('"')[1]
    raise RuntimeError("mmwood/__init__.py states no __version__")


def description() -> str:
    """README without what leads to files of the repository, which PyPI has not."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    # Pictures with their captions, then links.
    text = re.sub(r"!\[[^]]*\]\((?!https:)[^)]*\)\n\n(?:\*[^*]+\*\n\n)?", "", text)
    return re.sub(r"\[([^]]+)\]\((?!https:)[^)]*\)", r"\1", text)


class BuildWithMim(build_py):
    """Adds mmwood/.mim/: copies for a wheel, links for a development install."""

    def run(self) -> None:
        super().run()
        folder = ROOT if self.editable_mode else Path(self.build_lib)
        folder = folder / "mmwood/.mim"
        # What an earlier build left.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        hidden = shutil.ignore_patterns("__pycache__", ".*")
        for name in MIM:
            source, target = ROOT / name, folder / name
            if self.editable_mode:
                target.symlink_to(os.path.relpath(source, folder))
            elif source.is_dir():
                shutil.copytree(source, target, ignore=hidden)
            else:
                shutil.copy(source, target)


setup(
    name="mmwood",
    version=version(),
    description="Segmentation from image tags, as a plugin for OpenMMLab 2.x",
    long_description=description(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    keywords="weakly supervised semantic segmentation, class activation maps",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
    python_requires=">=3.10",
    # Named, because several OpenMMLab distributions install top-level folders such as
    # tests/ beside their package.
    packages=find_packages(include=["mmwood", "mmwood.*"]),
    package_data={
        "mmwood": ["py.typed", "**/*.csv", "**/*.css", "**/*.html", "**/*.js"],
        "mmwood.converters.mini_voc": ["*.txt"],
    },
    install_requires=requirements("runtime"),
    extras_require={name: requirements(name) for name in EXTRAS},
    entry_points={"console_scripts": ["mmwood = mmwood.__main__:main"]},
    cmdclass={"build_py": BuildWithMim},
)
