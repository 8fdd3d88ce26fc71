# IRN on COCO 2014, with the settings of PASCAL VOC (resnet50_irn_voc12aug.py), whose steps
# are the same here.
_base_ = [
    "../_base_/models/resnet50_irn.py",
    "../_base_/datasets/coco14_irn.py",
]

classifier = "work_dirs/resnet50_coco14/epoch_5.pth"
scores = dict(
    score_dir="work_dirs/cam_coco14/pseudo_labels", score_checkpoint=classifier
)
model = dict(
    backbone=dict(init_cfg=dict(checkpoint=classifier)),
    test_cfg=dict(pad_to=640),
)

pipeline = dict(
    label=dict(folder="work_dirs/affinity_labels_coco14"),
    # COCO's long side is 640.
    resize=dict(scale=(640, 640), backend="pillow", interpolation="bicubic"),
)
train_dataloader = dict(batch_size=32, dataset=dict(**scores, pipeline=pipeline))
test_dataloader = dict(dataset=dict(**scores))
# The classifier's: lr 0.1 at momentum 1e-4, which the released program runs with.
optim_wrapper = dict(optimizer=dict(lr=0.1, momentum=1e-4))
