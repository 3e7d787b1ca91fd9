import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_figure_is_what_its_script_draws(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['method.py', '--out', str(tmp_path / 'method.svg')])
    runpy.run_path(str(ROOT / 'docs/figures/method.py'), run_name='__main__')
    assert (tmp_path / 'method.svg').read_bytes() == (ROOT / 'docs/images/method.svg').read_bytes()
