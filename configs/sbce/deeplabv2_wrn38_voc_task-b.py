# Task B: from task A's weights, size-balanced cross-entropy with EWC's penalty.
_base_ = "./deeplabv2_wrn38_voc_task-a.py"

task_a = "work_dirs/deeplabv2_wrn38_voc_task-a"
model = dict(
    decode_head=dict(
        loss_decode=dict(_delete_=True, type="mmwood.SizeBalancedCELoss", limit=5.0)
    )
)
default_hooks = dict(
    ewc=dict(mode="penalise", weight=100.0, file=f"{task_a}/ewc.safetensors")
)
load_from = f"{task_a}/iter_30000.pth"
