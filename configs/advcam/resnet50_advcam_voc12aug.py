# AdvCAM as published (Lee et al., CVPR 2021) on IRN's classifier, which is not trained
# anew: tools/test.py THIS work_dirs/resnet50_voc12aug/epoch_5.pth --tta
_base_ = "../classification/resnet50_voc12aug.py"

tta_model = dict(type="mmwood.AdvCAM")
