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

"""Outputs of a network, kept on disk.

With them an evaluation that was interrupted goes on where it was, and another one with other
methods or parameters does not run the network at all. Masks are kept in float32, as the network
gave them, so that all figures are the same with and without the cache.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import tempfile
from pathlib import Path

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks import MaskPrediction, Network

_LOG = logging.getLogger(__name__)


class CannotWriteError(MaskomalyError):
    """Nothing is wrong with an image, but a result cannot be kept: no reason to go on."""


class OutputCache:
    """Outputs of one network for single images, each found by the content of the image file.

    Size of a file: 1 MB an image for the bundled checkpoint, 50 MB for published ones at their
    full input size.

    Args:
        folder: where outputs are; those of other networks, input sizes and precisions have
            folders of their own in it. Made where it is missing.
        network: the network.

    Raises:
        MaskomalyError: the folder cannot be made.

    """

    def __init__(self, folder: Path, network: Network) -> None:
        size = network.input_size
        name = re.sub(r'[^\w.-]', '_', network.name)
        self.folder = folder / (
            f'{name}-{network.sha256[:16]}-{size.shortest}x{size.longest}-{network.precision}'
        )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MaskomalyError(f'cannot make folder {self.folder}: {error.strerror}') from error

    def read(self, image_file: bytes) -> MaskPrediction | None:
        """Return the output for an image file's content, on the CPU, if it is there."""
        from safetensors import SafetensorError, safe_open

        path = self._path(image_file)
        if not path.is_file():
            return None
        try:
            with safe_open(path, 'pt') as file:
                about = json.loads(file.metadata()['about'])
                windows = about.get('windows', [[0, 0]])
                return MaskPrediction(
                    file.get_tensor('mask_logits'),
                    file.get_tensor('class_logits'),
                    (int(about['frame_size'][0]), int(about['frame_size'][1])),
                    (float(about['extent'][0]), float(about['extent'][1])),
                    tuple((float(top), float(left)) for top, left in windows),
                )
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            _LOG.warning('%s cannot be read and is made anew: %s', path, error)
            return None

    def write(self, image_file: bytes, prediction: MaskPrediction) -> None:
        """Keep the output for an image file's content: as a whole or not at all.

        Raises:
            CannotWriteError: it cannot be written.

        """
        from safetensors import SafetensorError
        from safetensors.torch import save

        path = self._path(image_file)
        tensors = {
            'mask_logits': prediction.mask_logits.cpu().contiguous(),
            'class_logits': prediction.class_logits.cpu().contiguous(),
        }
        about = json.dumps(
            {
                'frame_size': prediction.frame_size,
                'extent': prediction.extent,
                'windows': prediction.windows,
            }
        )
        try:
            number, part = tempfile.mkstemp(dir=self.folder, suffix='.part')
            try:
                with os.fdopen(number, 'wb') as file:
                    file.write(save(tensors, {'about': about}))
                Path(part).replace(path)
            finally:
                Path(part).unlink(missing_ok=True)
        except (OSError, SafetensorError) as error:
            reason = getattr(error, 'strerror', None) or error
            raise CannotWriteError(f'cannot write {path}: {reason}') from error

    def _path(self, image_file: bytes) -> Path:
        return self.folder / f'{hashlib.sha256(image_file).hexdigest()[:40]}.safetensors'
