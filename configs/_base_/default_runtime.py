# What all image-level stages share: hooks, logging, environment.
default_scope = "mmpretrain"

default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=50),
    param_scheduler=dict(type="ParamSchedulerHook"),
    # Two are kept: the older one is removed before the new one is written.
    checkpoint=dict(
        type="CheckpointHook",
        interval=1,
        max_keep_ckpts=2,
        backend_args=dict(backend="mmwood"),
    ),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    visualization=dict(type="mmwood.CAMVisualizationHook"),
    # By name, so that a config or --cfg-options can change one field of one hook:
    # default_hooks.pseudo_label.threshold=0.2
    start_check=dict(type="mmwood.StartCheckHook"),
    checkpoint_guard=dict(type="mmwood.CheckpointGuardHook"),
    progress_bar=dict(type="mmwood.ProgressBarHook"),
    pseudo_label=dict(
        type="mmwood.PseudoLabelHook", threshold=0.15, save_scores=["strided"]
    ),
)

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),
)
vis_backends = [dict(type="LocalVisBackend")]
visualizer = dict(type="UniversalVisualizer", vis_backends=vis_backends)
log_level = "INFO"
load_from = None
resume = False
randomness = dict(seed=0)
