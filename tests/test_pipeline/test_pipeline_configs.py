"""Every pipeline of configs/pipelines/ names what there is."""

from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest
from mmengine.config import Config

from mmwood.pipeline.graph import load_pipeline
from mmwood.pipeline.references import references
from mmwood.pipeline.stage import PipelineError
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


@cache
def read_once(source: str) -> Config:
    return Config.fromfile(REPOSITORY / source)


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
        cfg = deepcopy(read_once(source))
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
        cfg = deepcopy(read_once(source))
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


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_the_upper_bound_is_task_a_with_the_true_masks(place, path):
    make_inputs(path)
    plain = load_pipeline(path, REPOSITORY / "tools")
    more = load_pipeline(path, REPOSITORY / "tools", switches=["upper_bound"])
    added = {"segmentor_upper", "test_upper"}
    assert set(more.stages) == set(plain.stages) | added
    for name, stage in plain.stages.items():
        # All others are as they were.
        assert (stage == more.stages[name]) == (name != "report")
    key = "train_dataloader.dataset.data_prefix.seg_map_path"
    upper, pseudo = more.stages["segmentor_upper"], more.stages["segmentor_a_wood"]
    assert upper.options[key] == "{masks}"
    # One does not read of the other, nor anybody but the report of its test.
    assert "segmentor_upper" in more.needs["test_upper"]
    readers = {name for name, needs in more.needs.items() if added & {*needs}}
    assert readers == {"test_upper", "report"}
    same = {"train_cfg", "optim_wrapper", "model"}
    for text in {*upper.options, *pseudo.options}:
        if text.partition(".")[0] in same:
            assert upper.options.get(text) == pseudo.options.get(text)
    for field in ("source", "args", "threads", "resume"):
        assert getattr(upper, field) == getattr(pseudo, field)
    # It starts from weights that are there.
    assert ("weights" in more.stages) == ("weights" in more.needs["segmentor_upper"])
    tests = more.stages["test_upper"], more.stages["test_a_wood"]
    assert tests[0].source == tests[1].source
    assert tests[0].args == tests[1].args


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_a_network_on_filtered_masks(place, path):
    make_inputs(path)
    plain = load_pipeline(path, REPOSITORY / "tools")
    if path.stem == "voc12_wrn38":
        with pytest.raises(PipelineError, match="label_filter: this pipeline has no"):
            load_pipeline(path, REPOSITORY / "tools", switches=["label_filter"])
        return
    more = load_pipeline(path, REPOSITORY / "tools", switches=["label_filter"])
    added = {"filter", "filter_scores", "segmentor_filter", "test_filter"}
    assert set(more.stages) == set(plain.stages) | added
    for name, stage in plain.stages.items():
        # All others are as they were.
        assert (stage == more.stages[name]) == (name != "report")
    key = "train_dataloader.dataset.data_prefix.seg_map_path"
    filtered, whole = more.stages["segmentor_filter"], more.stages["segmentor_a_wood"]
    assert filtered.options == {**whole.options, key: "{filter.labels}"}
    assert {*more.needs["filter"]} - {"weights", "draw", "wood"} == {"masks_wood"}
    assert "segmentor_filter" in more.needs["test_filter"]


def test_ood_images_in_the_network(place):
    path = REPOSITORY / "configs/pipelines/mini_voc.py"
    make_inputs(path)
    pipeline = load_pipeline(path, REPOSITORY / "tools", switches=["ood_in_network"])
    trained, compared = (
        pipeline.stages[n] for n in ("segmentor_ood", "segmentor_a_wood")
    )
    assert trained.source != compared.source
    length = "train_cfg.max_iters"
    assert trained.options[length] == compared.options[length]
    cfg = Config.fromfile(pipeline.resolve(trained, trained.source))
    for stage in ("segmentor_ood", "test_ood", "test_a_ood"):
        for key, value in pipeline.stages[stage].options.items():
            if value is None:
                continue
            place = cfg
            for name in key.split(".")[:-1]:
                place = place[name]
    assert pipeline.stages["test_a_ood"].checkpoint == "{segmentor_a_wood.checkpoint}"
    assert cfg.train_dataloader.dataset.ood.part == "train"
    assert cfg.test_dataloader.dataset.ood.part == "held-out"
    # Both read one list, so that the parts are of one.
    options = {**trained.options, **pipeline.stages["test_ood"].options}
    lists = [value for key, value in options.items() if key.endswith("ann_file")]
    assert lists == ["{review.manifest}"] * 2


@pytest.mark.parametrize(
    ("content", "switches", "message"),
    [
        ("upper_bound = 1", (), "upper_bound: expected True or False, got 1"),
        ("ood_in_network = True", (), "ood_in_network: this pipeline has no stage"),
        ("", ["uper_bound"], "uper_bound: known are upper_bound, label_filter"),
        ("stages = dict(clusters=dict(like='x'))", (), "clusters.like: there is no st"),
        ("stages = dict(clusters=dict(when='x'))", (), "when: expected one of upper_b"),
    ],
)
def test_refused_switches(place, content, switches, message):
    path = place / "mine.py"
    base = "own_images" if "ood" in content else "demo"
    path.write_text(
        f"_base_ = '{REPOSITORY}/configs/pipelines/{base}.py'\n{content}\n"
        "inputs = dict(source='.', plan='mine.py', irn_config='mine.py',\n"
        "    classifier_config='mine.py', segmentor_a_config='mine.py')\n"
    )
    with pytest.raises(PipelineError, match=message):
        load_pipeline(path, REPOSITORY / "tools", switches=switches)


def test_a_switch_in_one_s_own_config(place):
    base = REPOSITORY / "configs/pipelines/demo.py"
    (place / "mine.py").write_text(f"_base_ = '{base}'\nupper_bound = True\n")
    pipeline = load_pipeline(place / "mine.py", REPOSITORY / "tools")
    assert "test_upper" in pipeline.stages


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
