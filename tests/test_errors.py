"""What a user sees of an error."""

import errno

import pytest
from torch.utils.data import DataLoader

from mmps_kd.errors import UserError, check_choice, run_tool


class DamagedImageError(UserError):
    pass


class Images:
    """A data set whose second image is bad."""

    def __init__(self, message):
        self.message = message

    def __len__(self):
        return 3

    def __getitem__(self, idx):
        if idx == 1:
            raise DamagedImageError(self.message)
        return idx


def code_of(main):
    with pytest.raises(SystemExit) as stopped:
        run_tool(main)
    return stopped.value.code


@pytest.mark.parametrize('workers', [0, 1])
@pytest.mark.parametrize('message', ['s1.jpg cannot be read', 'a: b: c'])
def test_an_error_from_a_worker_is_its_one_line(workers, message):
    assert code_of(lambda: list(DataLoader(Images(message), num_workers=workers))) == f'error: {message}'


def test_a_full_disk_is_one_line():
    def main():
        raise OSError(errno.ENOSPC, 'No space left on device', 'log.txt')

    assert code_of(main) == "error: [Errno 28] No space left on device: 'log.txt': make room, then start again"


def test_other_errors_keep_their_traceback():
    def main():
        raise FileNotFoundError(errno.ENOENT, 'No such file or directory')

    with pytest.raises(FileNotFoundError):
        run_tool(main)


def test_success_is_code_zero():
    assert code_of(lambda: None) == 0


def test_invisible_letters_are_shown():
    def main():
        raise UserError('no 街道\u300001.jpg, \u202f.jpg\n\x1b[2J')

    assert code_of(main) == 'error: no 街道\\u300001.jpg, \\u202f.jpg  [2J'


def test_of_several_errors_the_first_is_shown():
    error = UserError('a: x', 'a: y', 'a: z')
    assert str(error) == 'a: x (2 more: check_dataset.py lists all)'
    assert error.messages == ('a: x', 'a: y', 'a: z')


def test_known_value_passes():
    assert check_choice('mode', 'ce', ['ce', 'kl']) is None


def test_unknown_value_lists_the_choices():
    with pytest.raises(UserError, match="^mode='mse' does not exist: choose one of ce, kl$"):
        check_choice('mode', 'mse', iter(['ce', 'kl']))
