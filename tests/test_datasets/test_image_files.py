"""Image files of every kind, sound and damaged."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mmps_kd.datasets import LoadScene
from mmps_kd.datasets.image_files import decode_scene, read_sizes, stored_size
from mmps_kd.errors import UserError

RGB = np.zeros((60, 80, 3), np.uint8)
RGB[:30], RGB[30:, 40:] = (200, 50, 20), (10, 240, 30)
NOISE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)


def jpeg() -> bytes:
    return cv2.imencode('.jpg', NOISE)[1].tobytes()


DAMAGED = {
    'zero bytes': b'',
    'no image': b'<html>404 not found</html>',
    'zeros': bytes(5000),
    'header alone': jpeg()[:100],
    'truncated JPEG': jpeg()[: len(jpeg()) // 2],
    'truncated PNG': cv2.imencode('.png', NOISE)[1].tobytes()[:5000],
}


def save(path: Path, kind: str) -> None:
    image = Image.fromarray(RGB)
    if kind in ('L', 'LA', 'CMYK', 'RGBA', '1', 'P'):
        image.convert(kind).save(path)
    elif kind == 'animated':
        image.save(path, save_all=True, append_images=[image.rotate(180)] * 2)
    elif kind == 'grey 16':
        cv2.imwrite(str(path), np.full((60, 80), 51400, np.uint16))  # 200 of 255
    else:
        cv2.imwrite(str(path), RGB[..., ::-1].astype(np.uint16) * 257)


@pytest.mark.parametrize(
    ('name', 'kind', 'corner'),
    [
        ('a.jpg', 'L', [91, 91, 91]),
        ('a.png', 'LA', [91, 91, 91]),
        ('a.jpg', 'CMYK', [20, 50, 200]),
        ('a.png', 'RGBA', [20, 50, 200]),
        ('a.png', '1', [255, 255, 255]),
        ('a.png', 'grey 16', [200, 200, 200]),
        ('a.png', 'colour 16', [20, 50, 200]),
        ('a.tif', 'colour 16', [20, 50, 200]),
        ('a.gif', 'animated', [20, 50, 200]),
        ('a.png', 'animated', [20, 50, 200]),
        ('a.tif', 'animated', [20, 50, 200]),
        ('a.webp', 'animated', [20, 50, 200]),
    ],
)
def test_other_kinds_become_bgr_of_8_bits(tmp_path: Path, name: str, kind: str, corner: list):
    save(tmp_path / name, kind)
    results = LoadScene()(dict(img_path=str(tmp_path / name), img_id=3))
    image = results['img']
    assert image.shape == (60, 80, 3) and image.dtype == np.uint8
    assert results['img_shape'] == results['ori_shape'] == (60, 80) and results['img_id'] == 3
    if kind != '1':  # dithered
        np.testing.assert_allclose(image[5, 5].astype(int), corner, atol=3)


@pytest.mark.parametrize('orientation', range(1, 9))
def test_pixels_stay_as_stored_whatever_exif_says(tmp_path: Path, orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RGB).save(tmp_path / 'a.jpg', exif=exif, quality=100, subsampling=0)
    image = decode_scene(tmp_path / 'a.jpg')
    np.testing.assert_allclose(image[..., ::-1].astype(int), RGB, atol=6)
    assert stored_size(tmp_path / 'a.jpg') == (60, 80)


@pytest.mark.parametrize('content', DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_image_is_named(tmp_path: Path, content: bytes):
    path = tmp_path / 'a.jpg'
    path.write_bytes(content)
    with pytest.raises(UserError, match=f'{path} cannot be read as an image') as caught:
        LoadScene()(dict(img_path=str(path)))
    assert '\n' not in str(caught.value)


def test_sizes_are_read_once_and_again_where_a_file_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv('MMPS_CACHE', str(tmp_path / 'cache'))
    folder = tmp_path / 'images'
    folder.mkdir()
    cv2.imwrite(str(folder / '0.jpg'), NOISE)
    (folder / '1.jpg').write_bytes(b'')
    assert read_sizes(folder, ['0.jpg', '1.jpg']).tolist() == [[60, 80], [0, 0]]
    with monkeypatch.context() as patch:
        patch.setattr('mmps_kd.datasets.image_files.stored_size', None)
        assert read_sizes(folder, ['0.jpg', '1.jpg']).tolist() == [[60, 80], [0, 0]]
    cv2.imwrite(str(folder / '1.jpg'), NOISE[:30])
    assert read_sizes(folder, ['0.jpg', '1.jpg']).tolist() == [[60, 80], [30, 80]]
