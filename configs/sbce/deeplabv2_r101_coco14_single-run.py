# Both tasks in one run, half of it each, as deeplabv2_r101_voc_single-run.py.
_base_ = "../segmentation/deeplabv2_r101_coco14.py"

model = dict(
    decode_head=dict(
        loss_decode=dict(_delete_=True, type="mmwood.SizeBalancedCELoss", limit=5.0)
    )
)
default_hooks = dict(
    ewc=dict(type="mmwood.EWCHook", mode="switch", switch_at=50000, weight=100.0)
)
