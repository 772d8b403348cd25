# VAD-Tiny for mmdet3d's Runner, as published. Take it as a _base_ and add data: each sample holds the fields that
# `sead_ray.mm.VADDetector` lists. Backbone and neck may be any registered ones; the neck gives 256 channels.
custom_imports = dict(imports=["sead_ray.mm"], allow_failed_imports=False)
default_scope = "mmdet3d"

model = dict(
    type="VAD",
    preset="vad_tiny",
    loss_preset="e2e",
    use_grid_mask=True,
    data_preprocessor=dict(
        type="Det3DDataPreprocessor",  # images (frames * 6, 3, H, W), BGR, frames oldest first
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    img_backbone=dict(
        type="mmdet.ResNet",
        depth=50,
        num_stages=4,
        out_indices=(3,),
        frozen_stages=1,
        norm_cfg=dict(type="BN", requires_grad=False),
        norm_eval=True,
        style="pytorch",
        init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet50"),
    ),
    img_neck=dict(
        type="mmdet.FPN",
        in_channels=[2048],
        out_channels=256,
        start_level=0,
        add_extra_convs="on_output",
        num_outs=1,
        relu_before_extra_convs=True,
    ),
)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=2e-4, weight_decay=0.01),
    paramwise_cfg=dict(custom_keys=dict(img_backbone=dict(lr_mult=0.1))),
    clip_grad=dict(max_norm=35, norm_type=2),
)
load_from = None  # or hustvl/VAD's VAD_tiny.pth: the detector's state_dict has its names
