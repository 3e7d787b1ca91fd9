"""Tables in two dimensions: the arithmetic, what is read, and what is refused."""

import csv
import importlib.util
import sys

import numpy as np
import pytest
import torch

from mmps_kd.errors import UserError
from mmps_kd.models.distillers import LookUpTable, identities_sha256, save_lut


@pytest.fixture
def tool(repo_root, monkeypatch):
    """The tool as a module."""
    folder = repo_root / 'tools/analysis_tools'
    monkeypatch.syspath_prepend(str(folder))
    spec = importlib.util.spec_from_file_location('plot_lut', folder / 'plot_lut.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(tool, monkeypatch, tmp_path):
    """Run the tool; gives the rows of its CSV."""

    def run(*arguments):
        picture = tmp_path / 'lut.png'
        monkeypatch.setattr(sys, 'argv', ['plot_lut', *map(str, arguments), '--out', str(picture)])
        tool.main()
        assert picture.read_bytes().startswith(b'\x89PNG')
        with picture.with_suffix('.csv').open(newline='') as file:
            return list(csv.reader(file))

    return run


def unit(rows):
    return torch.nn.functional.normalize(torch.as_tensor(rows, dtype=torch.float32), dim=1)


def random_rows(count=8, dim=5, seed=0):
    return unit(torch.randn(count, dim, generator=torch.Generator().manual_seed(seed)))


def write(path, rows, identities=range(8)):
    save_lut(path, LookUpTable(rows, 'PRW', identities_sha256([*identities]), 'boxes', 'teacher.py', '0' * 64))
    return path


def write_checkpoint(path, rows):
    meta = dict(dataset_meta=dict(dataset_name='PRW', identities=[*range(len(rows))]))
    state_dict = {'roi_head.reid_head.loss_oim.lut': rows, 'distillation.0.weight': torch.zeros(1)}
    torch.save(dict(state_dict=state_dict, meta=meta), path)
    return path


def test_agreement_by_hand(tool):
    angles = {'one': [0, 10, 30, 180], 'other': [0, 25, 30, 180]}
    one, other = (
        np.column_stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))]) for degrees in angles.values()
    )
    # Nearest of one: 1, 0, 1, 2; of the other: 1, 2, 1, 2.
    assert tool.neighbour_agreement(one, other) == 0.75
    assert tool.neighbour_agreement(one, one) == 1.0


def test_agreement_does_not_depend_on_how_a_space_is_turned(tool):
    rows = random_rows().numpy()
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))[0].astype(np.float32)
    assert tool.neighbour_agreement(rows, rows @ turn) == 1.0


def test_projection_keeps_what_lies_in_a_plane(tool):
    generator = np.random.default_rng(0)
    flat = generator.normal(size=(10, 2))
    basis = np.linalg.qr(generator.normal(size=(6, 2)))[0]
    points, share = tool.project(flat @ basis.T + 3.0)
    assert share == pytest.approx(1.0)
    distances = [np.linalg.norm(x[:, None] - x[None], axis=2) for x in (flat, points)]
    assert np.allclose(*distances)


def test_points_are_turned_and_mirrored_back(tool):
    target = np.random.default_rng(0).normal(size=(10, 2))
    turned = target @ np.array([[0.6, 0.8], [0.8, -0.6]])  # a turn with a mirror
    assert np.allclose(tool.turn_onto(turned, target), target)


def test_one_colour_a_direction(tool):
    colours = tool.colours_by_place(np.array([[1.0, 0], [2.0, 0], [-1.0, 0], [0.0, 1]]))
    assert colours[0].tolist() == colours[1].tolist() == pytest.approx([0.8, 0.12, 0.12])
    assert len(np.unique(colours.round(6), axis=0)) == 3


def test_teacher_beside_student(run, tmp_path, capsys):
    teacher = write(tmp_path / 'teacher.safetensors', random_rows())
    turned = unit(random_rows() @ torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(1)))[0])
    rows = run(teacher, write_checkpoint(tmp_path / 'student.pth', turned))
    assert rows[0] == ['table', 'row', 'x', 'y']
    assert [row[:2] for row in rows[1:]] == [[name, str(i)] for name in ('teacher', 'student') for i in range(8)]
    places = np.array([row[2:] for row in rows[1:]], dtype=float)
    assert np.allclose(places[:8], places[8:], atol=1e-4)
    assert '8 identities of PRW: the nearest neighbour is the same for 100.0% (by chance 14.3%)' in (
        capsys.readouterr().out
    )


def test_one_table(run, tmp_path, capsys):
    rows = run(write(tmp_path / 'teacher.safetensors', random_rows()), '--labels', 'ours')
    assert len(rows) == 9
    assert rows[1][0] == 'ours'
    assert 'nearest' not in capsys.readouterr().out


def test_tables_of_different_dimensions(run, tmp_path):
    tables = [write(tmp_path / f'{dim}.safetensors', random_rows(dim=dim)) for dim in (5, 3)]
    assert len(run(*tables)) == 17


def test_what_cannot_be_compared_or_drawn(run, tmp_path):
    table = write(tmp_path / 'a.safetensors', random_rows())
    others = write(tmp_path / 'b.safetensors', random_rows(), identities=range(1, 9))
    with pytest.raises(UserError, match='are of different identities'):
        run(table, others)
    with pytest.raises(UserError, match='3 tables: give one, or a teacher and a student'):
        run(table, table, table)
    small = write(tmp_path / 'c.safetensors', random_rows(count=2))
    with pytest.raises(UserError, match='2 x 5 is too small a table'):
        run(small)
    with pytest.raises(UserError, match='absent'):
        run(tmp_path / 'absent.pth')
