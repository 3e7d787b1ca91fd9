"""Mixed precision on a CPU."""

import copy

import pytest
import torch
from mmdet.registry import OPTIM_WRAPPERS
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper

PEOPLE = [([[10, 8, 40, 88], [60, 20, 90, 92]], [3, -1]), ([[30, 10, 60, 90]], [1])]


def steps(model, batch, wrapper):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    wrapper = OPTIM_WRAPPERS.build(dict(type=wrapper, optimizer=optimizer))
    torch.manual_seed(0)
    return [model.train_step(copy.deepcopy(batch), wrapper)['loss'].item() for _ in range(5)]


@pytest.fixture
def processor(monkeypatch):
    """A processor with instructions for bfloat16 or without."""
    return lambda has: monkeypatch.setattr('mmps_kd.engine.bfloat16_optim_wrapper.cpu_has_bfloat16', lambda: has)


def test_it_trains_close_to_single_precision(build_model, make_batch, processor):
    processor(True)
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
    # Later on other boxes are sampled, and what was rounding becomes another run.
    torch.testing.assert_close(torch.tensor(rounded[:2]), torch.tensor(exact[:2]), rtol=0.005, atol=0)
    assert rounded[-1] < 0.5 * rounded[0]


def test_a_processor_without_instructions_trains_in_single_precision(build_model, make_batch, processor, caplog):
    processor(False)
    batch = make_batch(PEOPLE)
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    mixed = steps(build_model(), batch, 'BFloat16OptimWrapper')
    logger.removeHandler(caplog.handler)
    assert mixed == steps(build_model(), batch, OptimWrapper)
    assert 'no instructions for bfloat16' in caplog.text
