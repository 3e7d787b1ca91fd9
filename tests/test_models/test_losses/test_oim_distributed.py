"""Two processes with half a batch each hold what one process with the whole batch holds."""

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from mmps_kd.models.losses import OIMLoss

# How many rows of each step's batch the first of two ranks has: some ranks have none, or no labelled one.
SHARES = [(5, 9), (0, 6), (7, 7), (3, 3 + 40), (2, 4)]

pytestmark = pytest.mark.slow


def batch(step, total):
    generator = torch.Generator().manual_seed(step)
    x = F.normalize(torch.randn(total, 8, generator=generator), dim=1)
    pids = torch.randint(-1, 4, (total,), generator=generator)
    if step == 4:
        pids[:2] = -1
    return x, pids


def run(rank, world):
    """Losses, gradients and final state of one rank."""
    loss = OIMLoss(num_identities=4, feat_channels=8, queue_size=12)
    values, grads = [], []
    for step, (first, total) in enumerate(SHARES):
        x, pids = batch(step, total)
        own = slice(None) if world == 1 else (slice(0, first), slice(first, None))[rank]
        x, pids = x[own].clone().requires_grad_(), pids[own]
        value = loss(x, pids)
        value.backward()
        values.append(value.detach())
        grads.append(x.grad)
    return dict(values=torch.stack(values), grads=grads, **loss.state_dict())


@pytest.fixture(scope='module')
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp('ranks')
    env = {**os.environ, 'OMP_NUM_THREADS': '1'}
    command = [sys.executable, __file__, str(folder)]
    processes = [subprocess.Popen([*command, str(rank)], env=env) for rank in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    return [torch.load(folder / f'{rank}.pth') for rank in range(2)]


@pytest.mark.parametrize('name', ['lut', 'queue', 'queue_head'])
def test_both_ranks_hold_the_state_of_one_process(ranks, name):
    single = run(0, 1)
    assert torch.equal(ranks[0][name], ranks[1][name])
    assert torch.allclose(ranks[0][name], single[name], atol=1e-6)


def test_losses_and_gradients_average_to_those_of_one_process(ranks):
    single = run(0, 1)
    assert torch.allclose((ranks[0]['values'] + ranks[1]['values']) / 2, single['values'], rtol=1e-5)
    for first, second, whole in zip(ranks[0]['grads'], ranks[1]['grads'], single['grads'], strict=True):
        assert torch.allclose(torch.cat([first, second]) / 2, whole, atol=1e-5)


if __name__ == '__main__':
    out, this_rank = sys.argv[1], int(sys.argv[2])
    torch.distributed.init_process_group('gloo', init_method=f'file://{out}/group', rank=this_rank, world_size=2)
    torch.save(run(this_rank, 2), f'{out}/{this_rank}.pth')
    torch.distributed.destroy_process_group()
