# What all segmentation networks share: hooks, loaders, evaluators, and the test-time
# pipelines: one scale, and six with flips (--tta).
default_scope = "mmseg"

test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]
tta_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(
        type="TestTimeAug",
        transforms=[
            [
                dict(type="Resize", scale_factor=scale, keep_ratio=True)
                for scale in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
            ],
            [dict(type="mmwood.RandomFlip", prob=p) for p in (0.0, 1.0)],
            [dict(type="LoadAnnotations")],
            [dict(type="PackSegInputs")],
        ],
    ),
]
# With the dense CRF of DeepLab: --tta --cfg-options tta_model.crf.iterations=10
tta_model = dict(type="mmwood.SegTTAModel")

train_dataloader = dict(
    batch_size=10,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    collate_fn=dict(type="pseudo_collate"),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    sampler=dict(type="DefaultSampler", shuffle=False),
    # Collated by mmengine's default, pseudo_collate: MMSegInferencer takes no config of
    # a function here.
    dataset=dict(pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type="mmwood.NamedEvaluator",
    metrics=dict(
        iou=dict(type="IoUMetric", iou_metrics=["mIoU"]),
        ia_iou=dict(type="mmwood.IAIoUMetric"),
    ),
)
test_evaluator = val_evaluator

default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type="ParamSchedulerHook"),
    # Two are kept: the older one is removed before the new one is written.
    checkpoint=dict(
        type="CheckpointHook",
        by_epoch=False,
        interval=2000,
        max_keep_ckpts=2,
        backend_args=dict(backend="mmwood"),
    ),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    visualization=dict(type="SegVisualizationHook"),
    start_check=dict(type="mmwood.StartCheckHook"),
    checkpoint_guard=dict(type="mmwood.CheckpointGuardHook"),
    progress_bar=dict(type="mmwood.ProgressBarHook"),
)
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),
)
vis_backends = [dict(type="LocalVisBackend")]
visualizer = dict(
    type="SegLocalVisualizer", vis_backends=vis_backends, name="visualizer"
)
log_processor = dict(by_epoch=False)
log_level = "INFO"
load_from = None
resume = False
randomness = dict(seed=0)
