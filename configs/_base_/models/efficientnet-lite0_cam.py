# A classifier on EfficientNet-Lite0, its batch normalisation in evaluation.
_base_ = "./efficientnet-lite0.py"

model = dict(
    type="mmwood.CAMClassifier",
    norm_eval=True,
    head=dict(type="mmwood.CAMHead", num_classes=20, in_channels=1280),
)
