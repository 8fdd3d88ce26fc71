# Task B: from task A's weights, size-balanced cross-entropy with EWC's penalty.
_base_ = "../wood/deeplabv2_wrn38_coco14.py"

model = dict(
    decode_head=dict(
        loss_decode=dict(_delete_=True, type="mmwood.SizeBalancedCELoss", limit=5.0)
    )
)
custom_hooks = [
    dict(
        type="mmwood.EWCHook",
        mode="penalise",
        weight=100.0,
        file="work_dirs/deeplabv2_wrn38_coco14_task-a/ewc.safetensors",
    )
]
load_from = "work_dirs/deeplabv2_wrn38_coco14_task-a/iter_100000.pth"
