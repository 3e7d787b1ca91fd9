import runpy
import sys
from pathlib import Path

import pytest

from mmps_kd.errors import UserError
from mmps_kd.testing.synthetic import write_dataset, writer

TOOL = Path(__file__).parents[2] / 'tools/dataset_tools/make_synthetic.py'


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob('*') if path.is_file()}


@pytest.mark.parametrize('layout', ['cuhk-sysu', 'prw'])
def test_two_processes_write_the_same_bytes_as_one(request, tmp_path, layout):
    single = request.getfixturevalue('cuhk_tiny' if layout == 'cuhk-sysu' else 'prw_tiny')
    write_dataset(tmp_path / 'two', layout, 'tiny', jobs=2)
    assert contents(tmp_path / 'two') == contents(single)


def test_another_seed_gives_other_pictures(cuhk_tiny, tmp_path):
    write_dataset(tmp_path / 'other', 'cuhk-sysu', 'tiny', seed=1)
    same = contents(tmp_path / 'other').items() & contents(cuhk_tiny).items()
    assert not same


def test_complete_dataset_is_left_alone(cuhk_tiny, monkeypatch):
    monkeypatch.setattr(writer, 'render_scene', lambda *args: pytest.fail('rendered again'))
    before = {path: path.stat().st_mtime_ns for path in cuhk_tiny.rglob('*')}
    write_dataset(cuhk_tiny, 'cuhk-sysu', 'tiny')
    assert {path: path.stat().st_mtime_ns for path in cuhk_tiny.rglob('*')} == before


def test_interrupted_dataset_is_completed(cuhk_tiny, tmp_path, monkeypatch):
    root, render, calls = tmp_path / 'broken', writer.render_scene, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return render(*args)

    monkeypatch.setattr(writer, 'render_scene', interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(root, 'cuhk-sysu', 'tiny')
    assert not writer.is_complete(root, writer.Settings('cuhk-sysu', 'tiny'))
    with pytest.raises(UserError, match='broken'):
        write_dataset(root, 'cuhk-sysu', 'tiny', seed=7)
    monkeypatch.setattr(writer, 'render_scene', render)
    write_dataset(root, 'cuhk-sysu', 'tiny')
    assert contents(root) == contents(cuhk_tiny)


@pytest.mark.parametrize('settings', [('prw', 'tiny', 0), ('cuhk-sysu', 'mini', 0), ('cuhk-sysu', 'tiny', 1)])
def test_another_dataset_is_not_overwritten(cuhk_tiny, settings):
    with pytest.raises(UserError, match='does not hold this very dataset'):
        write_dataset(cuhk_tiny, *settings)


def test_foreign_files_are_not_written_among(tmp_path):
    (tmp_path / 'thesis.txt').write_text('')
    with pytest.raises(UserError, match=tmp_path.name):
        write_dataset(tmp_path, 'prw', 'tiny')
    with pytest.raises(UserError, match='thesis.txt'):
        write_dataset(tmp_path / 'thesis.txt', 'prw', 'tiny')
    assert [path.name for path in tmp_path.iterdir()] == ['thesis.txt']


@pytest.mark.parametrize('wrong', [dict(seed=-1), dict(jobs=0)])
def test_wrong_numbers_are_named(tmp_path, wrong):
    with pytest.raises(UserError, match=' '.join(f'{key} {value}' for key, value in wrong.items())):
        write_dataset(tmp_path / 'new', 'prw', 'tiny', **wrong)
    assert not (tmp_path / 'new').exists()


def run_make_synthetic(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    monkeypatch.setattr(sys, 'argv', [str(TOOL), *arguments])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(TOOL), run_name='__main__')
    return end.value.code


def test_tool_ends_with_the_counts_and_knows_what_is_there(tmp_path, monkeypatch, capsys):
    arguments = str(tmp_path / 'new'), '--layout', 'prw', '--size', 'tiny', '--jobs', '1'
    assert run_make_synthetic(monkeypatch, *arguments) == 0
    line = capsys.readouterr().out.strip()
    assert line.startswith('written: prw tiny, seed 0: 24 images with ') and line.endswith(f'in {tmp_path / "new"}')
    assert run_make_synthetic(monkeypatch, *arguments) == 0
    assert capsys.readouterr().out.strip() == line.replace('written', 'already there')


def test_tool_says_in_one_line_that_the_folder_is_taken(tmp_path, monkeypatch):
    (tmp_path / 'file').touch()
    message = run_make_synthetic(monkeypatch, str(tmp_path), '--size', 'tiny')
    assert message.startswith(f'error: {tmp_path} is there') and '\n' not in message
