"""A stock MMSegmentation config through the same commands."""

import json

import pytest
from mmengine.config import Config

pytest.importorskip("mmseg")

LOAD, MASK, PACK = (
    dict(type=name)
    for name in ("LoadImageFromFile", "LoadAnnotations", "PackSegInputs")
)
SCALES = [dict(type="Resize", scale_factor=s, keep_ratio=True) for s in (1.0, 1.5)]
FLIPS = [dict(type="RandomFlip", prob=prob) for prob in (0.0, 1.0)]
TEST = dict(
    test_evaluator=dict(type="IoUMetric", iou_metrics=["mIoU"]),
    test_cfg=dict(type="TestLoop"),
    tta_model=dict(type="SegTTAModel"),
    tta_pipeline=[
        dict(LOAD, backend_args=None),
        dict(type="TestTimeAug", transforms=[SCALES, FLIPS, [MASK], [PACK]]),
    ],
    default_hooks=dict(visualization=dict(type="SegVisualizationHook")),
    visualizer=dict(
        type="SegLocalVisualizer",
        name="visualizer",
        vis_backends=[dict(type="LocalVisBackend")],
    ),
)


@pytest.mark.slow
def test_train_and_test_a_stock_segmentation_config(
    stock_segmentor, run_tool, tmp_path
):
    cfg = Config.fromfile(stock_segmentor, format_python_code=False)
    cfg.merge_from_dict(TEST)
    cfg.test_dataloader = dict(
        batch_size=1,
        num_workers=0,
        sampler=dict(type="DefaultSampler", shuffle=False),
        dataset=dict(cfg.train_dataloader.dataset, pipeline=[LOAD, MASK, PACK]),
    )
    cfg.dump(tmp_path / "tested.py")
    text = run_tool("train.py", "tested.py", "--work-dir", "work")
    assert "decode.loss_sbce" in text
    checkpoint = "work/iter_2.pth"
    run_tool(
        *("test.py", "tested.py", checkpoint, "--work-dir", "tested"),
        *("--out", "metrics.json", "--show-dir", "pictures"),
    )
    assert "mIoU" in json.loads((tmp_path / "metrics.json").read_text())
    assert len(list((tmp_path / "pictures").rglob("*.png"))) == 6
    run_tool("test.py", "tested.py", checkpoint, "--tta")
