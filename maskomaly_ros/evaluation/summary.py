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

"""What an evaluation found, for JSON: figures, and what they depend on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from maskomaly_ros.evaluation.published import published
from maskomaly_ros.evaluation.results import Evaluation
from maskomaly_ros.evaluation.semantics import SemanticEvaluation
from maskomaly_ros.evaluation.traffic import Traffic
from maskomaly_ros.networks import Network, backends_used
from maskomaly_ros.queries import Queries


def summary(
    network: Network | None,
    queries: Queries,
    traffic: Traffic | None,
    evaluations: Sequence[Evaluation | SemanticEvaluation],
) -> dict[str, Any]:
    """Return all figures of a run; some may be NaN, which JSON does not have.

    Args:
        network: what made the outputs; None where score files alone were measured.
        queries: those that were used.
        traffic: what was found on ordinary frames, if there were any.
        evaluations: one for each data set.

    """
    return {
        'checkpoint': network.name if network else None,
        'checkpoint_sha256': network.sha256 if network else None,
        'input_size': asdict(network.input_size) if network else None,
        'precision': network.precision if network else None,
        'backends': list(backends_used(network)) if network else None,
        'parameters': asdict(queries.scoring_parameters()),
        'obstacle_threshold': queries.obstacle_threshold if network else None,
        'ordinary': traffic.as_dict() if traffic else None,
        'datasets': [_figures(evaluation) for evaluation in evaluations],
    }


def about(network: Network | None) -> str:
    """Return a sentence on what made the outputs; None: nothing of ours."""
    if network is None:
        return 'Score files alone.'
    size = network.input_size
    return (
        f'Checkpoint {network.name}, SHA-256 {network.sha256[:16]}…, network input '
        f'{size.shortest}x{size.longest}, {network.precision}, run by '
        f'{" and ".join(backends_used(network))}.'
    )


def _figures(evaluation: Evaluation | SemanticEvaluation) -> dict[str, Any]:
    if isinstance(evaluation, SemanticEvaluation):
        return asdict(evaluation)
    quoted = published(evaluation.layout)
    return {**evaluation.as_dict(), 'published': asdict(quoted) if quoted else None}
