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

"""Where checkpoints are: bundled, in a folder, or on the Hugging Face hub."""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass
from pathlib import Path

from maskomaly_ros.errors import MaskomalyError

_LOG = logging.getLogger(__name__)
_BUNDLED = {'demo': Path(__file__).parent / 'demo'}
_WEIGHTS = ('model.safetensors', 'model-*.safetensors', 'pytorch_model.bin', 'pytorch_model-*.bin')
_HUB_ID = re.compile(r'[\w.-]+/[\w.-]+')


@dataclass(frozen=True)
class CheckpointFolder:
    """A folder with config.json and weights.

    Attributes:
        name: short name, under which a queries file is looked for.
        path: the folder.
        sha256: hash of the weights, in hexadecimal.

    """

    name: str
    path: Path
    sha256: str


def find_checkpoint(checkpoint: str | Path) -> CheckpointFolder:
    """Return the folder of a checkpoint, downloading it when it is a hub id not yet in the cache.

    Args:
        checkpoint: a bundled name (`demo`), a local folder, or a Hugging Face id `owner/name`.

    Raises:
        MaskomalyError: no such checkpoint, or a download is impossible; the message says which
            files to put where.

    """
    text = str(checkpoint)
    if text in _BUNDLED:
        return _folder(text, _BUNDLED[text])
    path = Path(checkpoint).expanduser()
    if path.is_dir():
        return _folder(path.resolve().name, path)
    if path.exists():
        raise MaskomalyError(
            f'checkpoint {text} is a file; give the folder that holds config.json and '
            'model.safetensors'
        )
    if isinstance(checkpoint, str) and _HUB_ID.fullmatch(text):
        return _folder(text.split('/')[-1], _from_hub(text))
    raise MaskomalyError(
        f'no checkpoint {text!r}: it is neither a bundled name ({", ".join(_BUNDLED)}), nor an '
        'existing folder, nor a Hugging Face id of the form owner/name'
    )


def _folder(name: str, path: Path) -> CheckpointFolder:
    if not (path / 'config.json').is_file():
        raise MaskomalyError(f'checkpoint folder {path} has no config.json')
    for pattern in _WEIGHTS:
        files = sorted(path.glob(pattern))
        if files:
            return CheckpointFolder(name, path, _sha256(files))
    raise MaskomalyError(
        f'checkpoint folder {path} has no weights; one of {", ".join(_WEIGHTS)} is needed'
    )


def _sha256(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open('rb') as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _from_hub(repository: str) -> Path:
    from huggingface_hub import snapshot_download

    files = ['config.json', 'model*.safetensors', 'model.safetensors.index.json']
    try:  # a complete copy in the cache needs no network
        cached = Path(snapshot_download(repository, allow_patterns=files, local_files_only=True))
        if any(cached.glob('model*.safetensors')):
            return cached
    except Exception as error:
        # Which exceptions stand for "not cached" differs between releases of the library.
        _LOG.debug('%s is not in the cache: %s', repository, error)
    _LOG.info('downloading checkpoint %s', repository)
    try:
        return Path(snapshot_download(repository, allow_patterns=files))
    except Exception as error:
        raise MaskomalyError(
            f'cannot download checkpoint {repository}: {_first_line(error)}. On a machine with '
            f'access, fetch config.json and model.safetensors from '
            f'https://huggingface.co/{repository}/tree/main, copy them into a folder, and give '
            'that folder as the checkpoint'
        ) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip('.') if lines else type(error).__name__
