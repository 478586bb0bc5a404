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

"""What goes to JSON says what the figures are of, and what they depend on."""

from __future__ import annotations

import json

from maskomaly_ros.evaluation.evaluate import evaluate
from maskomaly_ros.evaluation.summary import about, summary
from maskomaly_ros.queries import Queries
from maskomaly_ros.scoring import ScoringParameters


def test_figures_stand_with_what_made_them(network, scenes):
    queries = Queries(checkpoint='x', anomalous_queries=(2,), obstacle_threshold=0.4)
    result = evaluate(network, scenes(2), ScoringParameters((2,)), ['maskomaly', 'baseline'])
    whole = summary(network, queries, None, [result])
    assert whole['checkpoint_sha256'] == network.sha256
    assert list(whole['parameters']['anomalous_queries']) == [2]
    assert (whole['obstacle_threshold'], whole['ordinary']) == (0.4, None)
    (figures,) = whole['datasets']
    assert figures['images'] == 2
    assert figures['published'] is None
    assert json.dumps(whole)
    assert network.sha256[:16] in about(network)


def test_score_files_alone_have_no_network():
    whole = summary(None, Queries(checkpoint='none'), None, [])
    assert whole['checkpoint'] is whole['obstacle_threshold'] is None
    assert about(None) == 'Score files alone.'
