# AdvCAM on mini_voc, of the classifier without OoD images:
# tools/test.py THIS work_dirs/efficientnet-lite0_plain_mini-voc/epoch_1.pth --tta
_base_ = "../wood/efficientnet-lite0_plain_mini-voc.py"

tta_model = dict(type="mmwood.AdvCAM")
