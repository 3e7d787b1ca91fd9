"""Names that lead out of the data root, and other entries that nothing may rely on."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from mmps_kd.datasets import CUHKSYSUDataset, PRWDataset
from mmps_kd.datasets.annotations import Annotations
from mmps_kd.datasets.annotations.soundness import require_inside, sound
from mmps_kd.errors import UserError


def people(*names: str) -> Annotations:
    boxes = np.tile([0.0, 0, 4, 4], (len(names), 1))
    return Annotations(np.array(names), np.ones(len(names), int), boxes, np.full(len(names), -1))


def test_sound_annotations_come_back():
    given = people('a.jpg', 'b/c..jpg', '..d.jpg', 'ü 人.jpg', '人\u3000\u00a0\u202f\u200d\ufeff.jpg', '12:30:05.jpg')
    assert sound(given, 'x.json') is given


def test_an_image_listed_twice_is_an_error():
    with pytest.raises(UserError, match=r'x\.json lists image a\.jpg 2 times'):
        sound(people('a.jpg', 'b.jpg', 'a.jpg'), 'x.json')


@pytest.mark.parametrize(
    'name', ['../a.jpg', '/a.jpg', 'b/../../a.jpg', '..', '.', '', 'b\\..\\..\\a.jpg', '\\a.jpg', 'C:/a.jpg', 'c:a.jpg']
)
def test_a_name_that_leads_elsewhere_is_an_error(name: str):
    with pytest.raises(UserError, match=r"x\.json names '.*': names are relative") as caught:
        require_inside(['fine.jpg', name], 'x.json')
    assert str(caught.value).isprintable()


@pytest.mark.parametrize('name', ['a\nb', '\x1b[2J', 'a\0b', '\udcff', 'a\u2028b'])
def test_a_name_with_control_characters_is_an_error(name: str):
    with pytest.raises(UserError, match=r"x\.json names '.*', which holds a control character") as caught:
        require_inside([name], 'x.json')
    assert str(caught.value).isprintable()


@pytest.mark.parametrize('name', ['x' * 248, 'x/' * 600 + 'a.jpg'])
def test_a_name_that_no_disk_can_hold_is_an_error(name: str):
    require_inside(['x' * 247, 'x/' * 400 + 'a.jpg'], 'x.json')
    with pytest.raises(UserError, match='too long for a file'):
        require_inside([name], 'x.json')


@pytest.mark.parametrize('name', ['../secret', '/etc/secret', 'c1s1_000001/../../../secret'])
def test_prw_opens_nothing_outside_its_folder(prw_root: Path, name: str, monkeypatch: pytest.MonkeyPatch):
    cells = np.array([[name], ['c2s1_000002']], dtype=object)
    savemat(prw_root / 'frame_train.mat', {'img_index_train': cells})
    monkeypatch.setattr('mmps_kd.datasets.annotations.prw.require_file', lambda path: None)
    with pytest.raises(UserError, match=rf"frame_train\.mat names '{name}\.jpg': names are relative"):
        PRWDataset(data_root=str(prw_root))
    (prw_root / 'query_info.txt').write_text(f'7 10 10 8 16 {name}\n')
    with pytest.raises(UserError, match=rf"query_info\.txt names '{name}\.jpg': names are relative"):
        PRWDataset(data_root=str(prw_root), split='test')


def test_cuhk_sysu_names_nothing_outside_its_folder(cuhk_root: Path, write_train: Callable, write_protocol: Callable):
    name, inside = '../../secret.jpg', ('s5.jpg', (12, 12, 8, 16))
    write_train(cuhk_root, [('p1', [(name, (1, 2, 3, 4))])])
    with pytest.raises(UserError, match=rf'Train\.mat names {name}, which Images\.mat does not list'):
        CUHKSYSUDataset(data_root=str(cuhk_root))
    for protocol in ([((name, (1, 2, 3, 4)), [inside])], [(inside, [(name, (1, 2, 3, 4))])]):
        write_protocol(cuhk_root, 100, protocol)
        with pytest.raises(UserError, match=rf'TestG100\.mat names {name}, which Images\.mat does not list'):
            CUHKSYSUDataset(data_root=str(cuhk_root), split='test')
    write_protocol(cuhk_root, 100, [(inside, [('s4.jpg', (40, 10, 8, 16)), (name,)])])
    with pytest.raises(UserError, match=rf'protocol gallery_100 names {name}, which is not among the test images'):
        CUHKSYSUDataset(data_root=str(cuhk_root), split='test')
    image = np.zeros((1, 1), dtype=[('imname', object), ('box', object)])
    image[0, 0] = (name, np.zeros((1, 0)))
    savemat(cuhk_root / 'annotation/Images.mat', {'Img': image})
    with pytest.raises(UserError, match=rf"Images\.mat names '{name}': names are relative"):
        CUHKSYSUDataset(data_root=str(cuhk_root))
