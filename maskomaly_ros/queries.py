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

"""Queries files: what calibration found for one checkpoint."""

from __future__ import annotations

from pathlib import Path
from reprlib import repr as short
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks.known import find_known
from maskomaly_ros.score_scales import ScoreCalibration
from maskomaly_ros.scores import SCORES
from maskomaly_ros.scoring import ScoringParameters, Variant
from maskomaly_ros.share import share_directory
from maskomaly_ros.yaml_files import read_yaml

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Query = Annotated[int, Field(ge=0)]


class Queries(BaseModel):
    """Anomalous and ground queries of one checkpoint, with the parameters calibrated for them.

    Indices are 0-based and belong to the weights with this hash: every other network needs its
    own. A parameter that is None keeps the default of the variant. `obstacle_threshold` is that of
    Maskomaly; other scores have theirs in `scores`, and `score` is the one to begin with.
    """

    # An input can be endless when it is written out, so errors do not show it.
    model_config = ConfigDict(extra='forbid', frozen=True, hide_input_in_errors=True)

    checkpoint: str
    checkpoint_sha256: str | None = Field(default=None, pattern='^[0-9a-f]{64}$')
    anomalous_queries: tuple[Query, ...] = ()
    ground_queries: tuple[Query, ...] = ()
    variant: Variant = 'paper'
    mask_threshold: Fraction | None = None
    border_threshold: Fraction | None = None
    border_score: Fraction | None = None
    reject_weight: Fraction | None = None
    obstacle_threshold: Fraction = 0.9
    score: str = 'maskomaly'
    scores: dict[str, ScoreCalibration] = Field(default_factory=dict)
    provenance: dict[str, Any] = Field(default_factory=dict)

    @field_validator('score')
    @classmethod
    def _check_score(cls, score: str) -> str:
        if score not in SCORES:
            raise ValueError(f'it must be one of {", ".join(SCORES)}')
        return score

    @field_validator('scores')
    @classmethod
    def _check_scores(cls, scores: dict[str, ScoreCalibration]) -> dict[str, ScoreCalibration]:
        unknown = sorted(scores.keys() - SCORES.keys())
        if unknown:
            raise ValueError(f'{unknown[0]!r} is none of {", ".join(SCORES)}')
        return scores

    def scoring_parameters(self) -> ScoringParameters:
        """Return these queries and parameters in the form that scoring takes."""
        names = ('mask_threshold', 'border_threshold', 'border_score', 'reject_weight')
        calibrated = {n: getattr(self, n) for n in names if getattr(self, n) is not None}
        return ScoringParameters(
            anomalous_queries=self.anomalous_queries,
            ground_queries=self.ground_queries,
            variant=self.variant,
            **calibrated,
        )


def read_queries(path: str | Path) -> Queries:
    """Read a queries file.

    Raises:
        MaskomalyError: it cannot be read, is no YAML, or has a wrong entry, which is named.

    """
    path = Path(path).expanduser()
    try:
        content = read_yaml(path, 'queries file')
    except OSError as error:
        raise MaskomalyError(f'cannot read queries file {path}: {error.strerror}') from error
    try:
        return Queries.model_validate(content)
    except ValidationError as error:
        # A value can be long, and deep.
        wrong = '; '.join(
            f'{".".join(map(str, e["loc"]))} = {short(e["input"]):.200}: {e["msg"]}'
            for e in error.errors()
        )
        raise MaskomalyError(f'queries file {path}: {wrong}') from error


def write_queries(path: str | Path, queries: Queries) -> None:
    """Write a queries file that `read_queries` reads back equal."""
    content = queries.model_dump(mode='json', exclude_none=True)
    # What says nothing is left out.
    if content['score'] == 'maskomaly':
        del content['score']
    scores = content.pop('scores')
    if scores:
        provenance = content.pop('provenance')
        content['scores'] = {
            name: {key: value for key, value in each.items() if value not in ([], '')}
            for name, each in scores.items()
        }
        content['provenance'] = provenance
    options: dict[str, Any] = {'sort_keys': False, 'default_flow_style': None}
    text = yaml.safe_dump(content, allow_unicode=True, **options)
    if any(sign in text for sign in '\x85\u2028\u2029'):  # read back as the end of a line
        text = yaml.safe_dump(content, **options)
    Path(path).write_text(text, encoding='utf-8')


def bundled_queries(checkpoint: str) -> Queries | None:
    """Return the queries that come with this package for a checkpoint, if there are any."""
    path = bundled_queries_file(checkpoint)
    return read_queries(path) if path else None


def bundled_queries_file(checkpoint: str) -> Path | None:
    """Return the queries file that comes with this package for a checkpoint, if there is one.

    A published checkpoint has one file for all of its names.
    """
    known = find_known(checkpoint)
    name = known.name if known else checkpoint
    path = share_directory() / 'config' / 'queries' / f'{name}.yaml'
    return path if path.is_file() else None
