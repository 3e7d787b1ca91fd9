"""Mixed precision on a CPU."""

import copy

import torch
from mmdet.registry import OPTIM_WRAPPERS
from mmengine.optim import OptimWrapper

PEOPLE = [([[10, 8, 40, 88], [60, 20, 90, 92]], [3, -1]), ([[30, 10, 60, 90]], [1])]


def steps(model, batch, wrapper):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    wrapper = OPTIM_WRAPPERS.build(dict(type=wrapper, optimizer=optimizer))
    torch.manual_seed(0)
    return [model.train_step(copy.deepcopy(batch), wrapper)['loss'].item() for _ in range(5)]


def test_it_trains_close_to_single_precision(build_model, make_batch):
    batch = make_batch(PEOPLE)
    plain, mixed = build_model(), build_model()
    dtypes = set()
    mixed.backbone.register_forward_hook(lambda module, args, output: dtypes.add(output[0].dtype))
    before = [parameter.clone() for parameter in mixed.parameters()]

    exact, rounded = steps(plain, batch, OptimWrapper), steps(mixed, batch, 'BFloat16OptimWrapper')

    assert dtypes == {torch.bfloat16}
    assert {parameter.dtype for parameter in mixed.parameters()} == {torch.float32}
    assert any(not torch.equal(*pair) for pair in zip(before, mixed.parameters(), strict=True))
    assert exact != rounded
    torch.testing.assert_close(torch.tensor(rounded), torch.tensor(exact), rtol=0.02, atol=0)
