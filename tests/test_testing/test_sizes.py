import pytest

from mmps_kd.errors import UserError
from mmps_kd.testing.synthetic.sizes import SIZES, dataset_size


def test_full_has_the_counts_of_the_real_datasets():
    cuhk, prw = dataset_size('cuhk-sysu', 'full'), dataset_size('prw', 'full')
    assert (cuhk.train.images, cuhk.test.images, cuhk.train.images + cuhk.test.images) == (11206, 6978, 18184)
    assert (cuhk.train.identities, cuhk.test.identities, cuhk.queries) == (5532, 2900, 2900)
    assert (prw.train.images, prw.test.images, prw.train.images + prw.test.images) == (5704, 6112, 11816)
    assert (prw.train.identities, prw.test.identities, prw.queries) == (483, 449, 2057)


@pytest.mark.parametrize('size', SIZES.values())
def test_everyone_is_seen_twice_and_can_be_asked_for(size):
    for split in (size.train, size.test):
        assert 2 <= split.appearances[0] <= split.appearances[1] <= split.images
    assert size.queries <= size.test.identities * size.test.appearances[0]


@pytest.mark.parametrize('key', [('cuhk', 'tiny'), ('prw', 'huge')])
def test_unknown_size_names_those_there_are(key):
    with pytest.raises(UserError, match=f'{key[0]}.*{key[1]}.*prw full'):
        dataset_size(*key)
