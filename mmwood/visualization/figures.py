"""What every chart begins and ends with."""

import os
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mmwood.fileio.files import atomic_write
from mmwood.fileio.images import SOFTWARE, refuse_foreign_drawing


def new_figure(width: float, height: float) -> Figure:
    """A figure of so many inches that needs no display."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def add_title(figure: Figure, title: str, note: str) -> None:
    """A title, and a note below it if there is one."""
    figure.suptitle(title + (f"\n{note}" if note else ""), fontsize=10)


def add_legend(figure: Figure, axes: Axes, columns: int) -> None:
    """A legend of what the axes show, below the figure."""
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=columns,
        fontsize=8,
        frameon=False,
    )


def save_figure(figure: Figure, path: str | os.PathLike) -> None:
    """Write the figure as a PNG, atomically.

    Raises:
        FileExistsError: There is a file that mmwood did not draw.
    """
    refuse_foreign_drawing(path)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=120, metadata=dict(Software=SOFTWARE))


def numbers_path(figure: Path, suffix: str = ".json", name: str = "") -> Path:
    """The file beside a figure that holds its numbers; ask before the figure is drawn.

    Args:
        figure: The figure.
        suffix: Of a file that is named like the figure.
        name: Of the file, where it is named otherwise.

    Raises:
        FileExistsError: The figure, or such a file without the figure, is somebody
            else's.
    """
    refuse_foreign_drawing(figure)
    path = figure.with_name(name or f"{figure.stem}{suffix}")
    if path.exists() and not figure.exists():
        raise FileExistsError(
            f"{path} is there, without {figure}, whose numbers it would hold: name "
            "another file with --out, or move it away"
        )
    return path
