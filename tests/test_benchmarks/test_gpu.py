"""The run that is prepared for a GPU, on small models and a CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_whole_run_at_toy_size(tmp_path):
    environment = {**os.environ, 'TOY': '1', 'OUT': str(tmp_path), 'PYTHON': sys.executable, 'CUDA_VISIBLE_DEVICES': ''}
    subprocess.run([ROOT / 'benchmarks/gpu.sh'], check=True, env=environment, capture_output=True)
    found = json.loads((tmp_path / 'figures.json').read_text())
    kinds = {(row['model'], row['precision'], row['channels_last']) for row in found['figures']}
    assert kinds >= {
        (model, *kind)
        for model in ('plain', 'LUT KD', 'detector KD')
        for kind in (('fp32', False), ('bf16', False), ('bf16', True))
    }
    assert all(row['training'] > 0 and row['inference'] > 0 for row in found['figures'])
    # What makes a host wait for its GPU, outside of mmdet: of OIM's sum and of the check for finite losses, and one
    # for each loss on positive anchors or RoIs.
    own = {
        name: sum(n for line, n in lines.items() if line.startswith('mmps_kd/'))
        for name, lines in found['waits'].items()
    }
    assert own == {'plain': 2, 'LUT KD': 2, 'detector KD': 4}
    assert (tmp_path / 'table.md').read_text().count('| detector KD |') == 4
