"""Memory format of the weights, and what it must not change."""

from types import SimpleNamespace

import torch

from mmps_kd.engine import ChannelsLastHook


def test_weights_are_channels_last_and_losses_the_same(build_model, make_batch):
    batch = make_batch([([[10, 8, 40, 88], [60, 20, 90, 92]], [3, -1])])
    losses = []
    for hooks in ([], [ChannelsLastHook()]):
        model = build_model()
        for hook in hooks:
            hook.before_run(SimpleNamespace(model=model))
        torch.manual_seed(0)
        data = model.data_preprocessor(batch, True)
        losses.append(model(**data, mode='loss'))
    assert model.backbone.conv1.weight.is_contiguous(memory_format=torch.channels_last)
    for name, value in losses[0].items():
        torch.testing.assert_close(losses[1][name], value, rtol=1e-5, atol=1e-6)
