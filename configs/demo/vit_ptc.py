# Patch token contrast (ToCo) on a small vision transformer, from scratch on the built-in
# data.
_base_ = "./vit.py"

patch = 8
model = dict(
    head=dict(
        feature_losses=dict(
            ptc=dict(
                type="mmwood.PatchTokenContrastLoss",
                num_classes=6,
                in_channels=64,
                stride=patch,
            )
        )
    )
)
