"""Measured figures beside published ones."""

import json
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / 'tools/analysis_tools/paper_table.py'
NAME = 'oim_r50_20e_cuhk-sysu'


@pytest.fixture
def table(monkeypatch, capsys, tmp_path):
    """Run the tool on a folder; gives its lines, or the error."""

    def table(*names):
        monkeypatch.setattr(sys, 'argv', [str(TOOL), str(tmp_path), *names])
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(TOOL), run_name='__main__')
        return stopped.value.code or capsys.readouterr().out.splitlines()

    return table


def write(folder, **figures):
    folder.mkdir()
    (folder / 'figures.json').write_text(json.dumps({key.replace('__', '/'): value for key, value in figures.items()}))


def cells(lines, name):
    (row,) = [line for line in lines if f'/{name}.py' in line]
    return row.strip('| ').split(' | ')


def test_not_run(table):
    published = '78.0 / 77.9 / 75.2 / 82.7 (Munjal, Amin, Galasso, BMVC 2019)'
    config, _, _, ours, cited = cells(table(NAME), NAME)
    assert (config, ours) == ('`oim/oim_r50_20e_cuhk-sysu.py`', 'not run')
    assert cited.split('; ')[0] == published


def test_figures_of_every_kind_of_model(table, tmp_path):
    detector, guided = 'detector_r50_18e_prw', 'oim_r18_18e_prw'
    figures = dict(search__mAP=0.12345, search__top1=0.2, search__top5=1.0, search__det_ap=0.3, search__det_recall=0.4)
    write(tmp_path / NAME, **figures)
    write(tmp_path / detector, detection__det_ap=0.5, detection__det_recall=1.0)
    write(tmp_path / guided, search__mAP=0.25, search__top1=0.5)
    lines = table(NAME, detector, guided)
    assert cells(lines, NAME)[3] == '12.3 / 20.0 / 30.0 / 40.0'
    assert cells(lines, detector)[3] == '- / - / 50.0 / 100.0'
    assert cells(lines, guided)[3] == '25.0 / 50.0'


def test_one_table_a_data_set_with_the_models_asked_for(table):
    lines = table(NAME, 'oim_r18_18e_prw')
    assert [line.split(':')[0] for line in lines if line.startswith('#')] == ['### CUHK-SYSU', '### PRW']
    assert len([line for line in lines if line.startswith('| `')]) == 2
    assert len({line.count('|') for line in lines if line.startswith('|')}) == 1


def test_unknown_model(table):
    assert table('oim_r51') == 'error: no model oim_r51 in the metafiles that model-index.yml lists'
