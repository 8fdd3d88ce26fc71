# AdvCAM on mini_voc, of the classifier of W-OoD:
# tools/test.py THIS work_dirs/efficientnet-lite0_wood_mini-voc/epoch_1.pth --tta
_base_ = "../wood/efficientnet-lite0_wood_mini-voc.py"

tta_model = dict(type="mmwood.AdvCAM")
