# W-OoD on mini_voc with fine-grained background (FBR), fine-tuned for an epoch from the
# classifier. Every pixel of an OoD image is background.
_base_ = "./efficientnet-lite0_wood_mini-voc.py"

model = dict(
    head=dict(
        feature_losses=dict(
            fbr=dict(type="mmwood.FineGrainedBackgroundLoss", in_channels=1280)
        )
    )
)
# Its layers are new.
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={"head.feature_losses": dict(lr_mult=10.0)})
)
