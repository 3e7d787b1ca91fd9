"""Run the benchmarks and write what they print to benchmarks/RESULTS.md, with the machine described.

A section is replaced when its benchmark is run again; the others stay. The trainings take hours, go on where they were
stopped, and are run only when they are named.
"""

import argparse
import importlib.util
import os
import platform
import re
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import torch

from mmps_kd.engine.checkpoint import last_checkpoint
from mmps_kd.errors import UserError, run_tool

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / 'benchmarks/RESULTS.md'
HEAD = """# Benchmarks

What the benchmarks print, written by `make bench`; `make bench ARGS='--only oim'` runs some of them. Every section
names the machine and the commit. Compare figures within a section: other work may have shared the machine.
"""
DATA = 'data/synthetic/cuhk-sysu-mini'
DEMO = 'configs/demo/oim_r18-narrow_mini.py'
# fmt: off
BENCHMARKS = {
    'oim': ['benchmarks/bench_oim.py'],
    'training-step': ['benchmarks/bench_train_step.py'],
    'cpu': ['benchmarks/bench_cpu.py'],
    'data': ['benchmarks/bench_data.py', '--checkpoint', 'CHECKPOINT'],
    'search-evaluation': ['benchmarks/bench_search_eval.py'],
    'query-guided': ['benchmarks/bench_query_guided.py'],
    'gallery-100k': ['benchmarks/bench_gallery.py', '1e5'],
    'inference': [
        'tools/analysis_tools/benchmark.py', DEMO, 'CHECKPOINT', f'{DATA}/Image/SSM', '--num-images', '20',
        '--backends', 'torch-fp32', 'torch-bf16', 'onnxruntime-fp32', 'openvino-fp32', 'openvino-bf16', '--evaluate',
    ],
    'inference-torchvision': ['benchmarks/bench_inference_peer.py', '--clock', 'cpu', '--repeats', '1'],
    'gpu-toy': ['benchmarks/bench_gpu.py', '--toy'],
    'calls': ['benchmarks/trace_walks.py'],
}
TRAININGS = {
    'distillation': ['benchmarks/kd_ablation.py'],
    'distillation-parts': ['benchmarks/kd_parts.py'],
    'qeeps': ['benchmarks/qeeps_ablation.py'],
    'photographs': ['benchmarks/real_photographs.py'],
}
# fmt: on


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    names = [*BENCHMARKS, *TRAININGS]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--only', nargs='+', choices=names, metavar='NAME', help=f'of {", ".join(names)}')
    return parser.parse_args()


def machine() -> str:
    """Processor, cores, memory, GPU, versions, commit and load, in one line."""
    info = Path('/proc/cpuinfo')
    models = re.findall(r'^model name\s*: (.+)$', info.read_text(), re.M) if info.exists() else []
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else 'no GPU'
    commit = subprocess.run(['git', 'rev-parse', '--short', 'HEAD'], cwd=ROOT, capture_output=True, text=True).stdout
    parts = [
        models[0] if models else platform.processor(),
        f'{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}',
        f'{memory:.0f} GiB',
        gpu,
        f'Python {platform.python_version()}',
        *(f'{name} {version(name)}' for name in ('torch', 'numpy')),
        f'commit {commit.strip()}',
        time.strftime('%Y-%m-%d'),
    ]
    return '; '.join(parts)


def run(name: str) -> str:
    """The section of a benchmark: machine, command, and what it printed.

    Raises:
        UserError: If it failed, or the demo has not been run.
    """
    command = {**BENCHMARKS, **TRAININGS}[name]
    if 'CHECKPOINT' in command:
        trained = os.path.relpath(last_checkpoint(ROOT / 'work_dirs/demo/train'), ROOT)
        command = [trained if word == 'CHECKPOINT' else word for word in command]
    described = machine()
    done = subprocess.run([sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise UserError(f'{name} failed: {" ".join(command)}')
    return f'## {name}\n\n{described}\n\n```text\n$ python {" ".join(command)}\n{done.stdout.rstrip()}\n```\n'


def main() -> None:
    """Run them one after another; a failure does not stop the others."""
    args = parse_args()
    failed = []
    for name in args.only or BENCHMARKS:
        if name == 'inference-torchvision' and importlib.util.find_spec('torchvision') is None:
            print(f'{name} left out: torchvision is not installed', file=sys.stderr)
            continue
        print(f'=== {name}', file=sys.stderr, flush=True)
        try:
            write(name, run(name))
        except UserError as error:
            failed.append(str(error))
    if failed:
        raise UserError('; '.join(failed))


def write(name: str, section: str) -> None:
    """Put a section in its place in RESULTS.md."""
    text = RESULTS.read_text() if RESULTS.exists() else ''
    sections = {part.split('\n', 1)[0]: f'## {part.rstrip()}\n' for part in re.split(r'^## ', text, flags=re.M)[1:]}
    sections[name] = section
    ordered = [sections[name] for name in (*BENCHMARKS, *TRAININGS) if name in sections]
    RESULTS.write_text('\n'.join([HEAD, *ordered]))


if __name__ == '__main__':
    run_tool(main)
