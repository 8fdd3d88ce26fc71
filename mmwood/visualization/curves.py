"""The seed curve as a picture: scores over background thresholds.

:class:`mmwood.SeedMetric` writes it as ``seed_curve.png``. A report draws its own, with
all branches: ``curve_chart`` in :mod:`mmwood.report.pictures`.
"""

import os

from mmwood.visualization.figures import new_figure, save_figure


def save_threshold_curve(curve: dict, path: str | os.PathLike) -> None:
    """Draw seed mIoU, precision, recall and F1 over the background threshold."""
    figure = new_figure(6.4, 4.4)
    axes = figure.add_subplot()
    thresholds = [point["threshold"] for point in curve["curve"]]
    for name, colour, width in (
        ("mIoU", "#1f4e79", 2.6),
        ("precision", "#c55a11", 1.3),
        ("recall", "#548235", 1.3),
        ("F1", "#7f7f7f", 1.3),
    ):
        values = [point[name] for point in curve["curve"]]
        axes.plot(thresholds, values, color=colour, linewidth=width, label=name)
    configured, best = curve["configured"], curve["best"]
    axes.axvline(configured["threshold"], color="black", linewidth=1, linestyle=":")
    for point, marker, note in (
        (configured, "s", "configured"),
        (best, "*", "best, chosen with pixel masks"),
    ):
        axes.plot(
            point["threshold"],
            point["mIoU"],
            marker,
            color="#1f4e79",
            markersize=13 if marker == "*" else 7,
            label=f"{note}: {point['mIoU']:.1f} at {point['threshold']:.2f}",
            linestyle="none",
        )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 100)
    axes.set_xlabel("background threshold")
    axes.set_ylabel("percent")
    axes.set_title("Seed quality")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, framealpha=0.9)
    save_figure(figure, path)
