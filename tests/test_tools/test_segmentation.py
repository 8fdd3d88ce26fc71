"""A stock MMSegmentation config through the same commands."""

import json

import pytest

pytest.importorskip("mmseg")

CONFIG = """
default_scope = "mmseg"
dataset = dict(
    type="BaseSegDataset", data_root="{root}",
    metainfo=dict(classes=["background", "disc", "square", "stripe"],
                  palette=[[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]),
    data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClass"))
model = dict(
    type="EncoderDecoder",
    data_preprocessor=dict(type="SegDataPreProcessor", mean=[127.5] * 3,
                           std=[127.5] * 3, bgr_to_rgb=True, size=(32, 32),
                           pad_val=0, seg_pad_val=255),
    backbone=dict(type="ResNetV1c", depth=18, stem_channels=8, base_channels=8),
    decode_head=dict(type="FCNHead", in_channels=64, in_index=3, channels=8,
                     num_convs=1, num_classes=4,
                     loss_decode=dict(type="mmwood.SizeBalancedCELoss")),
    test_cfg=dict(mode="whole"))
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type="InfiniteSampler"),
    dataset=dict(**dataset, pipeline=[
        dict(type="LoadImageFromFile"), dict(type="LoadAnnotations"),
        dict(type="Resize", scale=(40, 40)),
        dict(type="RandomCrop", crop_size=(32, 32)), dict(type="PackSegInputs")]))
load = [dict(type="LoadImageFromFile"), dict(type="LoadAnnotations")]
test_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(**dataset, pipeline=[*load, dict(type="PackSegInputs")]))
test_evaluator = dict(type="IoUMetric", iou_metrics=["mIoU"])
test_cfg = dict(type="TestLoop")
tta_model = dict(type="SegTTAModel")
tta_pipeline = [dict(type="LoadImageFromFile", backend_args=None), dict(
    type="TestTimeAug", transforms=[
        [dict(type="Resize", scale_factor=s, keep_ratio=True) for s in (1.0, 1.5)],
        [dict(type="RandomFlip", prob=0.0), dict(type="RandomFlip", prob=1.0)],
        [dict(type="LoadAnnotations")], [dict(type="PackSegInputs")]])]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=2)
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.01))
default_hooks = dict(
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=2),
    logger=dict(type="LoggerHook", interval=1, log_metric_by_epoch=False),
    visualization=dict(type="SegVisualizationHook"))
visualizer = dict(type="SegLocalVisualizer", name="visualizer",
                  vis_backends=[dict(type="LocalVisBackend")])
log_processor = dict(by_epoch=False)
"""


def test_train_and_test_a_stock_segmentation_config(voc_folder, run_tool, tmp_path):
    (tmp_path / "fcn.py").write_text(CONFIG.format(root=voc_folder))
    text = run_tool("train.py", "fcn.py", "--work-dir", "work")
    assert "decode.loss_sbce" in text
    checkpoint = "work/iter_2.pth"
    run_tool(
        *("test.py", "fcn.py", checkpoint, "--work-dir", "tested"),
        *("--out", "metrics.json", "--show-dir", "pictures"),
    )
    assert "mIoU" in json.loads((tmp_path / "metrics.json").read_text())
    assert len(list((tmp_path / "pictures").rglob("*.png"))) == 6
    run_tool("test.py", "fcn.py", checkpoint, "--tta")
