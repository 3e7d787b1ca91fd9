"""Whole synthetic data sets: equal bytes, interrupted attempts, sizes, wrong arguments and the tool."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from mmps_kd.errors import UserError
from mmps_kd.testing.synthetic import dataset_size, write_dataset, writer
from mmps_kd.testing.synthetic.plan import SIZES, PersonBox, plan_images

TOOL = Path(__file__).parents[2] / 'tools/dataset_tools/make_synthetic.py'


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob('*') if path.is_file()}


@pytest.mark.parametrize('layout', ['cuhk-sysu', 'prw'])
def test_two_processes_write_the_same_bytes_as_one(request, tmp_path, layout):
    single = request.getfixturevalue('cuhk_tiny' if layout == 'cuhk-sysu' else 'prw_tiny')
    write_dataset(tmp_path / 'two', layout, 'tiny', jobs=2)
    assert contents(tmp_path / 'two') == contents(single)


def test_another_seed_gives_other_files(cuhk_tiny, tmp_path):
    write_dataset(tmp_path / 'other', 'cuhk-sysu', 'tiny', seed=1)
    assert not contents(tmp_path / 'other').items() & contents(cuhk_tiny).items()


def test_a_complete_data_set_is_left_alone(cuhk_tiny, monkeypatch):
    monkeypatch.setattr(writer, 'render_image', lambda *args: pytest.fail('rendered again'))
    before = {path: path.stat().st_mtime_ns for path in cuhk_tiny.rglob('*')}
    write_dataset(cuhk_tiny, 'cuhk-sysu', 'tiny')
    assert {path: path.stat().st_mtime_ns for path in cuhk_tiny.rglob('*')} == before


def test_an_interrupted_data_set_is_completed(cuhk_tiny, tmp_path, monkeypatch):
    root, render, calls = tmp_path / 'broken', writer.render_image, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return render(*args)

    monkeypatch.setattr(writer, 'render_image', interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(root, 'cuhk-sysu', 'tiny')
    assert not writer.is_complete(root, 'cuhk-sysu', 'tiny', 0)
    with pytest.raises(UserError, match='broken'):
        write_dataset(root, 'cuhk-sysu', 'tiny', seed=7)
    monkeypatch.setattr(writer, 'render_image', render)
    write_dataset(root, 'cuhk-sysu', 'tiny')
    assert contents(root) == contents(cuhk_tiny)


@pytest.mark.parametrize('settings', [('prw', 'tiny', 0), ('cuhk-sysu', 'mini', 0), ('cuhk-sysu', 'tiny', 1)])
def test_another_data_set_is_not_overwritten(cuhk_tiny, settings):
    with pytest.raises(UserError, match='does not hold this data set'):
        write_dataset(cuhk_tiny, *settings)


def test_nothing_is_written_among_foreign_files(tmp_path):
    (tmp_path / 'thesis.txt').write_text('')
    with pytest.raises(UserError, match=tmp_path.name):
        write_dataset(tmp_path, 'prw', 'tiny')
    with pytest.raises(UserError, match='thesis.txt'):
        write_dataset(tmp_path / 'thesis.txt', 'prw', 'tiny')
    assert [path.name for path in tmp_path.iterdir()] == ['thesis.txt']


@pytest.mark.parametrize(('name', 'value'), [('seed', -1), ('jobs', 0)])
def test_wrong_numbers_are_named(tmp_path, name, value):
    with pytest.raises(UserError, match=f'{name} {value}'):
        write_dataset(tmp_path / 'new', 'prw', 'tiny', **{name: value})
    assert not (tmp_path / 'new').exists()


@pytest.mark.parametrize('key', [('cuhk', 'tiny'), ('prw', 'huge')])
def test_an_unknown_size_is_answered_with_the_known_ones(tmp_path, key):
    with pytest.raises(UserError, match=f'{key[0]}.*{key[1]}.*prw full'):
        write_dataset(tmp_path / 'new', *key)


def test_full_has_the_counts_of_the_real_data_sets():
    cuhk, prw = dataset_size('cuhk-sysu', 'full'), dataset_size('prw', 'full')
    assert (cuhk.train.images, cuhk.test.images) == (11206, 6978)
    assert (cuhk.train.identities, cuhk.test.identities, cuhk.queries) == (5532, 2900, 2900)
    assert (prw.train.images, prw.test.images) == (5704, 6112)
    assert (prw.train.identities, prw.test.identities, prw.queries) == (483, 449, 2057)


@pytest.mark.parametrize('key', SIZES, ids=' '.join)
def test_every_plan_keeps_the_counts_of_its_size(key):
    size = dataset_size(*key)
    names = [str(i) for i in range(size.train.images + size.test.images)]
    plans = plan_images(size, names, seed=3)
    assert [plan.name for plan in plans] == names and plans != plan_images(size, names, seed=4)
    first = 0
    for name, split in (('train', size.train), ('test', size.test)):
        found = [plan.identities for plan in plans if plan.split == name]
        assert len(found) == split.images and all(len(set(identities)) == len(identities) for identities in found)
        appearances = np.bincount([i - first for identities in found for i in identities], minlength=split.identities)
        assert len(appearances) == split.identities
        # Two at least: a query and its true match.
        assert 2 <= split.appearances[0] <= appearances.min() <= appearances.max() <= split.appearances[1]
        first = split.identities
    assert size.queries <= size.test.identities * size.test.appearances[0]


def test_four_people_of_the_hard_set_dress_alike(tmp_path, monkeypatch):
    seen = {}

    def render(rng, place_rng, persons, num_unlabelled, size, largest):
        seen.update(persons)
        assert 3 <= num_unlabelled <= 5 and largest < 0.33
        return np.zeros((4, 4, 3), np.uint8), [PersonBox(identity, (0, 0, 2, 4), 1.0) for identity, _ in persons]

    monkeypatch.setattr(writer, 'render_image', render)
    write_dataset(tmp_path / 'hard', 'cuhk-sysu', 'hard')
    people = [seen[identity] for identity in range(260)]
    outfits = [(p.top, p.second, p.pattern, p.sleeves, p.coat, p.bottom, p.bottom_kind) for p in people]
    assert all(len(set(outfits[first : first + 4])) == 1 for first in range(0, 260, 4))
    assert len(set(outfits)) == 65 and len(set(people)) == 260


def run_make_synthetic(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    monkeypatch.setattr(sys, 'argv', [str(TOOL), *arguments])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(TOOL), run_name='__main__')
    return end.value.code


def test_the_tool_prints_the_counts_and_keeps_a_complete_data_set(tmp_path, monkeypatch, capsys):
    arguments = str(tmp_path / 'new'), '--layout', 'prw', '--size', 'tiny', '--jobs', '1'
    assert run_make_synthetic(monkeypatch, *arguments) == 0
    line = capsys.readouterr().out.strip()
    assert line.startswith('written: prw tiny, seed 0: 24 images with ') and line.endswith(f'in {tmp_path / "new"}')
    assert run_make_synthetic(monkeypatch, *arguments) == 0
    assert capsys.readouterr().out.strip() == line.replace('written', 'already there')


def test_the_tool_reports_a_folder_in_use_in_one_line(tmp_path, monkeypatch):
    (tmp_path / 'file').touch()
    message = run_make_synthetic(monkeypatch, str(tmp_path), '--size', 'tiny')
    assert message.startswith(f'error: {tmp_path} exists') and '\n' not in message
