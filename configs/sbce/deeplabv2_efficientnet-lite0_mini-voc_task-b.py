# Task B on mini_voc: from task A's weights, size-balanced cross-entropy with EWC's
# penalty.
_base_ = "../segmentation/deeplabv2_efficientnet-lite0_mini-voc.py"

task_a = "work_dirs/deeplabv2_efficientnet-lite0_mini-voc_task-a"
model = dict(
    decode_head=dict(
        loss_decode=dict(_delete_=True, type="mmwood.SizeBalancedCELoss", limit=5.0)
    )
)
train_cfg = dict(max_iters=250, val_interval=250)
optim_wrapper = dict(optimizer=dict(lr=0.001))
default_hooks = dict(
    ewc=dict(
        type="mmwood.EWCHook",
        mode="penalise",
        weight=100.0,
        file=f"{task_a}/ewc.safetensors",
    )
)
load_from = f"{task_a}/iter_500.pth"
