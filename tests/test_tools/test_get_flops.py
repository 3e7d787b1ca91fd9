"""Parameters and multiply-adds, against numbers worked out by hand."""

import runpy
import sys
from pathlib import Path

import pytest
import torch

TOOL = Path(__file__).resolve().parents[2] / 'tools/analysis_tools/get_flops.py'
count = runpy.run_path(str(TOOL))['count']
IMAGE = torch.zeros(96, 128, 3, dtype=torch.uint8)
CELLS = 8 * 4
"""Of a region's features."""


def test_a_person_costs_the_re_id_head(build_model):
    model = build_model()
    channels, dim = 32, 16
    conv, linear = CELLS * 9 * channels**2, CELLS * channels * dim
    costs = [count(model, IMAGE, people) for people in range(3)]
    assert costs[1] - costs[0] == costs[2] - costs[1] == conv + linear


def test_a_proposal_costs_the_box_head(build_model):
    model = build_model()
    model.rpn_head.test_cfg.max_per_img = 10
    ten = count(model, IMAGE, 0)
    model.rpn_head.test_cfg.max_per_img = 11
    channels, hidden = 32, 16
    outputs = 2 + 4
    assert count(model, IMAGE, 0) - ten == CELLS * channels * hidden + hidden**2 + hidden * outputs


def test_the_table(search_files, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['get_flops.py', str(search_files[0]), '--shape', '96', '128'])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(TOOL), run_name='__main__')
    assert stop.value.code == 0
    parameters, image, person = capsys.readouterr().out.splitlines()
    assert parameters.startswith('parameters ')
    assert image.endswith('for 128x96 pixels with 100 proposals')
    assert float(person.split()[0]) * 1e9 == pytest.approx(CELLS * (9 * 32**2 + 32 * 16), abs=1e5)
