# AdvCAM of the demo's classifier without OoD images:
# tools/test.py THIS work_dirs/demo/plain/epoch_4.pth --tta
_base_ = "./plain.py"

tta_model = dict(type="mmwood.AdvCAM")
