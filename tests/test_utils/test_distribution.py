"""Which distribution of OpenMMLab is found, where these are installed."""

from importlib import metadata

import pytest

from mmwood.utils.distribution import DistributionError, check_distribution

ONEDL = ("onedl-mmengine", "onedl-mmcv")
CLASSIC = ("mmengine", "mmcv")


@pytest.fixture
def check(monkeypatch):
    """The check where exactly these distributions are installed."""

    def check(*distributions: str) -> str:
        def version(name: str) -> str:
            if name not in distributions:
                raise metadata.PackageNotFoundError(name)
            return "1.0"

        monkeypatch.setattr(metadata, "version", version)
        return check_distribution()

    return check


def test_one_distribution(check):
    assert check(*ONEDL) == "onedl"
    assert check(*CLASSIC) == "openmmlab"


@pytest.mark.parametrize("distributions", [(), ("onedl-mmcv",)])
def test_a_missing_package_names_the_command(check, distributions):
    with pytest.raises(
        DistributionError, match=r'mmengine.* is not.*`pip install -e "\.\[onedl\]"`'
    ) as error:
        check(*distributions)
    assert len(str(error.value).splitlines()) == 1


def test_two_distributions_name_the_command(check):
    message = "`pip uninstall -y onedl-mmengine mmengine`"
    with pytest.raises(DistributionError, match=message) as error:
        check(*ONEDL, "mmengine")
    assert len(str(error.value).splitlines()) == 1
