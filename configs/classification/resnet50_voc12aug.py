# IRN's classifier as published: ResNet-50 on the tags of PASCAL VOC 2012 trainaug.
_base_ = [
    "../_base_/models/resnet50_cam.py",
    "../_base_/datasets/voc12aug.py",
    "../_base_/schedule_5e.py",
    "../_base_/default_runtime.py",
]

# IRN's program upsamples maps to the next multiple of 16 and crops them.
model = dict(test_cfg=dict(round_up_to=16))
# The released program passes the weight decay as the momentum. Its published numbers
# belong to momentum 1e-4 with lr 0.1; with momentum 0.9 use lr 0.01.
optim_wrapper = dict(optimizer=dict(lr=0.1, momentum=1e-4))
