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

"""Where exported networks are kept, so that each is made once on a machine.

Nothing here imports the library that a network comes from: with a cache that is filled, a program
starts without it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from maskomaly_ros.networks.checkpoints import CheckpointFile, CheckpointFolder
from maskomaly_ros.networks.known import user_cache
from maskomaly_ros.networks.preprocessing import InputForm, InputSize

Shape = tuple[int, int, int]
# Of an export that is under way in this folder, or was interrupted.
PART = '.export-'
# Number of the form that files have; one more whenever `runtime_form` or the exporter change it.
FORM = 2


@dataclass(frozen=True)
class Facts:
    """What is known of a network once it has been loaded.

    Attributes:
        num_queries: N.
        class_names: the C inlier classes.
        input_size: what frames are resized to: shortest and longest side.
        square: side of the squares that it sees; None where it takes whole frames.
        frame_size: height and width of the frames that an export was last used for.

    """

    num_queries: int
    class_names: tuple[str, ...]
    input_size: tuple[int, int]
    square: int | None = None
    frame_size: tuple[int, int] | None = None

    @property
    def input_form(self) -> InputForm:
        """How frames become the input."""
        return InputForm(InputSize(*self.input_size), self.square)


class ExportCache:
    """The exported forms of one checkpoint: files that this package and these libraries made.

    A file is named by the hashes of the weights, of the configuration and of the versions of
    whatever decides what it holds, by the input size and by the shape of the input. It is written
    under another name and then renamed, so that it is whole wherever it is found.

    Args:
        checkpoint: the checkpoint.

    """

    def __init__(self, checkpoint: CheckpointFolder | CheckpointFile) -> None:
        name = re.sub(r'[^\w.-]', '_', checkpoint.name)
        self._stem = f'{name}-{checkpoint.sha256[:16]}-{_config_hash(checkpoint)}'
        self._versions = hashlib.sha256(repr(sorted(versions().items())).encode()).hexdigest()[:8]
        self.folder = user_cache() / 'exported'

    def file(self, input_size: InputSize, shape: Shape) -> Path:
        """Return where the exported form is, or would be.

        Args:
            input_size: what frames are resized to.
            shape: batch, height and width of the input.

        """
        sizes = f'{"x".join(map(str, shape))}-{input_size.shortest}x{input_size.longest}'
        return self.folder / f'{self._stem}-{sizes}-{self._versions}.onnx'

    def read_facts(self, chosen: InputSize | None) -> Facts | None:
        """Return what is known of the network with this input size; None where nothing is."""
        try:
            content = json.loads(self._facts_file(chosen).read_text(encoding='utf-8'))
            for key in ('class_names', 'input_size', 'frame_size'):
                content[key] = tuple(content[key]) if content[key] is not None else None
            facts = Facts(**content)
            _ = facts.input_form
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        return facts

    def write_facts(self, chosen: InputSize | None, facts: Facts) -> None:
        """Keep what is known of the network; where that cannot be written, it is not kept."""
        self._write(self._facts_file(chosen), json.dumps(asdict(facts)))

    def read_refusal(self, file: Path) -> str:
        """Return why this file cannot be made; empty where that is not known."""
        try:
            return _refusal_file(file).read_text(encoding='utf-8').strip()
        except (OSError, ValueError):
            return ''

    def write_refusal(self, file: Path, reason: str) -> Path:
        """Note why a file cannot be made, lest each process spend minutes on finding out again.

        Returns:
            The note. Without it, the next process tries again.

        """
        note = _refusal_file(file)
        self._write(note, reason)
        return note

    @contextmanager
    def locked(self, file: Path) -> Iterator[None]:
        """Keep other processes from making the same file meanwhile.

        Raises:
            OSError: the folder cannot be written.

        """
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.with_suffix('.lock').open('w') as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
            except OSError:  # a file system without locks: the work is done twice at worst
                yield
                return
            for left in file.parent.glob(f'{PART}{file.stem}-*'):  # by who was killed
                shutil.rmtree(left, ignore_errors=True)
            yield

    @property
    def can_write(self) -> bool:
        """Whether this process may write to the cache."""
        existing = next(path for path in (self.folder, *self.folder.parents) if path.exists())
        return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)

    def _facts_file(self, chosen: InputSize | None) -> Path:
        size = f'{chosen.shortest}x{chosen.longest}' if chosen else 'own'
        return self.folder / f'{self._stem}-{size}-{self._versions}.json'

    def _write(self, file: Path, text: str) -> None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            number, part = tempfile.mkstemp(dir=file.parent, prefix=PART)
            try:
                with os.fdopen(number, 'w', encoding='utf-8') as stream:
                    stream.write(text)
                Path(part).replace(file)
            finally:
                Path(part).unlink(missing_ok=True)
        except OSError:
            return


def versions() -> dict[str, str]:
    """Return what decides what an exported file holds."""
    found = {'form': str(FORM)}
    for package in ('maskomaly_ros', 'torch', 'transformers', 'onnx', 'onnxscript'):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _refusal_file(file: Path) -> Path:
    return file.with_suffix('.refused.txt')


def _config_hash(checkpoint: CheckpointFolder | CheckpointFile) -> str:
    """Return a hash of what decides, beside the weights, what the network is."""
    digest = hashlib.sha256()
    if isinstance(checkpoint, CheckpointFile):
        digest.update(repr(checkpoint.config).encode())
    else:
        for name in ('config.json', 'preprocessor_config.json'):
            file = checkpoint.path / name
            digest.update(file.read_bytes() if file.is_file() else b'-')
    return digest.hexdigest()[:8]
