# Task B: continued from task A, size-balanced and held by EWC. After `make demo`:
# tools/test.py THIS work_dirs/demo/segmentor_b_wood/iter_75.pth
_base_ = "./segmentor_ce.py"

model = dict(
    decode_head=dict(loss_decode=dict(_delete_=True, type="mmwood.SizeBalancedCELoss"))
)
default_hooks = dict(
    ewc=dict(
        type="mmwood.EWCHook",
        mode="penalise",
        weight=10000.0,
        file="work_dirs/demo/segmentor_a_wood/ewc.safetensors",
    )
)
