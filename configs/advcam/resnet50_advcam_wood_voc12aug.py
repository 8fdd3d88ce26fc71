# AdvCAM of the classifier of W-OoD, as published (Lee et al., CVPR 2022):
# tools/test.py THIS work_dirs/resnet50_wood_voc12aug/epoch_5.pth --tta
_base_ = "../wood/resnet50_wood_voc12aug.py"

tta_model = dict(type="mmwood.AdvCAM")
