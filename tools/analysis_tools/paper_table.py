"""Tables of the models in the metafiles: what was measured here, beside what is published (Markdown)."""

import argparse
import json
from pathlib import Path

from mmengine.fileio import load

from mmps_kd.errors import UserError, run_tool

ROOT = Path(__file__).resolve().parents[2]
# Published figures' names in the metafiles, and what the metrics call them; a query-guided model has no detection
# figures of its own, a detector no search figures.
FIGURES = {
    'search mAP': ['search/mAP'],
    'top-1': ['search/top1'],
    'detection AP': ['search/det_ap', 'detection/det_ap'],
    'recall': ['search/det_recall', 'detection/det_recall'],
}
HEAD = ['config', 'model', 'parameters', 'ours', 'published, cited']


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('work_dir', type=Path, help='with <config name>/figures.json, as reproduce_paper.sh writes it')
    parser.add_argument('names', nargs='*', help='names of models; all by default')
    return parser.parse_args()


def read_models() -> list[dict]:
    """All models of the metafiles, in their order."""
    files = load(ROOT / 'model-index.yml')['Import']
    return [model for file in files for model in load(ROOT / file)['Models']]


def tables(models: list[dict], work_dir: Path) -> dict[str, list[str]]:
    """Lines of one table for each data set."""
    lines: dict[str, list[str]] = {}
    for model in models:
        table = lines.setdefault(model['Metadata']['Training Data'], [row_line(HEAD), row_line(['---'] * len(HEAD))])
        table.append(row_line(model_cells(model, work_dir)))
    return lines


def model_cells(model: dict, work_dir: Path) -> list[str]:
    """A model's row."""
    metadata = model['Metadata']
    teachers = f'; teachers: {metadata["Teachers"]}' if 'Teachers' in metadata else ''
    published = [f'{percent(entry["Metrics"])} ({entry["Source"]})' for entry in model.get('Published', [])]
    return [
        f'`{model["Config"].removeprefix("configs/")}`',
        metadata['Architecture'] + teachers,
        f'{metadata["Parameters"] / 1e6:.1f} M',
        measured(work_dir / model['Name'] / 'figures.json'),
        '; '.join(published),
    ]


def measured(file: Path) -> str:
    """What evaluation wrote, or that it was not run."""
    if not file.is_file():
        return 'not run'
    logged = json.loads(file.read_text())
    found = {name: logged[key] for name, keys in FIGURES.items() for key in keys if key in logged}
    return percent({name: 100 * value for name, value in found.items()})


def percent(metrics: dict[str, float]) -> str:
    """Figures in the order of FIGURES, a dash for one that is not there; the last ones are left out."""
    return ' / '.join(f'{metrics[name]:.1f}' if name in metrics else '-' for name in FIGURES).rstrip(' /-')


def row_line(cells: list[str]) -> str:
    """A row in Markdown."""
    return f'| {" | ".join(cells)} |'


def main() -> None:
    """Print the tables."""
    args = parse_args()
    models = read_models()
    unknown = set(args.names) - {model['Name'] for model in models}
    if unknown:
        raise UserError(f'no model {min(unknown)} in the metafiles that model-index.yml lists')
    chosen = [model for model in models if not args.names or model['Name'] in args.names]
    for dataset, lines in tables(chosen, args.work_dir).items():
        print(f'\n### {dataset}: {" / ".join(FIGURES)}, percent\n')
        print('\n'.join(lines))


if __name__ == '__main__':
    run_tool(main)
