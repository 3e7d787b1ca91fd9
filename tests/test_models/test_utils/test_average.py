import pytest
import torch

from mmps_kd.models.utils.dist import average

ROWS = torch.tensor([1.0, 2.0, 6.0])


@pytest.mark.parametrize(
    ('avg_factor', 'expected'),
    [
        pytest.param(None, 3.0, id='number of rows'),
        pytest.param(2, 4.5, id='int'),
        pytest.param(4.5, 2.0, id='float'),
        pytest.param(torch.tensor(4.5), 2.0, id='tensor'),
        pytest.param(torch.tensor(2), 4.5, id='int tensor'),
        pytest.param(0, 9.0, id='none, counted as one'),
        pytest.param(torch.tensor(0.25), 9.0, id='less than one, counted as one'),
    ],
)
def test_normaliser(avg_factor, expected):
    assert average(ROWS, avg_factor).item() == expected


@pytest.mark.parametrize('avg_factor', [None, 0.0])
def test_no_rows(avg_factor):
    rows = torch.zeros(0, requires_grad=True)
    value = average(rows, avg_factor)
    value.backward()
    assert value.item() == 0
    assert rows.grad.shape == (0,)
