"""tools/analysis_tools/benchmark.py: what it measures and what it prints."""

import itertools
import runpy
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

TOOL = Path(__file__).resolve().parents[2] / 'tools/analysis_tools/benchmark.py'
tool = runpy.run_path(str(TOOL))


def test_each_batch_is_timed_alone_after_the_warm_up(monkeypatch):
    calls = []
    ticks = itertools.count()
    monkeypatch.setattr(time, 'perf_counter', lambda: next(ticks) ** 2)

    def detect(batch):
        calls.append(batch)
        return [SimpleNamespace(boxes=np.zeros((image, 4))) for image in batch]

    seconds, people = tool['measure'](SimpleNamespace(detect=detect), [[1, 2], [3]], num_warmup=3)
    assert calls == [[1, 2], [3], [1, 2], [1, 2], [3]]
    assert seconds.tolist() == [1, 5]
    assert people == 6


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='the kernel of Linux counts, too')
def test_memory_is_in_mebibytes():
    (peak,) = (line.split()[1] for line in Path('/proc/self/status').read_text().splitlines() if 'VmHWM' in line)
    assert tool['peak_memory'](torch.device('cpu')) == pytest.approx(int(peak) / 1024, rel=0.05)


def run(monkeypatch, capsys, *arguments):
    """Exit code and what the tool prints."""
    monkeypatch.setattr(sys, 'argv', ['benchmark.py', *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(TOOL), run_name='__main__')
    return stop.value.code, capsys.readouterr().out


def test_the_table(search_files, tiny_cuhk_sysu, monkeypatch, capsys):
    images = tiny_cuhk_sysu / 'Image/SSM'
    options = ['--num-images', '30', '--num-warmup', '1', '--batch-size', '4', '--device', 'cpu']
    code, out = run(monkeypatch, capsys, *search_files, images, *options)
    assert code == 0
    table = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert table['device'].startswith('cpu, ')
    assert float(table['images/s']) > 0
    assert table['latency'].endswith('of a batch of 4')
    assert table['people/image'] == '3.00'


def test_backends_side_by_side(search_files, tiny_cuhk_sysu, monkeypatch, capsys):
    images = tiny_cuhk_sysu / 'Image/SSM'
    options = ['--num-images', 2, '--num-warmup', 0, '--device', 'cpu', '--backends', 'torch-fp32', '--evaluate']
    code, out = run(monkeypatch, capsys, *search_files, images, *options)
    assert code == 0
    rows = [[cell.strip() for cell in line.strip('|').split('|')] for line in out.splitlines() if line.startswith('|')]
    assert rows[0] == ['backend', 'ms an image', 'of plain', 'people', 'search mAP (%)', 'change']
    assert [row[0] for row in rows[1:]] == ['plain', 'torch-fp32']
    assert rows[1][2:4] == ['1.00', '6']
    assert rows[2][3] == '6'
    assert float(rows[2][4]) == pytest.approx(float(rows[1][4]), abs=0.01)
    assert rows[2][5] == f'{float(rows[2][4]) - float(rows[1][4]):+.2f}'


def test_evaluation_is_for_backends(search_files, tiny_cuhk_sysu, monkeypatch, capsys):
    message, _ = run(monkeypatch, capsys, *search_files, tiny_cuhk_sysu / 'Image/SSM', '--evaluate')
    assert message == 'error: --evaluate compares backends: name them with --backends'
