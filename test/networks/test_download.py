# Copyright 2026 The maskomaly_ros contributors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""Downloading published checkpoints, and `maskomaly checkpoint`, against a local server."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from maskomaly_ros.cli.checkpoint import app
from maskomaly_ros.cli.main import app as maskomaly
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks import known as known_checkpoints
from maskomaly_ros.networks import load_network
from maskomaly_ros.networks.download import download
from maskomaly_ros.networks.known import KNOWN_CHECKPOINTS, cache_folder

CONTENT = np.random.default_rng(0).bytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Site:
    """A web server with one file, and what to do wrong."""

    url: str = ''
    content: bytes = CONTENT
    tag: str = '"one"'
    ranges: bool = True
    tell_length: bool = True
    stop_after: int | None = None  # bytes of each answer
    stops: int = 1 << 30  # answers that stop early
    requests: list[str | None] = field(default_factory=list)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        asked = handler.headers.get('Range')
        self.requests.append(asked)
        if handler.path != '/file.pkl':
            handler.send_error(404)
            return
        start = 0
        if self.ranges and asked and handler.headers.get('If-Range') == self.tag:
            start = int(asked.removeprefix('bytes=').removesuffix('-'))
        size = len(self.content)
        if start >= size:
            handler.send_response(416)
            handler.send_header('Content-Range', f'bytes */{size}')
            handler.end_headers()
            return
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header('Content-Range', f'bytes {start}-{size - 1}/{size}')
        if self.tell_length:
            handler.send_header('Content-Length', str(size - start))
        if self.tag:
            handler.send_header('ETag', self.tag)
        handler.end_headers()
        body = self.content[start:]
        if self.stop_after is not None and self.stops > 0:
            self.stops -= 1
            body = body[: self.stop_after]
        handler.wfile.write(body)
        handler.close_connection = True


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.answer(self)

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
        site.url = f'http://127.0.0.1:{server.server_port}/file.pkl'
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield site
        server.shutdown()
        thread.join(10)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / 'cache' / 'file.pkl'


def files(target: Path) -> set[str]:
    return {path.name for path in target.parent.iterdir()}


