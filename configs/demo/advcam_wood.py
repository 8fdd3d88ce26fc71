# AdvCAM of the demo's classifier of W-OoD:
# tools/test.py THIS work_dirs/demo/wood/epoch_4.pth --tta
_base_ = "./wood.py"

tta_model = dict(type="mmwood.AdvCAM")
