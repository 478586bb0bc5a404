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

"""One run of the evaluation: several data sets, ordinary frames, and what is written of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.evaluation.datasets import Dataset
from maskomaly_ros.evaluation.evaluate import evaluate
from maskomaly_ros.evaluation.images import Progress, class_statistics, no_progress
from maskomaly_ros.evaluation.ordinary import OrdinaryFrames
from maskomaly_ros.evaluation.report import (
    SHOTS,
    network_facts,
    render_report,
    report_of,
    run_facts,
    semantic_report,
)
from maskomaly_ros.evaluation.results import Evaluation
from maskomaly_ros.evaluation.score_files import ScoreFolder
from maskomaly_ros.evaluation.semantics import SemanticEvaluation, evaluate_semantics
from maskomaly_ros.evaluation.summary import about, summary
from maskomaly_ros.evaluation.tables import (
    Table,
    markdown,
    method_rows,
    tables_of,
    traffic_table,
)
from maskomaly_ros.evaluation.traffic import Traffic, measure_traffic, ordinary_statistics
from maskomaly_ros.networks import Network
from maskomaly_ros.queries import Queries


@dataclass(frozen=True)
class EvaluationRun:
    """What was found.

    Attributes:
        network: what made the outputs; None where score files alone were measured.
        queries: those that were used.
        datasets: what was measured on.
        evaluations: one for each data set.
        traffic: what was found on ordinary frames, if there were any.
        skipped: what could not be read, by data set: reasons by name.

    """

    network: Network | None
    queries: Queries
    datasets: Sequence[Dataset]
    evaluations: Sequence[Evaluation | SemanticEvaluation]
    traffic: Traffic | None
    skipped: Mapping[str, dict[str, str]]

    def tables(self) -> list[Table]:
        """Return the tables of all data sets, and of ordinary frames."""
        tables = [table for each in self.evaluations for table in tables_of(each, self.queries)]
        return [*tables, traffic_table(self.traffic)] if self.traffic else tables

    def summary(self) -> dict[str, Any]:
        """Return all figures; some may be NaN, which JSON does not have."""
        return summary(self.network, self.queries, self.traffic, self.evaluations)

    def markdown(self) -> str:
        """Return the tables as a page of Markdown."""
        parts = ['# Figures of evaluation', about(self.network), *map(markdown, self.tables())]
        return '\n\n'.join(parts) + '\n'

    def report(self) -> str:
        """Return a page of HTML; it has the pictures that the run was asked to keep."""
        facts = network_facts(self.network, self.queries) if self.network else {}
        title = f'Evaluation of {facts["checkpoint"]}' if facts else 'Evaluation of score files'
        reports = [
            semantic_report(evaluation)
            if isinstance(evaluation, SemanticEvaluation)
            else report_of(
                evaluation,
                dataset,
                self.queries,
                rows=method_rows(evaluation),
                remarks=tables_of(evaluation, self.queries)[0].remarks,
                traffic=self.traffic,
            )
            for evaluation, dataset in zip(self.evaluations, self.datasets, strict=True)
        ]
        return render_report(title, reports, {**facts, **run_facts()}, self.traffic)


def evaluate_all(
    network: Network | None,
    queries: Queries,
    datasets: Sequence[Dataset],
    methods: Sequence[str],
    *,
    ordinary: Sequence[OrdinaryFrames] = (),
    minimum_area: int = 0,
    components: bool = False,
    scores: Mapping[str, Sequence[ScoreFolder]] | None = None,
    save_scores: Path | None = None,
    statistics: Dataset | None = None,
    with_pictures: bool = False,
    cache: Path | None = None,
    progress: Progress = no_progress,
) -> EvaluationRun:
    """Measure methods on data sets of anomalies and of classes, and on ordinary frames.

    Args:
        network: what makes the outputs; None measures score files alone.
        queries: of the network.
        datasets: with anomalies or with classes.
        methods: of `scores.SCORES`.
        ordinary: frames without anomalies: false obstacles on them are counted, and their pixels
            pooled as negatives.
        minimum_area: pixels of the smallest false obstacle that counts.
        components: measure components as well.
        scores: score files to measure too, by name of the data set.
        save_scores: folder to write score files to.
        statistics: images for the class statistics of `sml`; None takes `ordinary`, else the data
            set itself.
        with_pictures: keep what `EvaluationRun.report` shows.
        cache: folder of outputs of the network.
        progress: shows how far it is.

    Raises:
        MaskomalyError: a data set has classes, which score files do not have.

    """
    parameters, shots = queries.scoring_parameters(), SHOTS if with_pictures else 0
    found = traffic = None
    if network and 'sml' in methods:
        if statistics:
            found = class_statistics(network, statistics, cache=cache, progress=progress)
        elif ordinary:
            found = ordinary_statistics(network, ordinary, cache=cache, progress=progress)
    if network and ordinary:
        traffic = measure_traffic(
            network, ordinary, parameters, methods if datasets else (),
            queries.obstacle_threshold, minimum_area=minimum_area, calibrations=queries.scores,
            statistics=found, shots=shots, cache=cache, progress=progress,
        )  # fmt: skip
    evaluations: list[Evaluation | SemanticEvaluation] = []
    for each in datasets:
        if each.layout.task == 'anomaly':
            evaluation = evaluate(
                network, each, parameters, methods, components=components,
                scores=(scores or {}).get(each.name, ()), save_scores=save_scores, cache=cache,
                statistics=found, traffic=traffic, shots=shots, progress=progress,
            )  # fmt: skip
            evaluations.append(evaluation)
        elif network is None:
            raise MaskomalyError(
                f'layout {each.layout_name} has classes, which score files do not have'
            )
        else:
            evaluations.append(evaluate_semantics(network, each, cache=cache, progress=progress))
    skipped = {e.dataset: e.skipped for e in evaluations}
    for more in (*ordinary, *([statistics] if statistics else ())):
        skipped[more.name] = {**skipped.get(more.name, {}), **more.skipped}
    return EvaluationRun(network, queries, datasets, evaluations, traffic, skipped)
