"""Image files of every kind, sound and damaged."""

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmcv.transforms import Compose
from mmdet.datasets.transforms import Resize
from PIL import Image, ImageOps

from mmps_kd.datasets import LoadPersonSearchAnnotations, LoadScene, ResizeFromFile
from mmps_kd.datasets.image_files import (
    decode_upright,
    read_orientation,
    read_sizes,
    stored_boxes,
    stored_size,
    turned_size,
    upright_boxes,
)
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


def exif(orientation: int, order: str = '<') -> bytes:
    """An EXIF block with one entry beside the orientation."""
    entries = struct.pack(f'{order}HHI4sHHIHH', 0x010F, 2, 4, b'abc', 0x0112, 3, 1, orientation, 0)
    return struct.pack(f'{order}2sHIH', b'II' if order == '<' else b'MM', 42, 8, 2) + entries + bytes(4)


def save_turned(path: Path, rgb: np.ndarray, orientation: int, order: str = '<') -> None:
    block, options = exif(orientation, order), {}
    if path.suffix == '.jpg':
        block, options = b'Exif\0\0' + block, dict(quality=100, subsampling=0)
    elif path.suffix == '.webp':
        options = dict(lossless=True)
    elif path.suffix == '.tif':  # Pillow takes its own kind of block alone
        block = Image.Exif()
        block[0x0112] = orientation
    Image.fromarray(rgb).save(path, exif=block, **options)


@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.webp', '.tif'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_training_sees_pixels_as_stored_whatever_exif_says(tmp_path: Path, orientation: int, suffix: str):
    path = tmp_path / f'a{suffix}'
    save_turned(path, RGB, orientation)
    image = LoadScene()(dict(img_path=str(path)))['img']
    np.testing.assert_allclose(image[..., ::-1].astype(int), RGB, atol=6)
    assert stored_size(path) == (60, 80)
    assert read_orientation(path) == orientation


def smooth(width: int, height: int) -> np.ndarray:
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return (255 * np.stack([x, y, (x + y) / 2], axis=-1)).astype(np.uint8)


def resize_both_ways(path: Path, width: int, height: int, scale: tuple) -> list[dict]:
    """What ``LoadScene`` with ``Resize`` makes of a file, and what ``ResizeFromFile`` does."""
    boxes = np.random.default_rng(1).uniform(0, 1, (5, 4)) * [width / 2, height / 2, width / 2, height / 2]
    boxes[:, 2:] += boxes[:, :2]
    instances = [dict(bbox=box.tolist(), bbox_label=0, ignore_flag=0, pid=-1) for box in boxes]
    results = dict(img_path=str(path), width=width, height=height, instances=instances)
    load = LoadPersonSearchAnnotations()
    steps = [[LoadScene(), load, Resize(scale, keep_ratio=True)], [load, ResizeFromFile(scale)]]
    return [Compose(each)(dict(results)) for each in steps]


def assert_same_but_pixels(expected: dict, got: dict) -> None:
    boxes = [results.pop('gt_bboxes').tensor for results in (expected, got)]
    assert boxes[0].dtype == boxes[1].dtype and boxes[0].tolist() == boxes[1].tolist()
    assert expected.keys() == got.keys()
    for key in expected.keys() - {'img'}:
        np.testing.assert_array_equal(got[key], expected[key])
    assert got['img'].shape == expected['img'].shape and got['img'].dtype == expected['img'].dtype


@pytest.mark.parametrize(
    ('width', 'height', 'scale', 'decoded'),
    [
        (800, 600, (1000, 600), (800, 600)),
        (400, 300, (400, 300), (400, 300)),
        (799, 600, (400, 300), (799, 600)),  # to 400x300: a half would have 400 columns, made of 799
        (800, 600, (400, 300), (400, 300)),
        (401, 303, (100, 80), (201, 152)),  # to 100x76: a quarter of 303 is a little less
        (405, 305, (100, 80), (102, 77)),
        (600, 801, (100, 80), (75, 101)),
        (1000, 600, (100, 80), (125, 75)),
    ],
)
def test_resize_from_file_is_load_and_resize(tmp_path: Path, monkeypatch, width, height, scale, decoded):
    path = tmp_path / 'a.jpg'
    cv2.imwrite(str(path), smooth(width, height), [cv2.IMWRITE_JPEG_QUALITY, 95])
    sizes, decode = [], cv2.imdecode
    monkeypatch.setattr(cv2, 'imdecode', lambda *args: sizes.append((image := decode(*args)).shape) or image)
    expected, got = resize_both_ways(path, width, height, scale)
    assert sizes == [(height, width, 3), (decoded[1], decoded[0], 3)]
    assert_same_but_pixels(expected, got)
    difference = np.abs(got['img'].astype(int) - expected['img'])
    assert difference.max() <= (0 if decoded == (width, height) else 6)


