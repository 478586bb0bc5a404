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

"""Queries files: round trip, errors that name the entry, the files that come along."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.queries import Queries, bundled_queries, read_queries, write_queries
from maskomaly_ros.scores import SCORES, default_scores
from maskomaly_ros.scoring import ScoringParameters, Variant
from maskomaly_ros.share import share_directory

fractions = st.none() | st.floats(0.0, 1.0)


@given(
    queries=st.builds(
        Queries,
        checkpoint=st.text(min_size=1, max_size=20),
        checkpoint_sha256=st.none() | st.text('0123456789abcdef', min_size=64, max_size=64),
        anomalous_queries=st.lists(st.integers(0, 200)).map(tuple),
        ground_queries=st.lists(st.integers(0, 200)).map(tuple),
        variant=st.sampled_from(get_args(Variant)),
        mask_threshold=fractions,
        border_threshold=fractions,
        border_score=fractions,
        reject_weight=fractions,
        obstacle_threshold=st.floats(0.0, 1.0),
        provenance=st.dictionaries(
            st.text('abcdef', min_size=1), st.text('ghij äö:#\n') | st.integers() | st.floats(0, 9)
        ),
    )
)
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, queries: Queries
) -> None:
    path = tmp_path_factory.mktemp('queries') / 'file.yaml'
    write_queries(path, queries)
    assert read_queries(path) == queries


def test_signs_that_yaml_takes_for_the_end_of_a_line(tmp_path: Path) -> None:
    queries = Queries(checkpoint='a\x85b\u2028c\u2029 ä')
    write_queries(tmp_path / 'file.yaml', queries)
    assert read_queries(tmp_path / 'file.yaml') == queries


def test_what_a_file_leaves_out_has_the_default_of_the_variant(tmp_path: Path) -> None:
    path = tmp_path / 'file.yaml'
    path.write_text('checkpoint: mine\nanomalous_queries: [3, 1]\nborder_threshold: 0.5\n')
    expected = ScoringParameters(anomalous_queries=(3, 1), border_threshold=0.5)
    assert read_queries(path).scoring_parameters() == expected
    path.write_text('checkpoint: mine\nvariant: reference_code\n')
    expected = ScoringParameters.for_variant('reference_code')
    assert read_queries(path).scoring_parameters() == expected


@pytest.mark.parametrize(
    ('text', 'named'),
    [
        ('checkpoint: a\nanomalous_queries: [1, -2]\n', r'anomalous_queries\.1 = -2'),
        ('checkpoint: a\nanomalous_queries: [1, x]\n', r"anomalous_queries\.1 = 'x'"),
        ('checkpoint: a\nreject_weight: 1.5\n', r'reject_weight = 1\.5'),
        ('checkpoint: a\nobstacle_threshold: .nan\n', 'obstacle_threshold = nan'),
        ('checkpoint: a\nvariant: other\n', "variant = 'other'"),
        ('checkpoint: a\nmask_treshold: 0.3\n', 'mask_treshold'),
        ('checkpoint: a\ncheckpoint_sha256: 12\n', 'checkpoint_sha256 = 12'),
        ('anomalous_queries: [1]\n', 'checkpoint'),
        ('- 1\n- 2\n', 'no mapping'),
        ('', 'no mapping'),
        ('a: [1, 2\n', 'not YAML'),
        ('checkpoint: !!python/object/apply:os.system ["true"]\n', 'not YAML'),
    ],
)
def test_a_wrong_entry_is_named(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / 'wrong.yaml'
    path.write_text(text)
    with pytest.raises(MaskomalyError, match=named) as caught:
        read_queries(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MaskomalyError, match=r'none\.yaml: No such file'):
        read_queries(tmp_path / 'none.yaml')


def test_bundled_files_are_valid() -> None:
    files = sorted((share_directory() / 'config' / 'queries').glob('*.yaml'))
    assert files
    for file in files:
        queries = read_queries(file)
        assert bundled_queries(file.stem) == queries
        assert queries.provenance, f'{file} does not say where it comes from'


def test_the_node_can_take_every_score_of_the_bundled_checkpoint() -> None:
    """Written by: maskomaly calibrate-scores --ordinary … --out config/queries/demo.yaml."""
    queries = bundled_queries('demo')
    assert queries is not None
    names = set(default_scores(queries.scoring_parameters())) - {'maskomaly'}
    assert set(queries.scores) >= names
    for name in names:
        known = queries.scores[name]
        assert SCORES[name].bounded or known.raw, name
        assert 0 < known.obstacle_threshold < 1, name
    assert queries.scores['sml'].statistics is not None


def test_an_unknown_checkpoint_has_no_bundled_file() -> None:
    assert bundled_queries('somebody-elses-network') is None
