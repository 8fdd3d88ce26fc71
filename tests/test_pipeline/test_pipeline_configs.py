"""Every pipeline of configs/pipelines/ names what there is."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mmwood.pipeline.graph import load_pipeline
from mmwood.pipeline.references import references
from mmwood.utils.locations import find_config

REPOSITORY = Path(__file__).parents[2]
PIPELINES = sorted(
    path
    for path in (REPOSITORY / "configs/pipelines").glob("*.py")
    # It runs with --data: tests/test_own_images/.
    if path.stem != "own_images"
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where the repository's configs are at hand."""
    (tmp_path / "configs").symlink_to(REPOSITORY / "configs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_inputs(path: Path) -> None:
    """An empty folder for each input that is absent."""
    for value in Config.fromfile(path).inputs.values():
        if references(value) or Path(value).exists():
            continue
        Path(value).mkdir(parents=True)


@pytest.mark.slow
@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_a_pipeline_loads_and_its_options_are_of_its_configs(place, path):
    make_inputs(path)
    pipeline = load_pipeline(path, REPOSITORY / "tools")
    for stage in pipeline.stages.values():
        if not stage.runs_config:
            continue
        source = pipeline.resolve(stage, stage.source)
        if not source.startswith("configs/"):
            continue
        cfg = Config.fromfile(source)
        for key, value in stage.options.items():
            if value is None:
                continue
            # The config has the place; the field may be a new one.
            parents = key.split(".")[:-1]
            place = cfg
            for number, name in enumerate(parents):
                if isinstance(place, dict) and name not in place:
                    assert number == len(parents) - 1, f"{stage.name}: no {key}"
                    break
                place = place[int(name) if isinstance(place, list) else name]
            cfg.merge_from_dict({key: value})


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_what_a_report_shows_is_made(place, path):
    make_inputs(path)
    pipeline = load_pipeline(path, REPOSITORY / "tools")
    (report,) = (s for s in pipeline.stages.values() if s.kind == "report")
    shown = {name for text in report.texts() for name, _ in references(text)}
    tests = {name for name in pipeline.stages if name.startswith(("seeds", "test"))}
    assert tests <= shown
    # Everything is needed by something, but for what is looked at.
    needed = {need for needs in pipeline.needs.values() for need in needs}
    ends = {"report", "clusters"}
    assert set(pipeline.stages) - needed <= ends


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "branch", "labels", "power", "threshold"),
    [
        ("voc12_r101", "plain", (0.30, 0.15), 1, 0.25),
        ("voc12_r101", "wood", (0.30, 0.15), 1, 0.25),
        ("coco14_r101", "plain", (0.30, 0.15), 1, 0.25),
        ("coco14_r101", "wood", (0.30, 0.15), 1, 0.25),
        ("voc12_advcam", "plain", (0.35, 0.15), 1.5, 0.25),
        ("voc12_advcam", "wood", (0.30, 0.15), 1.5, 0.22),
    ],
)
def test_irn_has_the_settings_of_the_programs(
    place, name, branch, labels, power, threshold
):
    pipeline = Config.fromfile(REPOSITORY / f"configs/pipelines/{name}.py")
    source = pipeline.inputs.irn_config

    def with_options(stage: str) -> Config:
        cfg = Config.fromfile(REPOSITORY / source)
        cfg.merge_from_dict(dict(pipeline.stages[f"{stage}_{branch}"].options))
        return cfg

    for stage in ("affinity", "irn"):
        step = with_options(stage).train_dataloader.dataset.pipeline.label
        assert (step.foreground, step.background) == labels
    cfg = with_options("masks")
    assert cfg.model.test_cfg.get("cam_power", 1) == power
    thresholds = (
        cfg.default_hooks.pseudo_label.threshold,
        cfg.default_hooks.visualization.threshold,
        cfg.test_evaluator.metrics.seeds.threshold,
    )
    assert set(thresholds) == {threshold}


def test_own_images_start_from_a_folder():
    path = REPOSITORY / "configs/pipelines/own_images.py"
    with pytest.raises(ValueError, match=r"inputs\.source names nothing: .* --data"):
        load_pipeline(path, REPOSITORY / "tools")


def test_configs_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = REPOSITORY / "configs/pipelines/demo.py"
    pipeline = load_pipeline(path, REPOSITORY / "tools")
    found = find_config(pipeline.path("wood_config"))
    assert found == REPOSITORY / "configs/demo/wood.py"
    assert pipeline.work_dir == Path("work_dirs/demo")


def test_ood_images_have_voc_s_size():
    stages = Config.fromfile(REPOSITORY / "configs/pipelines/voc12_r101.py").stages
    assert stages.mine.args[-2:] == ["--size", "500"]
    for name in ("wood/resnet50_wood_voc12aug", "seam/wrn38_seam_wood_voc12aug"):
        cfg = Config.fromfile(REPOSITORY / f"configs/{name}.py")
        assert cfg.default_hooks.ood_clusters.ood_size == 500
