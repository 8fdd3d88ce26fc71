"""What every chart begins and ends with."""

import os

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mmwood.fileio.files import atomic_write

__all__ = ["add_title", "new_figure", "save_figure"]


def new_figure(width: float, height: float) -> Figure:
    """A figure of so many inches that needs no display."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def add_title(figure: Figure, title: str, note: str) -> None:
    """A title, and a note below it if there is one."""
    figure.suptitle(title + (f"\n{note}" if note else ""), fontsize=10)


def save_figure(figure: Figure, path: str | os.PathLike) -> None:
    """Write the figure, atomically; the suffix of ``path`` is the format."""
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=120)
