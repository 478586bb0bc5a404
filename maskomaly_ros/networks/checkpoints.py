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

"""Where checkpoints are: bundled, in a folder or file, in the cache, or on the hub."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks.known import (
    KNOWN_CHECKPOINTS,
    KnownCheckpoint,
    cache_folder,
    find_known,
)
from maskomaly_ros.networks.official_config import OfficialConfig, read_config

_LOG = logging.getLogger(__name__)
_BUNDLED = {'demo': Path(__file__).parent / 'demo'}
_WEIGHTS = ('model.safetensors', 'model-*.safetensors', 'pytorch_model.bin', 'pytorch_model-*.bin')
_MOST_CONFIG_BYTES = 1 << 20  # those of published checkpoints have less than 100 KB
_OFFICIAL_SUFFIXES = ('.pkl', '.pth', '.pt')
_HUB_ID = re.compile(r'[\w.-]+/[\w.-]+')


@dataclass(frozen=True)
class CheckpointFolder:
    """A folder with config.json and weights.

    Attributes:
        name: short name, under which a queries file is looked for.
        path: the folder.
        sha256: hash of the weights, in hexadecimal.
        source_sha256: hash of the weights that `convert` made these from, where it did.

    """

    name: str
    path: Path
    sha256: str
    source_sha256: str | None = None

    @property
    def weights(self) -> list[Path]:
        """The files with its weights."""
        found = (sorted(self.path.glob(pattern)) for pattern in _WEIGHTS)
        return next(filter(None, found), [])


@dataclass(frozen=True)
class CheckpointFile:
    """An official Mask2Former file and its configuration.

    Attributes:
        name: short name, under which a queries file is looked for.
        path: the `.pkl` or `.pth` file.
        sha256: hash of the file, in hexadecimal.
        config: what network its weights belong to.
        source_sha256: None, as it is the source.

    """

    name: str
    path: Path
    sha256: str
    config: OfficialConfig
    source_sha256: None = None

    @property
    def weights(self) -> list[Path]:
        """The file with its weights."""
        return [self.path]


def find_checkpoint(
    checkpoint: str | Path, config: str | Path | None = None
) -> CheckpointFolder | CheckpointFile:
    """Return where a checkpoint is, downloading it when it is a hub id not yet in the cache.

    Args:
        checkpoint: a bundled name (`demo`), a local folder, an official `.pkl` or `.pth` file,
            the short name of a published checkpoint that has been downloaded before, or a Hugging
            Face id `owner/name`.
        config: yaml configuration of an official file; None looks beside it for one of its
            name, else for `config.yaml` or the only yaml file. Published files need none.

    Raises:
        MaskomalyError: no such checkpoint, no or a wrong configuration, or a download is
            impossible; the message says which files to put where.

    """
    text = str(checkpoint)
    path = Path(checkpoint).expanduser()
    if text in _BUNDLED:
        found: CheckpointFolder | CheckpointFile = _folder(text, _BUNDLED[text])
    elif path.is_dir():
        found = _folder(path.resolve().name, path)
    elif path.exists():
        return _file(path, config)
    elif text in KNOWN_CHECKPOINTS:
        found = _cached(KNOWN_CHECKPOINTS[text])
    elif isinstance(checkpoint, str) and _HUB_ID.fullmatch(text):
        found = _folder(text.split('/')[-1], _from_hub(text))
    else:
        raise MaskomalyError(
            f'no checkpoint {text!r}: it is neither a bundled name ({", ".join(_BUNDLED)}), nor '
            f'the name of a published one ({", ".join(KNOWN_CHECKPOINTS)}), nor an existing '
            'folder or file, nor a Hugging Face id of the form owner/name'
        )
    if config is not None:
        raise MaskomalyError(
            f'checkpoint {text} brings its own configuration; leave out {config}, which only an '
            'official .pkl or .pth file needs'
        )
    return found


def _folder(name: str, path: Path) -> CheckpointFolder:
    if not (path / 'config.json').is_file():
        raise MaskomalyError(f'checkpoint folder {path} has no config.json')
    if (size := (path / 'config.json').stat().st_size) > _MOST_CONFIG_BYTES:
        raise MaskomalyError(
            f'{path / "config.json"} has {size} bytes; a configuration of a network has '
            f'{_MOST_CONFIG_BYTES} at most'
        )
    for pattern in _WEIGHTS:
        files = sorted(path.glob(pattern))
        if files:
            own_name, source = _own_facts(path)
            return CheckpointFolder(own_name or name, path, hash_files(files), source)
    raise MaskomalyError(
        f'checkpoint folder {path} has no weights; one of {", ".join(_WEIGHTS)} is needed'
    )


def _own_facts(path: Path) -> tuple[str | None, str | None]:
    """Return what a converted checkpoint carries along: its name, and the hash of its source."""
    try:
        content = json.loads((path / 'config.json').read_text(encoding='utf-8'))
        name, source = content.get('maskomaly_name'), content.get('maskomaly_source')
        sha256 = source.get('sha256') if isinstance(source, dict) else None
    except (ValueError, AttributeError, RecursionError):
        return None, None  # loading it says what is wrong, if anything is
    return name if isinstance(name, str) else None, sha256 if isinstance(sha256, str) else None


def _file(path: Path, config: str | Path | None) -> CheckpointFile:
    if path.suffix not in _OFFICIAL_SUFFIXES:
        raise MaskomalyError(
            f'checkpoint {path} is a file; give the folder that holds config.json and '
            f'model.safetensors, or an official file ({", ".join(_OFFICIAL_SUFFIXES)})'
        )
    known = find_known(path.name)
    sha256 = hash_files([path])
    return CheckpointFile(
        name=known.name if known else path.stem,
        path=path,
        config=_official_config(path, config, known),
        sha256=sha256,
    )


def _official_config(
    path: Path, config: str | Path | None, known: KnownCheckpoint | None
) -> OfficialConfig:
    if config is not None:
        return read_config(Path(config).expanduser())
    own = path.with_suffix('.yaml')
    if own.is_file():
        return read_config(own)
    if known:
        return known.config()
    beside = sorted(path.parent.glob('*.yaml'))
    chosen = [file for file in beside if file.name == 'config.yaml'] or beside
    if len(chosen) == 1:
        return read_config(chosen[0])
    found = f'{len(beside)} of them' if beside else 'none'
    raise MaskomalyError(
        f'checkpoint {path} needs its yaml configuration: give it as config, or put it beside '
        f'the file as {own.name} or config.yaml ({found} found there). Official ones are in '
        'the folder configs/ of https://github.com/facebookresearch/Mask2Former'
    )


def cached_path(known: KnownCheckpoint) -> Path | None:
    """Return where a published checkpoint is on this machine: a folder, a file or nowhere.

    A folder of its short name in the cache comes first, then the official file there, then the
    cache of Hugging Face.
    """
    for name in (known.name, known.file_name):
        if (path := cache_folder() / name).exists():
            return path
    return _in_hub_cache(known.hub_id) if known.hub_id else None


def _cached(known: KnownCheckpoint) -> CheckpointFolder | CheckpointFile:
    path = cached_path(known)
    if path is not None:
        return _folder(known.name, path) if path.is_dir() else _file(path, None)
    alternative = f', or give {known.hub_id} as the checkpoint' if known.hub_id else ''
    elsewhere = f'{known.url} elsewhere and put it at {cache_folder() / known.file_name}'
    if known.is_folder:
        files = f'{", ".join(_CONFIGS)} and model.safetensors of '
        elsewhere = files + elsewhere.replace('put it at', 'put them into the folder')
    raise MaskomalyError(
        f'checkpoint {known.name} is not on this machine: `maskomaly checkpoint download '
        f'{known.name}` fetches it{alternative}. Without network access here, fetch {elsewhere}'
    )


def hash_files(files: list[Path]) -> str:
    """Return the SHA-256 of files, one after the other, in hexadecimal.

    Raises:
        MaskomalyError: one is no file that ends, but a pipe or a device.

    """
    digest = hashlib.sha256()
    for file in files:
        if not file.is_file():
            raise MaskomalyError(
                f'{file} is no regular file, but a pipe, a device or the like; weights are read '
                'from files alone'
            )
        with file.open('rb') as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


_CONFIGS = ['config.json', 'preprocessor_config.json']
_SAFETENSORS = [*_CONFIGS, 'model*.safetensors', 'model.safetensors.index.json']
_TORCH = [*_CONFIGS, 'pytorch_model*.bin', 'pytorch_model.bin.index.json']


def _in_hub_cache(repository: str) -> Path | None:
    from huggingface_hub import snapshot_download

    try:
        path = Path(
            snapshot_download(
                repository, allow_patterns=_SAFETENSORS + _TORCH, local_files_only=True
            )
        )
    except Exception as error:
        # Which exceptions stand for "not cached" differs between releases of the library.
        _LOG.debug('%s is not in the cache: %s', repository, error)
        return None
    return path if _has_weights(path) and (path / 'config.json').is_file() else None


def _has_weights(path: Path) -> bool:
    return any(any(path.glob(pattern)) for pattern in _WEIGHTS)


def _from_hub(repository: str) -> Path:
    from huggingface_hub import snapshot_download

    if cached := _in_hub_cache(repository):
        return cached
    _LOG.info('downloading checkpoint %s', repository)
    try:
        path = Path(snapshot_download(repository, allow_patterns=_SAFETENSORS))
        if not _has_weights(path):  # older checkpoints have no safetensors
            path = Path(snapshot_download(repository, allow_patterns=_TORCH))
        return path
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
