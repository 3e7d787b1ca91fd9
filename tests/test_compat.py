import io
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.registry import HOOKS, MODELS

from mmps_kd.compat import add_config_scope, checkpoint_classes, load_from_http
from mmps_kd.errors import UserError


@pytest.fixture(autouse=True)
def allowed():
    with torch.serialization.safe_globals(checkpoint_classes()):
        yield


class Stranger:
    """A class that no checkpoint needs."""


class AttributeOf:
    """Unpickles as an attribute of something, as a malicious file would ask for it."""

    def __init__(self, *args):
        self.args = args

    def __reduce__(self):
        return getattr, self.args


def reload(value):
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize('values', [[0.5, 2.0], [1, 2, 3]], ids=['float', 'int'])
def test_history_buffer_survives(values):
    loaded = reload(HistoryBuffer(values, [1] * len(values)))

    assert loaded.data[0].tolist() == values
    assert loaded.data[1].tolist() == [1] * len(values)
    assert loaded.mean() == pytest.approx(np.mean(values))
    assert loaded.statistics('max') == max(values)


def test_message_hub_survives():
    hub = MessageHub('test_message_hub_survives')
    hub.update_scalar('loss', 0.25)
    hub.update_info('best_score', np.float64(0.5))
    hub.update_info('count', np.int64(7))

    state = reload(hub.state_dict())

    assert state['log_scalars']['loss'].current() == 0.25
    assert state['runtime_info'] == {'best_score': 0.5, 'count': 7}


def test_histories_written_by_numpy_1_load():
    file = io.BytesIO()
    torch.save(HistoryBuffer([0.5], [1]), file, _use_new_zipfile_serialization=False)
    data = file.getvalue().replace(b'cnumpy._core.multiarray\n', b'cnumpy.core.multiarray\n')

    assert torch.load(io.BytesIO(data), weights_only=True).current() == 0.5


def test_other_classes_stay_forbidden():
    with pytest.raises(pickle.UnpicklingError, match='Stranger'):
        reload(Stranger())


@pytest.mark.parametrize(
    'args',
    [(HistoryBuffer, '__init__'), (HistoryBuffer, '_set_default_statistics'), (torch.Tensor, 'numpy')],
    ids=['dunder', 'private', 'other class'],
)
def test_other_attributes_stay_forbidden(args):
    with pytest.raises(pickle.UnpicklingError, match=f'attribute {args[1]} of .* not allowed'):
        reload(AttributeOf(*args))


def test_config_scope_reaches_the_parts_of_mmdet_and_mmengine():
    add_config_scope()

    assert MODELS.build({'type': 'IoULoss', '_scope_': 'mmps_kd'}).__class__.__module__.startswith('mmdet.')
    assert HOOKS.build({'type': 'NumClassCheckHook', '_scope_': 'mmps_kd'}).__class__.__module__.startswith('mmdet.')
    assert HOOKS.build({'type': 'EMAHook', '_scope_': 'mmps_kd'}).__class__.__module__.startswith('mmengine.')


def test_no_network_is_said():
    # A port of this machine that nothing listens on.
    with pytest.raises(UserError, match=r'^http://127\.0\.0\.1:9/absent\.pth cannot be downloaded: .*refused'):
        load_from_http('http://127.0.0.1:9/absent.pth')


OTHER_PACKAGE = """
import contextlib, datetime, io, os, sys, torch
from mmengine.fileio import get_file_backend
from mmengine.runner import load_checkpoint

path = sys.argv[1]
torch.save(dict(state_dict={'weight': torch.ones(1)}, meta=dict(time=datetime.datetime(2020, 1, 1))), path)

def state():
    try:
        checkpoint = load_checkpoint(torch.nn.Linear(1, 1, bias=False), path)
        loaded = repr(checkpoint['meta']['time'])
    except Exception as error:
        loaded = type(error).__name__
    return [loaded, torch.get_num_threads(), torch.get_default_dtype(), dict(os.environ),
            sorted(map(repr, torch.serialization.get_safe_globals())), type(get_file_backend(path))]

before = state()
import mmps_kd, mmps_kd.apis
after = state()
assert after == before, (before, after)
print(before[0])
"""


def test_import_changes_nothing_for_other_packages(tmp_path):
    command = [sys.executable, '-c', OTHER_PACKAGE, str(tmp_path / 'other.pth')]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # The maintained fork of MMEngine reads such a file, MMEngine 0.10.7 on today's torch does not.
    assert done.stdout.splitlines()[-1] in ('datetime.datetime(2020, 1, 1, 0, 0)', 'UnpicklingError')
