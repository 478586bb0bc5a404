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

"""Conversion of checkpoints into folders that the transformers library loads."""

from __future__ import annotations

import shutil
from pathlib import Path

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks.architectures import PROCESSOR_FILE
from maskomaly_ros.networks.checkpoints import CheckpointFile, find_checkpoint
from maskomaly_ros.networks.transformers_network import load_model, quiet_transformers


def convert(checkpoint: str | Path, out: str | Path, config: str | Path | None = None) -> Path:
    """Write a checkpoint as a folder with config.json and model.safetensors.

    The folder loads with `load_network` to the very same numbers, and with `from_pretrained` of
    the transformers library. Its config.json also carries our input size, and name, hash and
    file of where it comes from.

    Args:
        checkpoint: official `.pkl` or `.pth` file, or anything else that `load_network` takes.
        out: folder to write; it must not exist, or be empty.
        config: yaml configuration of an official file, where it is not beside it.

    Returns:
        The folder.

    Raises:
        MaskomalyError: the checkpoint cannot be loaded, or the folder holds files or cannot be
            written.

    """
    out = Path(out).expanduser()
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise MaskomalyError(f'{out} exists already; choose a folder that does not')
    found = find_checkpoint(checkpoint, config)
    model = load_model(found)
    model.config.maskomaly_name = found.name
    model.config.maskomaly_source = {
        'file': found.path.name if isinstance(found, CheckpointFile) else str(checkpoint),
        'sha256': found.sha256,
    }
    try:
        with quiet_transformers():
            model.save_pretrained(out)
            processor = found.path / PROCESSOR_FILE
            if processor.is_file():  # what frames have to become is part of the network
                shutil.copyfile(processor, out / PROCESSOR_FILE)
    except OSError as error:
        raise MaskomalyError(f'cannot write checkpoint {out}: {error.strerror}') from error
    return out
