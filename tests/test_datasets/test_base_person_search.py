"""What all datasets share, shown on PRW."""

from pathlib import Path

import numpy as np
import pytest
from mmengine.logging import MMLogger
from scipy.io import savemat

from mmps_kd.datasets import PRWDataset
from mmps_kd.errors import UserError


def test_an_unknown_split_is_refused():
    with pytest.raises(UserError, match="PRWDataset: split must be 'train' or 'test', got 'val'"):
        PRWDataset(split='val')


def test_a_missing_data_root_is_named():
    with pytest.raises(UserError, match=r'data_root /nowhere/PRW: no such folder; .*docs/datasets\.md'):
        PRWDataset(data_root='/nowhere/PRW')


def test_absent_images_are_counted_and_the_first_named(prw_root: Path):
    (prw_root / 'frames/c1s1_000010.jpg').unlink()
    (prw_root / 'frames/c3s1_000012.jpg').unlink()
    with pytest.raises(UserError, match=r'frames lacks 2 of the 4 images .* first c1s1_000010\.jpg'):
        PRWDataset(data_root=str(prw_root), split='test')
    assert len(PRWDataset(data_root=str(prw_root), split='train')) == 2


def test_an_image_folder_elsewhere(prw_root: Path, tmp_path: Path):
    (prw_root / 'frames').rename(tmp_path / 'pictures')
    dataset = PRWDataset(data_root=str(prw_root), data_prefix=dict(img=str(tmp_path / 'pictures')))
    assert dataset.get_data_info(0)['img_path'] == str(tmp_path / 'pictures/c1s1_000001.jpg')
    with pytest.raises(UserError, match='frames lacks 2 of the 2 images'):
        PRWDataset(data_root=str(prw_root))


@pytest.fixture
def with_empty_frame(prw_root: Path) -> str:
    savemat(prw_root / 'annotations/c1s1_000001.jpg.mat', {'box_new': np.array([[-2, 3, 3, 0, 9], [4, 3, 3, 5, 0]])})
    return str(prw_root)


def test_frames_without_people_leave_training_but_not_testing(with_empty_frame: str):
    assert len(PRWDataset(data_root=with_empty_frame)) == 1
    assert len(PRWDataset(data_root=with_empty_frame, filter_cfg=dict(filter_empty_gt=False))) == 2
    assert len(PRWDataset(data_root=with_empty_frame, split='test')) == 4  # one of them holds nobody


def test_dropped_boxes_are_counted_and_their_identity_has_no_row(with_empty_frame: str, caplog):
    logger = MMLogger.get_instance('dropped-boxes')
    logger.addHandler(caplog.handler)
    dataset = PRWDataset(data_root=with_empty_frame)
    assert 'PRWDataset (train): dropped 2 boxes of zero width or height' in caplog.text
    assert dataset.metainfo['identities'] == (5, 932)
