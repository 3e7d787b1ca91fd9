"""What a teacher said is read from disk: the same values, for the same pixels and the same teacher alone."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from mmps_kd.errors import UserError
from mmps_kd.models.distillers.teacher import DetectorTeacher

PEOPLE = [([[10, 8, 40, 88], [60, 20, 90, 92]], [3, -1]), ([[20, 10, 50, 90]], [0])]
HINT = dict(at='backbone.0', loss=dict(type='FeatureImitationLoss'))
LOGITS = [dict(at=at, loss=dict(type='LogitDistillationLoss')) for at in ('rpn.cls', 'roi.cls')]


@pytest.fixture
def build_cached(build_taught, tmp_path):
    """A student and, over the same files, its teacher with a cache; a seed gives the teacher other weights."""

    def build(answers: str = 'heads', seed: int = 7, max_gb: float = 1.0):
        model = build_taught([HINT, *LOGITS], seed=seed, answers=answers)
        files = dict(config=str(tmp_path / 'teacher.py'), checkpoint=str(tmp_path / 'teacher.pth'))
        cache = dict(folder=str(tmp_path / 'cache'), max_gb=max_gb)
        return model, DetectorTeacher(**files, preprocessor=model.data_preprocessor, answers=answers, cache=cache)

    return build


@pytest.fixture
def batch(build_taught, make_batch) -> dict:
    """Two images, normalised."""
    return build_taught([HINT]).data_preprocessor(make_batch(PEOPLE), training=True)


def kept(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / 'cache').glob('*/*.safetensors'))


def forget_weights(teacher: DetectorTeacher) -> None:
    """What is computed from here on is NaN."""
    for weight in teacher.model.parameters():
        weight.fill_(torch.nan)


@pytest.mark.parametrize('answers', ['heads', 'boxes'])
def test_a_step_from_the_cache_has_the_losses_of_the_live_teacher(build_cached, batch, answers, tmp_path):
    model, cached = build_cached(answers)
    model.eval()

    def losses() -> dict:
        torch.manual_seed(0)  # of the sampled anchors and RoIs
        return model(**batch, mode='loss')

    live = losses()
    model.teacher = cached
    first = losses()
    assert len(kept(tmp_path)) == (2 if answers == 'heads' else 4)
    for weight in cached.model.backbone.parameters():
        weight.fill_(torch.nan)
    second = losses()
    for name in ('distill/loss_backbone.0', 'distill/loss_rpn.cls', 'distill/loss_roi.cls'):
        torch.testing.assert_close(first[name], live[name])
        assert torch.equal(second[name], first[name])
        assert first[name].isfinite()
    assert first['distill/loss_backbone.0'] > 0


def test_an_image_is_known_by_its_pixels(build_cached, batch, tmp_path):
    _, teacher = build_cached()
    images = batch['inputs']
    live = teacher.model.extract_feat(images)
    teacher.extract_feat(images[:1])
    forget_weights(teacher)
    swapped = teacher.extract_feat(images.flip(0))
    assert len(kept(tmp_path)) == 2
    torch.testing.assert_close(swapped[0][1], live[0][0])
    assert swapped[0][0].isnan().any()  # the second image was not there
    mirrored, dimmed, padded = images[:1].flip(3), 0.99 * images[:1], F.pad(images[:1], (0, 32))
    for other in (mirrored, dimmed, padded):
        assert teacher.extract_feat(other)[0].isnan().any()
    assert len(kept(tmp_path)) == 5


def test_another_teacher_has_its_own_answers(build_cached, batch, tmp_path):
    _, one = build_cached()
    one.extract_feat(batch['inputs'])
    _, other = build_cached(seed=8)
    torch.testing.assert_close(other.extract_feat(batch['inputs']), other.model.extract_feat(batch['inputs']))
    assert len(kept(tmp_path)) == 4
    assert len({file.parent for file in kept(tmp_path)}) == 2


def test_under_autocast_it_answers_as_the_live_teacher_does(build_cached, batch, tmp_path):
    _, teacher = build_cached()
    full = teacher.extract_feat(batch['inputs'])
    with torch.autocast('cpu', torch.bfloat16):
        live = teacher.model.extract_feat(batch['inputs'])
        teacher.extract_feat(batch['inputs'])
        again = teacher.extract_feat(batch['inputs'])
    assert [x.dtype for x in again] == [x.dtype for x in live]
    assert len(kept(tmp_path)) == 4
    assert all(torch.equal(a, b) for a, b in zip(teacher.extract_feat(batch['inputs']), full, strict=True))


@pytest.mark.parametrize('damage', ['cut', 'flipped bit', 'empty'])
def test_a_damaged_file_is_made_again(build_cached, batch, tmp_path, damage):
    _, teacher = build_cached()
    before = teacher.extract_feat(batch['inputs'])
    file = kept(tmp_path)[0]
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(dict(cut=content[:-100], empty=b'').get(damage, bytes(content)))
    after = teacher.extract_feat(batch['inputs'])
    torch.testing.assert_close(after, before)
    assert file.stat().st_size == len(content)
    forget_weights(teacher)
    assert all(torch.equal(a, b) for a, b in zip(teacher.extract_feat(batch['inputs']), after, strict=True))


def test_its_size_is_bounded(build_cached, batch, tmp_path):
    _, teacher = build_cached()
    teacher.extract_feat(batch['inputs'])
    size = kept(tmp_path)[0].stat().st_size
    images = torch.cat([batch['inputs'], batch['inputs'].flip(3), batch['inputs'].flip(2)])
    # Room for one file more, also after a new start.
    for _ in range(2):
        _, teacher = build_cached(max_gb=3.5 * size / 1e9)
        found = teacher.extract_feat(images)
        assert len(kept(tmp_path)) == 3
    torch.testing.assert_close(found, teacher.model.extract_feat(images))


def test_a_folder_that_cannot_be_made_is_one_clear_line(build_cached, tmp_path):
    (tmp_path / 'cache').write_text('a file')
    with pytest.raises(UserError, match=r'teacher\.cache: .*cache.* cannot be made'):
        build_cached()
