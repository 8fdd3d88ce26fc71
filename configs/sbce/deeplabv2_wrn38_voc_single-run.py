# Both tasks in one run, switched as in the authors' program: after 15,000 of 30,000 iterations the
# loss becomes size-balanced and EWC's penalty joins. It can be resumed at any point. The
# text's loss: model.decode_head.loss_decode.form=text.
_base_ = "../segmentation/deeplabv2_wrn38_voc.py"

model = dict(
    decode_head=dict(
        loss_decode=dict(_delete_=True, type="mmwood.SizeBalancedCELoss", limit=5.0)
    )
)
default_hooks = dict(
    ewc=dict(type="mmwood.EWCHook", mode="switch", switch_at=15000, weight=100.0)
)
