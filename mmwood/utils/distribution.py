"""Which of OpenMMLab's two distributions is installed, and whether it is one."""

from importlib import metadata

from mmwood.utils.locations import pip_install

#: What pip calls the packages of each, by import names. See requirements/.
ONEDL = {
    "mmengine": "onedl-mmengine",
    "mmcv": "onedl-mmcv",
    "mmseg": "onedl-mmsegmentation",
    "mmpretrain": "onedl-mmpretrain",
}
OPENMMLAB = {name: fork.removeprefix("onedl-") for name, fork in ONEDL.items()}


class DistributionError(ImportError):
    """OpenMMLab is missing, or two distributions of it overwrite each other."""


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def check_distribution(needs: tuple[str, ...] = ("mmengine", "mmcv")) -> str:
    """Say which distribution is installed.

    Returns:
        'onedl' or 'openmmlab'.

    Raises:
        DistributionError: A package is missing, or both distributions of one are
            installed, in which case files of one lie over files of the other. The
            message says which command to run.
    """
    doubled = [
        (ONEDL[name], OPENMMLAB[name])
        for name in ONEDL
        if _is_installed(ONEDL[name]) and _is_installed(OPENMMLAB[name])
    ]
    if doubled:
        names = " ".join(name for pair in doubled for name in pair)
        raise DistributionError(
            "Two distributions of OpenMMLab overwrite each other here: run "
            f"`pip uninstall -y {names}`, then `{pip_install('onedl')}`."
        )
    missing = [
        name
        for name in needs
        if not (_is_installed(ONEDL[name]) or _is_installed(OPENMMLAB[name]))
    ]
    if missing:
        raise DistributionError(
            f"OpenMMLab's {', '.join(missing)} is not installed: run "
            f"`{pip_install('onedl')}` (or the extra openmmlab, the classic packages)."
        )
    return "onedl" if _is_installed(ONEDL["mmengine"]) else "openmmlab"