class TestDownload:
    @pytest.mark.parametrize('tell_length', [True, False])
    def test_whole(self, site: Site, target: Path, tell_length: bool) -> None:
        site.tell_length = tell_length
        seen: list[tuple[int, int | None]] = []
        download(site.url, target, sha256=SHA256, progress=lambda *step: seen.append(step))
        assert target.read_bytes() == CONTENT
        assert files(target) == {'file.pkl'}
        assert seen[-1] == (len(CONTENT), len(CONTENT) if tell_length else None)
        assert [here for here, _ in seen] == sorted(here for here, _ in seen)

    def test_a_lost_connection_is_taken_up_at_once(self, site: Site, target: Path) -> None:
        site.stop_after, site.stops = 1_000_000, 2
        download(site.url, target, sha256=SHA256)
        assert target.read_bytes() == CONTENT
        assert site.requests == [None, 'bytes=1000000-', 'bytes=2000000-']

    def test_a_second_run_goes_on(self, site: Site, target: Path) -> None:
        site.stop_after = 100_000
        with pytest.raises(MaskomalyError, match='500000 bytes are kept') as raised:
            download(site.url, target)
        assert str(target) in str(raised.value)
        assert files(target) == {'file.pkl.part', 'file.pkl.part.version'}
        site.stop_after = None
        seen: list[int] = []
        download(site.url, target, sha256=SHA256, progress=lambda here, _: seen.append(here))
        assert site.requests[-1] == 'bytes=500000-'
        assert seen[0] > 500_000
        assert target.read_bytes() == CONTENT
        assert files(target) == {'file.pkl'}

    def test_no_progress_gives_up(self, site: Site, target: Path) -> None:
        site.stop_after = 0
        with pytest.raises(MaskomalyError, match='cannot download'):
            download(site.url, target)
        assert len(site.requests) == 1
        assert files(target) == set()

    def test_another_file_by_now_starts_again(self, site: Site, target: Path) -> None:
        site.stop_after, site.tag = 100_000, '"old"'
        site.content = bytes(len(CONTENT))
        with pytest.raises(MaskomalyError, match='are kept'):
            download(site.url, target)
        site.stop_after, site.tag, site.content = None, '"new"', CONTENT
        download(site.url, target)
        assert target.read_bytes() == CONTENT

    def test_a_server_without_ranges(self, site: Site, target: Path) -> None:
        site.stop_after, site.stops, site.ranges = 1_000_000, 1, False
        download(site.url, target, sha256=SHA256)
        assert target.read_bytes() == CONTENT

    @pytest.mark.parametrize('tag', ['', 'W/"weak"'])
    def test_a_server_without_versions_never_continues(
        self, site: Site, target: Path, tag: str
    ) -> None:
        site.stop_after, site.stops, site.tag = 1_000_000, 1, tag
        download(site.url, target, sha256=SHA256)
        assert site.requests == [None, None]

    def test_all_is_here_already(self, site: Site, target: Path) -> None:
        target.parent.mkdir()
        (target.parent / 'file.pkl.part').write_bytes(CONTENT)
        (target.parent / 'file.pkl.part.version').write_text(site.tag)
        download(site.url, target, sha256=SHA256)
        assert target.read_bytes() == CONTENT

    def test_more_is_here_than_there_is(self, site: Site, target: Path) -> None:
        target.parent.mkdir()
        (target.parent / 'file.pkl.part').write_bytes(CONTENT + b'more')
        (target.parent / 'file.pkl.part.version').write_text(site.tag)
        with pytest.raises(MaskomalyError, match='shorter file'):
            download(site.url, target, sha256=SHA256)
        download(site.url, target, sha256=SHA256)
        assert target.read_bytes() == CONTENT

    def test_a_wrong_checksum(self, site: Site, target: Path) -> None:
        with pytest.raises(MaskomalyError, match=rf'{SHA256}, and must be 00.*deleted'):
            download(site.url, target, sha256='00' * 32)
        assert files(target) == set()

    def test_a_file_that_is_not_there(self, site: Site, target: Path) -> None:
        seen: list[Any] = []
        with pytest.raises(MaskomalyError, match='answers 404') as raised:
            download(f'{site.url}.old', target, progress=lambda *step: seen.append(step))
        assert str(target) in str(raised.value)
        assert seen == []
        assert files(target) == set()

    def test_no_server(self, target: Path) -> None:
        with pytest.raises(MaskomalyError, match=r'cannot download.*refused.*fetch the file') as e:
            download('http://127.0.0.1:9/file.pkl', target)
        assert str(target) in str(e.value)

    def test_a_silent_server(self, target: Path) -> None:
        with ThreadingHTTPServer(('127.0.0.1', 0), BaseHTTPRequestHandler) as server:
            url = f'http://127.0.0.1:{server.server_port}/file.pkl'  # nobody serves
            with pytest.raises(MaskomalyError, match='timed out'):
                download(url, target, timeout=0.2)

    def test_a_folder_that_cannot_be_written(self, site: Site, tmp_path: Path) -> None:
        (tmp_path / 'file').write_text('text')
        with pytest.raises(MaskomalyError, match='cannot write'):
            download(site.url, tmp_path / 'file' / 'file.pkl')

    def test_two_at_once(self, site: Site, target: Path) -> None:
        inner: list[str] = []

        def again(*_: Any) -> None:
            if not inner:
                with pytest.raises(MaskomalyError, match='another process') as raised:
                    download(site.url, target)
                inner.append(str(raised.value))

        download(site.url, target, sha256=SHA256, progress=again)
        assert inner
        assert target.read_bytes() == CONTENT


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv('MASKOMALY_CHECKPOINTS', str(tmp_path / 'checkpoints'))
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    return tmp_path / 'checkpoints'


