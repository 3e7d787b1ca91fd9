"""MobileNetV2 cut in two: the backbone up to stride 16, and its last layers on RoI features."""

import torch
from mmdet.models.backbones import MobileNetV2
from mmdet.registry import MODELS

IMAGE = torch.randn(2, 3, 64, 48, generator=torch.Generator().manual_seed(1))


def test_both_parts_together_are_mmdets(tmp_path):
    whole = MobileNetV2(out_indices=(2, 4))
    file = tmp_path / 'imagenet.pth'
    torch.save(whole.state_dict(), file)
    pretrained = dict(type='Pretrained', checkpoint=str(file))
    backbone = MODELS.build(dict(type='ShortMobileNetV2', out_indices=(2, 4), init_cfg=pretrained))
    head = MODELS.build(dict(type='MobileNetV2Layers', first=4, last=5, init_cfg=pretrained))
    backbone.init_weights()
    head.init_weights()
    for part in (whole, backbone, head):
        part.eval()

    with torch.no_grad():
        stride8, stride16 = backbone(IMAGE)
        torch.testing.assert_close((stride8, stride16), whole(IMAGE))
        torch.testing.assert_close(head(stride8), stride16)
    assert sorted(dict(head.named_children())) == ['layer4', 'layer5']


def test_the_first_block_is_in_single_precision_on_a_cpu():
    head = MODELS.build(dict(type='MobileNetV2Layers', first=4, last=5))
    dtypes = []
    for block in (*head.layer4[:2], head.layer5[0]):
        block.depthwise_conv.register_forward_hook(lambda module, args, output: dtypes.append(output.dtype))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        head(torch.randn(1, 32, 16, 8))
    assert dtypes == [torch.float32, torch.bfloat16, torch.bfloat16]
