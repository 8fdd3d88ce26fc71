# IRN's classifier on the tags of COCO 2014, with the settings of PASCAL VOC: no published
# setting of this chain on COCO is known, and none has been measured.
_base_ = [
    "../_base_/models/resnet50_cam.py",
    "../_base_/datasets/coco14.py",
    "../_base_/schedule_5e.py",
    "../_base_/default_runtime.py",
]

model = dict(head=dict(num_classes=80), test_cfg=dict(round_up_to=16))
optim_wrapper = dict(optimizer=dict(lr=0.1, momentum=1e-4))
