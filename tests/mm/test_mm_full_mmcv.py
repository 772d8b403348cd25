"""With a full mmcv its compiled operations are used. (Without, a placeholder stands in: the other tests here run so.)

A compiled mmcv cannot be installed beside mmcv-lite: beside that, a module with the compiled one's name and functions
stands where it would lie, and must be the one that mmcv and the bridge get. Where full mmcv is installed, its own is.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

OPS = """
def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    def op(*args, **kwargs):
        return "compiled", name
    return op
"""
BUILD = """
from mmdet3d.registry import MODELS
import torch
backbone = dict(type="mmdet.ResNet", depth=18, base_channels=4, out_indices=(3,))
neck = dict(type="mmdet.FPN", in_channels=[32], out_channels=32, num_outs=1)
size = dict(embed_dims=32, ffn_dims=64, heads=4, bev_h=10, bev_w=5)
built = MODELS.build(dict(type="VAD", preset="vad_tiny", overrides=size, img_backbone=backbone, img_neck=neck))
frame = dict(lidar2img=torch.eye(4).repeat(6, 1, 1), can_bus=[0.0] * 18)
from mmdet3d.structures import Det3DDataSample
with torch.no_grad():
    inputs = dict(imgs=torch.zeros(1, 6, 3, 32, 32))
    (sample,) = built.eval()(inputs, [Det3DDataSample(metainfo=frame)], mode="predict")
print(type(sample.pred_instances_3d.bboxes_3d).__name__)
"""


REAL = """
from mmcv.ops import nms
kept, order = nms(torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2], [5, 5, 6, 6]]), torch.tensor([0.5, 0.9, 0.1]), 0.5)
print(order.tolist())
"""


def test_compiled_operations_are_not_shadowed(tmp_path: Path) -> None:
    compiled = python("import mmcv, importlib.util as u; s = u.find_spec('mmcv._ext'); print(s.origin if s else '')")[
        -1
    ]
    if compiled:
        code = f"import sead_ray.mm, mmcv.ops\n{BUILD}\nimport sys; print(sys.modules['mmcv._ext'].__file__)\n{REAL}"
        lines = python(code)
        assert lines[-3:] == ["LiDARInstance3DBoxes", compiled, "[1, 2]"]
        return
    (tmp_path / "_ext.py").write_text(OPS)
    code = f"import mmcv; mmcv.__path__.append({str(tmp_path)!r}); import sead_ray.mm; import mmcv.ops\n{BUILD}"
    code += "\nimport sys; print(sys.modules['mmcv._ext'].__file__)"
    code += "\nfrom mmcv.ops.nms import ext_module; print(ext_module.nms())"
    assert python(code)[-3:] == ["LiDARInstance3DBoxes", str(tmp_path / "_ext.py"), "('compiled', 'nms')"]


def python(code: str) -> list[str]:
    """The lines that a process of its own prints."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()
