from pathlib import Path

import pytest

from mmps_kd.datasets.check import LAYOUTS, Finding, FolderReport, check_folder
from mmps_kd.errors import UserError

BOTH = {'train': {}, 'test': {}}


def check(layout: str, root: Path, options: dict = BOTH) -> FolderReport:
    return check_folder(LAYOUTS[layout], root, 2, options)


def test_cuhk_sysu(cuhk_root: Path):
    report = check('cuhk-sysu', cuhk_root)
    assert report.counts == {
        ('train', 'images'): 3,
        ('train', 'boxes'): 6,
        ('train', 'labelled boxes'): 3,
        ('train', 'identities'): 2,
        ('test', 'images'): 4,
        ('test', 'boxes'): 6,
        ('test', 'labelled boxes'): 4,
        ('test', 'identities'): 2,
        ('test', 'queries'): 2,
    }
    assert [(problem.split, problem.what, problem.file) for problem in report.problems] == [
        ('train', 'box of zero width or height: dropped', 's1.jpg'),
        ('test', 'box of zero width or height: dropped', 's7.jpg'),
    ]
    # Train.mat says of p9 that it is in s5.jpg, a test image.
    assert Finding('both', 'identity in training and test', 'identity p9', serious=False) in report.findings


def test_prw(prw_root: Path):
    (prw_root / 'frames/c1s1_000010.jpg').unlink()
    report = check('prw', prw_root)
    assert [(problem.split, problem.what, problem.file) for problem in report.problems] == [
        ('test', 'missing image', 'c1s1_000010.jpg'),
        ('test', 'box of zero width or height: dropped', 'c3s1_000012.jpg'),
    ]
    assert report.counts['test', 'images'] == 4 and report.counts['test', 'queries'] == 2


def test_a_damaged_query_image_does_not_stop_the_check(prw_root: Path):
    name = (prw_root / 'query_info.txt').read_text().split()[5]
    (prw_root / f'frames/{name}.jpg').write_bytes(b'no image')
    damaged = [finding.file for finding in check('prw', prw_root).problems if finding.what == 'damaged image']
    assert damaged == [f'{name}.jpg']


def test_annotations_that_cannot_be_used_end_their_split_only(prw_root: Path):
    (prw_root / 'frame_test.mat').unlink()
    report = check('prw', prw_root)
    (problem,) = report.problems
    assert (problem.split, problem.what) == ('test', 'annotations cannot be used')
    assert 'frame_test.mat: no such file' in problem.detail
    assert report.counts['train', 'images'] == 2


def test_a_root_that_is_none(tmp_path: Path):
    with pytest.raises(UserError, match='gone: no such folder'):
        check('prw', tmp_path / 'gone')