@pytest.mark.parametrize('orientation', [1, 3, 6])
def test_resize_from_file_leaves_pixels_as_stored(tmp_path: Path, orientation: int):
    save_turned(tmp_path / 'a.jpg', cv2.resize(RGB, (320, 240)), orientation)
    expected, got = resize_both_ways(tmp_path / 'a.jpg', 320, 240, (80, 60))
    assert_same_but_pixels(expected, got)
    assert np.abs(got['img'].astype(int) - expected['img'])[5:25, 5:35].max() <= 2


@pytest.mark.parametrize('suffix', ['.png', '.webp', '.tif', '.bmp'])
def test_resize_from_file_changes_no_pixel_of_other_formats(tmp_path: Path, suffix: str):
    cv2.imwrite(str(tmp_path / f'a{suffix}'), cv2.resize(NOISE, (400, 300)))
    expected, got = resize_both_ways(tmp_path / f'a{suffix}', 400, 300, (100, 80))
    assert_same_but_pixels(expected, got)
    np.testing.assert_array_equal(got['img'], expected['img'])


def test_resize_from_file_resizes_an_image_in_memory():
    steps = ResizeFromFile((40, 30)), Resize((40, 30), keep_ratio=True)
    got, expected = (step(dict(img=NOISE, img_shape=(60, 80))) for step in steps)
    assert got['scale_factor'] == expected['scale_factor'] == (0.5, 0.5)
    np.testing.assert_array_equal(got['img'], expected['img'])


@pytest.mark.parametrize('scale', [(80, 60), (40, 30), (10, 10)])
def test_damage_is_found_at_a_reduced_scale(tmp_path: Path, scale: tuple):
    path = tmp_path / 'a.jpg'
    path.write_bytes(DAMAGED['truncated JPEG'])
    with pytest.raises(UserError, match=r'a\.jpg cannot be read'):
        ResizeFromFile(scale)(dict(img_path=str(path), width=80, height=60))


# Where a box of columns 1 and 2 and row 0 goes, in an image that is stored with 5 columns and 3 rows; by hand.
UPRIGHT = {
    1: (1, 0, 3, 1),
    2: (2, 0, 4, 1),
    3: (2, 2, 4, 3),
    4: (1, 2, 3, 3),
    5: (0, 1, 1, 3),
    6: (2, 1, 3, 3),
    7: (2, 2, 3, 4),
    8: (0, 2, 1, 4),
}


@pytest.mark.parametrize('suffix', ['.png', '.webp', '.tif'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_boxes_follow_the_pixels(tmp_path: Path, orientation: int, suffix: str):
    stored = np.zeros((3, 5, 3), np.uint8)
    stored[0, 1], stored[0, 2] = (255, 0, 0), (0, 255, 0)
    save_turned(tmp_path / f'a{suffix}', stored, orientation, '>')
    image = decode_upright(tmp_path / f'a{suffix}')
    x1, y1, x2, y2 = UPRIGHT[orientation]
    marked = np.zeros(image.shape[:2], bool)
    marked[y1:y2, x1:x2] = True
    np.testing.assert_array_equal(image.any(axis=2), marked)
    np.testing.assert_array_equal(
        image[..., ::-1], np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / f'a{suffix}')))
    )
    boxes, size = np.float32([[1, 0, 3, 1]]), image.shape[:2]
    assert upright_boxes(boxes, orientation, size).tolist() == [list(UPRIGHT[orientation])]
    assert stored_boxes(np.float32([UPRIGHT[orientation]]), orientation, size).tolist() == boxes.tolist()
    assert turned_size(size, orientation) == (3, 5)


@pytest.mark.parametrize(
    'block',
    [
        b'',
        b'rubbish',
        exif(6)[:4],
        exif(6)[:20],
        exif(0),
        exif(9),
        b'XX' + exif(6)[2:],
        struct.pack('<2sHI', b'II', 42, 4_000_000_000) + exif(6)[8:],
        struct.pack('<2sHIH', b'II', 42, 8, 60_000) + bytes(100),
    ],
)
@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.webp'])
def test_damaged_exif_blocks_are_ignored(tmp_path: Path, block: bytes, suffix: str, recwarn):
    path = tmp_path / f'a{suffix}'
    save_turned(path, RGB, 6)
    content = path.read_bytes()
    assert read_orientation(path) == 6
    start = content.index(exif(6))
    path.write_bytes(content[:start] + block.ljust(len(exif(6)), b'\0') + content[start + len(exif(6)) :])
    assert read_orientation(path) == 1
    if suffix != '.png':  # its checksum is wrong now
        assert decode_upright(path).shape == (60, 80, 3)
    assert not recwarn.list


def test_files_without_exif(tmp_path: Path):
    for name in ('a.jpg', 'a.png', 'a.webp', 'a.tif', 'a.bmp', 'a.gif'):
        Image.fromarray(RGB).save(tmp_path / name)
        assert read_orientation(tmp_path / name) == 1
    (tmp_path / 'empty.jpg').touch()
    (tmp_path / 'cut.jpg').write_bytes(b'\xff\xd8\xff\xe1\xff\xffExif')
    assert [read_orientation(tmp_path / name) for name in ('empty.jpg', 'cut.jpg', 'absent.jpg', '.')] == [1] * 4


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
