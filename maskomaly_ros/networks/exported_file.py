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

"""What an exported .onnx file says of itself, and the outputs by which it proves itself.

Whatever runs the file has to give again some of the outputs that torch gave for a built-in
picture before it is used, since wrong results of grid sampling do not show by themselves.
"""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks.prediction import MaskPrediction

METADATA_KEY = 'maskomaly'
INPUT_NAME, OUTPUT_NAMES = 'pixels', ('mask_logits', 'class_logits')
_REFERENCE_GRID = (16, 32)


@dataclass(frozen=True)
class Description:
    """What an exported file says about itself.

    Attributes:
        name: short name of the checkpoint.
        sha256: hash of the weights that it was made from.
        shape: batch, height and width of its input.
        input_size: what frames are resized to before they are padded.
        num_queries: N.
        class_names: the C inlier classes.
        made_with: versions of the libraries that wrote it, and number of its form.
        reference: the outputs of torch for `probe_pixels` at some places.
        square: side of the squares that the network sees; None where it takes whole frames.
        source_sha256: hash of the weights that those were converted from, if they were.

    """

    name: str
    sha256: str
    shape: tuple[int, int, int]
    input_size: tuple[int, int]
    num_queries: int
    class_names: tuple[str, ...]
    made_with: dict[str, str]
    reference: dict[str, str]
    square: int | None = None
    source_sha256: str | None = None

    def to_json(self) -> str:
        """Return it as text, for the metadata of the file."""
        return json.dumps({'format': 1, **asdict(self)})

    @classmethod
    def from_json(cls, text: str | None, file: Path) -> Description:
        """Read what `to_json` wrote.

        Raises:
            MaskomalyError: the file was not made by this package.

        """
        try:
            content = json.loads(text or '')
            if content.pop('format') != 1:
                raise ValueError('another format')
            for key in ('shape', 'input_size', 'class_names'):
                content[key] = tuple(content[key])
            return cls(**content)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise MaskomalyError(
                f'{file} was not made by this version of `maskomaly export`, and does not say '
                'what network it is; export it again'
            ) from error


def probe_pixels(shape: tuple[int, int, int]) -> Tensor:
    """Return the built-in picture as normalised pixels, float32 [B, 3, H, W].

    A road in perspective under a sky, with boxes at its sides and some texture; made of plain
    arithmetic, so that it is the same everywhere.
    """
    batch, height, width = shape
    y = torch.linspace(0, 1, height, dtype=torch.float64).view(-1, 1)
    x = torch.linspace(-1, 1, width, dtype=torch.float64).view(1, -1)
    texture = torch.sin(61 * x + 17 * y) * torch.cos(43 * y * (1 + x * x)) / 4
    road = (y > 0.45) & (x.abs() < 2.2 * (y - 0.4))
    grey = torch.where(y > 0.45, 0.2 + texture, 1.6 - y + 0 * x)
    grey = torch.where(road, -0.6 + texture / 2, grey)
    layers = torch.stack([grey - 0.2 * y, grey, grey + 0.4 * (0.5 - y)])
    for left, top, side, colour in ((-0.8, 0.2, 0.35, 1.5), (0.45, 0.3, 0.25, -1.4)):
        box = (x > left) & (x < left + side) & (y > top) & (y < top + 1.2 * side)
        layers = torch.where(box, torch.tensor([colour, -colour, 0.3]).view(3, 1, 1), layers)
    return layers.float().expand(batch, 3, height, width).contiguous()


def sample(masks: Tensor, classes: Tensor) -> MaskPrediction:
    """Return the outputs for the first of a batch, the masks at some places only."""
    places = [
        torch.linspace(0, pixels - 1, min(count, pixels)).long()
        for count, pixels in zip(_REFERENCE_GRID, masks.shape[-2:], strict=True)
    ]
    sampled = masks[:1].cpu()[:, :, places[0]][..., places[1]]
    return _whole(sampled, classes[:1].cpu())


def pack(prediction: MaskPrediction) -> dict[str, str]:
    """Return a sampled prediction as text."""
    return {
        name: f'{"x".join(map(str, values.shape))}:'
        + base64.b64encode(values.contiguous().numpy().astype('<f4').tobytes()).decode()
        for name, values in (
            ('mask_logits', prediction.mask_logits),
            ('class_logits', prediction.class_logits),
        )
    }


def unpack(reference: dict[str, str]) -> MaskPrediction:
    """Return what `pack` made text of."""
    arrays = {}
    for name, text in reference.items():
        shape, _, content = text.partition(':')
        values = np.frombuffer(base64.b64decode(content), '<f4').astype(np.float32)
        arrays[name] = torch.from_numpy(values.reshape([int(n) for n in shape.split('x')]))
    return _whole(**arrays)


def _whole(mask_logits: Tensor, class_logits: Tensor) -> MaskPrediction:
    height, width = mask_logits.shape[-2:]
    return MaskPrediction(
        mask_logits, class_logits, (height, width), (float(height), float(width))
    )
