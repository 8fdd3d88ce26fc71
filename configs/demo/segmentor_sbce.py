# Task B: gone on with from task A, size-balanced and held by EWC.
_base_ = "./segmentor_ce.py"

model = dict(
    decode_head=dict(loss_decode=dict(_delete_=True, type="mmwood.SizeBalancedCELoss"))
)
custom_hooks = [
    dict(
        type="mmwood.EWCHook",
        mode="penalise",
        weight=10000.0,
        file="work_dirs/demo/segmentor/ewc.safetensors",
    )
]
