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

"""Kept outputs of the network: the same figures, no second run, and damage that is mended."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.evaluation import evaluate as evaluation
from maskomaly_ros.evaluation.evaluate import evaluate, score_images
from maskomaly_ros.networks import InputSize
from maskomaly_ros.scoring import ScoringParameters

PARAMETERS = ScoringParameters(anomalous_queries=(2,))


@pytest.fixture
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp('cache')


def figures(result):
    return {
        name: pytest.approx(asdict(found.pixels), abs=0, rel=0, nan_ok=True)
        for name, found in result.results.items()
    }


def test_figures_are_identical_and_the_network_rests(network, scenes, cache):
    dataset = scenes(3)
    plain = figures(evaluate(network, dataset, PARAMETERS))
    runs = network.predicted
    for _ in range(3):
        result = evaluate(network, dataset, PARAMETERS, cache=cache)
        assert {name: asdict(found.pixels) for name, found in result.results.items()} == plain
    assert network.predicted == runs + 3
    ((_, image, _, scores),) = score_images(
        network, dataset.samples[:1], PARAMETERS, ['rba'], cache=cache
    )
    assert scores['rba'].shape == image.shape[:2]
    assert network.predicted == runs + 3


def test_an_interrupted_evaluation_goes_on(network, scenes, cache):
    dataset = scenes(6)

    def interrupted(items, total, text):
        for number, item in enumerate(items):
            if number == 2:
                raise KeyboardInterrupt
            yield item

    with pytest.raises(KeyboardInterrupt):
        evaluate(network, dataset, PARAMETERS, ['rba'], cache=cache, progress=interrupted)
    done = len(list(cache.rglob('*.safetensors')))
    assert 2 <= done <= 6
    network.predicted = 0
    result = evaluate(network, dataset, PARAMETERS, ['rba'], cache=cache)
    assert result.images == 6
    assert network.predicted == 6 - done


def test_other_settings_have_outputs_of_their_own(network, scenes, cache):
    dataset = scenes(1)
    evaluate(network, dataset, PARAMETERS, ['rba'], cache=cache)
    for name, value in (
        ('input_size', InputSize(32, 64)),
        ('precision', 'bfloat16'),
        ('sha256', '1' * 64),
    ):
        setattr(network, name, value)
        evaluate(network, dataset, PARAMETERS, ['rba'], cache=cache)
    assert network.predicted == 4
    # The content of an image counts, not its name.
    dataset.samples[0].image.write_bytes(dataset.samples[0].image.read_bytes() + b'more')
    evaluate(network, dataset, PARAMETERS, ['rba'], cache=cache)
    assert network.predicted == 5


def test_damaged_outputs_are_made_anew(network, scenes, cache, caplog):
    dataset = scenes(2)
    expected = figures(evaluate(network, dataset, PARAMETERS, ['rba'], cache=cache))
    first, second = sorted(cache.rglob('*.safetensors'))
    first.write_bytes(first.read_bytes()[:100])
    second.write_bytes(b'')
    result = evaluate(network, dataset, PARAMETERS, ['rba'], cache=cache)
    assert {name: asdict(found.pixels) for name, found in result.results.items()} == expected
    assert network.predicted == 4
    assert caplog.text.count('cannot be read and is made anew') == 2
    evaluate(network, dataset, PARAMETERS, ['rba'], cache=cache)
    assert network.predicted == 4
    assert not list(cache.rglob('*.part'))


def test_broken_pairs_are_skipped_with_the_cache_too(network, scenes, cache):
    dataset = scenes(3)
    evaluate(network, dataset, PARAMETERS, ['rba'], cache=cache)
    dataset.samples[1].label.write_bytes(b'broken')
    result = evaluate(network, dataset, PARAMETERS, ['rba'], cache=cache)
    assert result.images == 2
    assert result.skipped.keys() == {'scene1'}


def test_only_a_few_images_are_in_flight(network, scenes, monkeypatch):
    """Memory does not grow with the data set: the network never runs far ahead."""
    monkeypatch.setattr(evaluation.os, 'cpu_count', lambda: 2)  # type: ignore[attr-defined]
    dataset = scenes(12)
    seen = []

    def progress(items, total, text):
        for number, item in enumerate(items):
            seen.append(network.predicted - number)
            yield item

    evaluate(network, dataset, PARAMETERS, ['rba'], progress=progress)
    assert len(seen) == 12
    assert max(seen) <= 4


def test_a_cache_that_cannot_be_is_refused(network, scenes, cache):
    (cache / 'file').touch()
    with pytest.raises(MaskomalyError, match='cannot make folder'):
        evaluate(network, scenes(1), PARAMETERS, ['rba'], cache=cache / 'file')