@pytest.fixture
def served(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Return a server that takes the place of the official one for R50."""
    known = replace(KNOWN_CHECKPOINTS['r50-cityscapes'], url=site.url)
    monkeypatch.setitem(known_checkpoints.KNOWN_CHECKPOINTS, known.name, known)
    return site


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


class TestCommands:
    def test_list(self, cache: Path) -> None:
        result = run('list')
        assert result.exit_code == 0
        lines = {line.split()[0]: line for line in result.stdout.splitlines() if line.strip()}
        assert lines.keys() >= {'demo', *KNOWN_CHECKPOINTS}
        assert '83.3' in lines['swin-l-cityscapes']
        assert 'bundled' in lines['swin-l-cityscapes']
        assert 'facebook/mask2former-swin-large-cityscapes-semantic' in lines['swin-l-cityscapes']
        assert 'bundled' not in lines['swin-t-cityscapes']
        assert str(cache) in result.stdout.replace('\n', '')

    def test_download_into_the_cache(self, served: Site, cache: Path) -> None:
        result = run('download', 'r50-cityscapes')
        assert result.exit_code == 0
        assert (cache / 'file.pkl').read_bytes() == CONTENT
        assert str(cache / 'file.pkl') in result.stdout
        assert SHA256 in result.stderr
        assert run('download', 'r50-cityscapes').exit_code == 0
        assert len(served.requests) == 1
        assert 'yes' in next(x for x in run('list').stdout.splitlines() if 'r50' in x)

    def test_download_elsewhere(self, served: Site, cache: Path, tmp_path: Path) -> None:
        assert run('download', 'r50-cityscapes', '--to', tmp_path / 'mine').exit_code == 0
        assert (tmp_path / 'mine' / 'file.pkl').read_bytes() == CONTENT
        assert not cache.exists()

    def test_no_bar_for_a_file_that_is_not_there(
        self, served: Site, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        known = replace(KNOWN_CHECKPOINTS['r50-cityscapes'], url=f'{served.url}.old')
        monkeypatch.setitem(known_checkpoints.KNOWN_CHECKPOINTS, known.name, known)
        result = run('download', 'r50-cityscapes')
        assert isinstance(result.exception, MaskomalyError)
        assert 'file.pkl' not in result.stderr

    def test_a_name_that_nobody_knows(self, cache: Path) -> None:
        result = run('download', 'r51-cityscapes')
        assert isinstance(result.exception, MaskomalyError)
        assert 'r50-cityscapes' in str(result.exception)

    def test_info_of_a_folder(self, tiny_checkpoint: Path) -> None:
        lines = run('info', tiny_checkpoint).stdout.splitlines()
        facts = {line[:18].strip(): line[19:] for line in lines}
        assert facts['classes'] == '3: road, sky, car'
        assert facts['input size'] == '96x192'
        assert facts['queries'] == '8'
        assert facts['backbone'] == 'resnet, depths 1 1 1 1'
        assert facts['anomalous queries'] == 'none known'

    def test_info_of_a_published_file(self, cache: Path) -> None:
        cache.mkdir()
        known = KNOWN_CHECKPOINTS['swin-l-cityscapes']
        (cache / known.file_name).write_bytes(b'weights are not read')
        for name in (known.name, cache / known.file_name):
            result = run('info', name)
            assert 'swin, depths 2 2 18 2' in result.stdout
            assert '49, 31, 83, 32' in result.stdout
            assert known.url in result.stdout

    def test_info_of_an_absent_one(self, cache: Path) -> None:
        result = run('info', 'swin-b-cityscapes')
        assert result.exit_code == 0
        assert 'maskomaly checkpoint download swin-b-cityscapes' in result.stdout

    def test_convert(self, tiny_checkpoint: Path, tmp_path: Path) -> None:
        result = run('convert', tiny_checkpoint, '--out', tmp_path / 'out')
        assert result.exit_code == 0
        assert result.stdout.strip() == str(tmp_path / 'out')
        assert load_network(tmp_path / 'out', device='cpu').num_queries == 8


class TestCache:
    @pytest.mark.parametrize('name', KNOWN_CHECKPOINTS)
    def test_absent_says_what_to_do(self, cache: Path, name: str) -> None:
        known = KNOWN_CHECKPOINTS[name]
        with pytest.raises(MaskomalyError, match=f'checkpoint download {name}') as raised:
            load_network(name, device='cpu')
        assert known.url in str(raised.value)
        assert str(cache / known.file_name) in str(raised.value)
        if known.hub_id:
            assert known.hub_id in str(raised.value)

    def test_a_converted_folder_comes_first(self, cache: Path, tiny_checkpoint: Path) -> None:
        cache.mkdir()
        shutil.copytree(tiny_checkpoint, cache / 'swin-l-cityscapes')
        (cache / KNOWN_CHECKPOINTS['swin-l-cityscapes'].file_name).write_bytes(b'not read')
        network = load_network('swin-l-cityscapes', device='cpu')
        assert network.name == 'swin-l-cityscapes'
        assert network.num_queries == 8

    def test_a_file_is_loaded_with_the_built_in_configuration(self, cache: Path) -> None:
        cache.mkdir()
        (cache / KNOWN_CHECKPOINTS['r50-cityscapes'].file_name).write_bytes(b'\x80\x02}.')
        with pytest.raises(MaskomalyError, match='holds no weights'):
            load_network('r50-cityscapes', device='cpu')

    def test_where_it_is(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.delenv('MASKOMALY_CHECKPOINTS', raising=False)
        monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
        assert cache_folder() == tmp_path / 'maskomaly_ros' / 'checkpoints'
        monkeypatch.delenv('XDG_CACHE_HOME')
        assert cache_folder() == Path.home() / '.cache' / 'maskomaly_ros' / 'checkpoints'
        monkeypatch.setenv('MASKOMALY_CHECKPOINTS', str(tmp_path / 'own'))
        assert cache_folder() == tmp_path / 'own'


class TestMaskomaly:
    def test_the_group_belongs_to_the_command(self, cache: Path) -> None:
        result = CliRunner().invoke(maskomaly, ['checkpoint', 'download', 'nothing'])
        assert result.exit_code == 1
        assert result.stderr.startswith("Error: no checkpoint 'nothing'")
