# One's own images for segmentation networks: trained on pseudo masks. A config over this
# names the images, their classes and the sizes. Without masks nothing is tested.
_base_ = "../segmentation.py"

train_dataloader = dict(batch_size=8, dataset=dict(type="BaseSegDataset"))
val_dataloader = val_evaluator = None
# The one scale that the network was trained at.
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(320, 320), keep_ratio=True),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]
test_dataloader = dict(dataset=dict(type="BaseSegDataset", pipeline=test_pipeline))
