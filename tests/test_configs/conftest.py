"""Loss values of every distillation config, kept in golden_losses.json."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

FILE = Path(__file__).with_name('golden_losses.json')
ROOT = Path(__file__).resolve().parents[2]
# Other processors and releases of torch round differently; what changes in a loss or in its weight is far larger.
RELATIVE_TOLERANCE = 1e-4


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption('--update-golden-losses', action='store_true', help=f'write the losses found to {FILE.name}')


class GoldenLosses:
    """The kept values by config and loss; with ``update`` those that are checked take their place."""

    def __init__(self, update: bool) -> None:
        self.update = update
        self.values: dict[str, dict[str, float]] = json.loads(FILE.read_text())

    def check(self, config: str, losses: dict[str, float]) -> None:
        """Compare names and values of all losses."""
        if self.update:
            self.values[config] = losses
        assert config in self.values, f'{FILE.name} lacks {config}: run pytest tests/test_configs with the option'
        assert losses == pytest.approx(self.values[config], rel=RELATIVE_TOLERANCE, abs=1e-7)

    def write(self) -> None:
        """Keep the values of those configs that still exist."""
        kept = {config: values for config, values in self.values.items() if (ROOT / config).is_file()}
        FILE.write_text(json.dumps(kept, indent=2, sort_keys=True) + '\n')


@pytest.fixture(scope='session')
def golden_losses(request: pytest.FixtureRequest) -> Iterator[GoldenLosses]:
    """Give the kept values, and write them if the command line asks for it."""
    golden = GoldenLosses(request.config.getoption('--update-golden-losses'))
    yield golden
    if golden.update:
        golden.write()
