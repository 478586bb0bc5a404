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

"""Random checkpoints with the names of the official Mask2Former, bit for bit the same everywhere.

Every tensor is drawn from a generator seeded by its own name, so `official_keys.json` (name to
shape) and the few tensors in `overrides.npz` are the whole checkpoint.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NOT_STORED = ('relative_position_index', 'num_batches_tracked', 'empty_weight')
_QUERIES = ('query_feat.weight', 'query_embed.weight', 'level_embed.weight', 'level_embed')


def rebuild(folder: Path) -> dict[str, NDArray[np.float32]]:
    """Return the float32 arrays of a folder by their official names."""
    shapes = json.loads((folder / 'official_keys.json').read_text())
    with np.load(folder / 'overrides.npz') as data:
        overrides = dict(data)
    return {
        name: overrides[name] if name in overrides else _tensor(name, tuple(shape))
        for name, shape in shapes.items()
        if not name.endswith(_NOT_STORED)
    }


def _tensor(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    value: Any
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    last = name.rsplit('.', 1)[-1]
    if name.endswith('running_var'):
        value = 0.5 + rng.random(shape)
    elif name.endswith('running_mean'):
        value = 0.1 * rng.standard_normal(shape)
    elif len(shape) == 1 and last == 'weight':
        value = 0.8 + 0.4 * rng.random(shape)
    elif name.endswith('sampling_offsets.bias'):
        value = 2.0 * rng.standard_normal(shape)
    elif name.endswith('sampling_offsets.weight'):
        value = 0.05 * rng.standard_normal(shape)
    elif len(shape) == 1:
        value = 0.1 * rng.standard_normal(shape)
    elif name.endswith(_QUERIES):
        value = rng.standard_normal(shape)
    elif name.endswith('relative_position_bias_table'):
        value = 0.5 * rng.standard_normal(shape)
    elif name.endswith('class_embed.weight'):
        value = 0.15 * rng.standard_normal(shape)
    else:
        is_early = name.startswith(('backbone.stem', 'backbone.res')) and len(shape) == 4
        gain = 1.4 if is_early else 1.0
        is_late = name.endswith(('out_proj.weight', 'linear2.weight'))
        if 'predictor.transformer_' in name and is_late:
            gain = 0.3
        value = gain * rng.standard_normal(shape) / np.sqrt(int(np.prod(shape[1:])))
    return np.asarray(value, dtype=np.float32)
