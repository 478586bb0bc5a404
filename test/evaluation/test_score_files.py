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

"""Score files of the benchmark, and evaluation of what they have."""

from __future__ import annotations

from dataclasses import asdict

import h5py
import numpy as np
import pytest

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.evaluation.evaluate import evaluate
from maskomaly_ros.evaluation.metrics import PixelMetrics
from maskomaly_ros.evaluation.score_files import (
    ScoreFolder,
    find_scores,
    named_scores,
    write_score,
)
from maskomaly_ros.evaluation.tables import tables_of
from maskomaly_ros.queries import Queries
from maskomaly_ros.scoring import ScoringParameters

PARAMETERS = ScoringParameters(anomalous_queries=(2,))
SCORE = np.linspace(-3, 7, 48 * 64, dtype=np.float32).reshape(48, 64)


def write(path, array, variable='value', **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, 'w') as file:
        file.create_dataset(variable, data=array, **options)


def test_files_are_those_of_the_benchmark(tmp_path):
    path = write_score(tmp_path, 'rba', 'AnomalyTrack-all', 'validation0000', SCORE)
    assert path == tmp_path / 'rba' / 'AnomalyTrack-all' / 'validation0000.hdf5'
    with h5py.File(path) as file:
        assert list(file) == ['value']
        assert file['value'].dtype == np.float16
        assert file['value'].compression == 'gzip'
        assert np.array_equal(file['value'][:], SCORE.astype(np.float16))
    assert list(path.parent.iterdir()) == [path]


def test_what_is_written_is_read_back(tmp_path):
    path = write_score(tmp_path, 'rba', 'roads', 'a', SCORE)
    read = ScoreFolder('rba', path.parent).read('a', SCORE.shape)
    assert np.array_equal(read, SCORE.astype(np.float16))


def test_maps_with_a_batch_or_of_small_size_are_read_as_the_benchmark_does(tmp_path):
    folder = ScoreFolder('other', tmp_path)
    write(tmp_path / 'a.hdf5', SCORE[None, ..., None])
    assert np.array_equal(folder.read('a', (48, 64)), SCORE)
    write(tmp_path / 'b.hdf5', np.full((12, 16), 0.25, np.float16))
    assert np.array_equal(folder.read('b', (48, 64)), np.full((48, 64), 0.25))


@pytest.mark.parametrize('place', ['', 'roads', 'other/roads', 'other/AnomalyTrack-all'])
def test_folders_are_found(tmp_path, place):
    folder = tmp_path / 'method'
    write(folder / place / 'a.hdf5', SCORE)
    write(folder / 'unrelated' / 'z.hdf5', SCORE)
    (found,) = find_scores(folder, 'roads', ['a', 'b'])
    assert found.folder == folder / place
    assert found.method == ('other' if place.startswith('other') else 'method')


def test_several_methods_are_found_and_ambiguity_is_refused(tmp_path):
    for method in ('first', 'second'):
        write(tmp_path / method / 'roads' / 'a.hdf5', SCORE)
    assert [f.method for f in find_scores(tmp_path, 'roads', ['a'])] == ['first', 'second']
    write(tmp_path / 'first' / 'val' / 'a.hdf5', SCORE)
    with pytest.raises(MaskomalyError, match='both have score files for other'):
        find_scores(tmp_path / 'first', 'other', ['a'])
    assert find_scores(tmp_path / 'first', 'val', ['a'])[0].folder.name == 'val'


def test_wrong_folders_are_refused(tmp_path):
    with pytest.raises(MaskomalyError, match='none does not exist'):
        find_scores(tmp_path / 'none', 'roads', ['a'])
    with pytest.raises(MaskomalyError, match=r'no score files a\.hdf5 … of roads in'):
        find_scores(tmp_path, 'roads', ['a'])


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ({'array': SCORE[:, :-4]}, None),  # narrower: enlarged
        ({'array': np.zeros((48, 65))}, 'has 65 x 48 pixels, but the image has 64 x 48'),
        ({'array': np.zeros((2, 48, 64))}, r'has float64 \[2, 48, 64\], no score map'),
        ({'array': SCORE, 'variable': 'score'}, "cannot read 'value' in"),
    ],
)
def test_wrong_files_are_named(tmp_path, content, message):
    write(tmp_path / 'a.hdf5', **content)
    if message is None:
        assert ScoreFolder('m', tmp_path).read('a', (48, 64)).shape == (48, 64)
        return
    with pytest.raises(MaskomalyError, match=message):
        ScoreFolder('m', tmp_path).read('a', (48, 64))


def test_evaluation_of_files_equals_that_of_scores(network, scenes, tmp_path_factory):
    """What a method writes and reads back has the figures it had, without a network."""
    folder, dataset = tmp_path_factory.mktemp('scores'), scenes(3)
    ours = evaluate(network, dataset, PARAMETERS, ['maskomaly', 'rba'], save_scores=folder)
    scores = find_scores(folder, dataset.name, [sample.name for sample in dataset.samples])
    theirs = evaluate(None, dataset, PARAMETERS, scores=scores, components=True)
    assert list(theirs.results) == ['maskomaly', 'rba']
    assert network.predicted == 3
    for method, found in ours.results.items():
        expected = pytest.approx(asdict(found.pixels), nan_ok=True)
        assert asdict(theirs.results[method].pixels) == expected
        assert theirs.results[method].components is not None
    together = evaluate(
        network,
        dataset,
        PARAMETERS,
        ['eam'],
        scores=[ScoreFolder('copy', scores[0].folder)],
    )
    assert list(together.results) == ['eam', 'copy']
    assert together.results['copy'].pixels == theirs.results['maskomaly'].pixels


def test_images_without_a_usable_score_are_skipped_for_all(network, scenes, tmp_path_factory):
    folder, dataset = tmp_path_factory.mktemp('scores'), scenes(5)
    for index in (0, 1, 2, 3):
        write(folder / f'scene{index}.hdf5', SCORE)
    (folder / 'scene1.hdf5').write_bytes(b'broken')
    write(folder / 'scene2.hdf5', np.full_like(SCORE, np.nan))
    result = evaluate(
        network, dataset, PARAMETERS, ['reject'], scores=[ScoreFolder('their', folder)]
    )
    assert result.images == 2
    assert result.results['reject'].pixels.images == 2
    assert result.skipped.keys() == {'scene1', 'scene2', 'scene4'}
    assert 'cannot read' in result.skipped['scene1']
    assert 'NaN' in result.skipped['scene2']
    assert 'there is no score file' in result.skipped['scene4']


def test_scores_of_any_range_have_the_figures_of_their_order(scenes):
    """AP, FPR95 and AuROC do not depend on the scale; the margin is not defined outside [0, 1]."""
    dataset = scenes(2)
    for scale, offset in ((1, 0), (1024, -4096), (2.0**-10, 0)):
        metrics = PixelMetrics()
        random = np.random.default_rng(0)
        for _, _, label in dataset.read():
            base = random.integers(0, 1024, label.shape) / 1024 + 0.5 * (label == 1)
            metrics.update((np.round(base * 64) / 64) * scale + offset, label)
        result = metrics.compute()
        if scale == 1:
            first = result
        assert result.ap == pytest.approx(first.ap, abs=1e-9)
        assert result.fpr95 == pytest.approx(first.fpr95, abs=1e-9)
        assert result.auroc == pytest.approx(first.auroc, abs=1e-9)
        assert np.isnan(result.margin_60) == (scale != 2.0**-10)


def test_what_makes_no_table_is_refused(network, scenes, tmp_path):
    dataset = scenes(1)
    with pytest.raises(MaskomalyError, match='nothing to evaluate'):
        evaluate(None, dataset, PARAMETERS)
    with pytest.raises(MaskomalyError, match='methods rba need a network'):
        evaluate(None, dataset, PARAMETERS, ['rba'])
    with pytest.raises(MaskomalyError, match='rba is the name of two methods'):
        evaluate(network, dataset, PARAMETERS, ['rba'], scores=[ScoreFolder('rba', tmp_path)])


def test_a_full_disk_ends_the_evaluation(network, scenes, tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(MaskomalyError, match='cannot write'):
        evaluate(network, scenes(2), PARAMETERS, ['rba'], save_scores=tmp_path / 'file')


def test_scores_beyond_float16_count_as_its_limits_and_are_told(scenes, tmp_path):
    dataset = scenes(3)
    folder = tmp_path / 'scores'
    folder.mkdir()
    for index, sample in enumerate(dataset.samples):
        score = np.random.default_rng(index).normal(size=(48, 64)).astype(np.float32)
        score[:2] = 1e9
        with h5py.File(folder / f'{sample.name}.hdf5', 'w') as file:
            file['value'] = score if index else 2000 + score / 10
    result = evaluate(None, dataset, ScoringParameters(), scores=[ScoreFolder('x', folder)])
    assert (result.images, result.clipped, result.tied) == (3, {'x': 3 * 2 * 64}, ('x',))
    remarks = ' '.join(tables_of(result, Queries(checkpoint='x'))[0].remarks)
    assert 'x: 384 pixels have a score beyond ±65504' in remarks
    assert 'x: most scores become equal in float16' in remarks


def test_a_name_before_a_folder_is_that_of_its_method(tmp_path):
    for method in ('a', 'b'):
        write(tmp_path / method / 'set' / 'x.hdf5', SCORE)
    found = named_scores([f'mine={tmp_path / "a"}', str(tmp_path)], 'set', ['x'])
    assert [each.method for each in found] == ['mine', 'a', 'b']
    with pytest.raises(MaskomalyError, match='cannot all be named mine: a, b'):
        named_scores([f'mine={tmp_path}'], 'set', ['x'])


def test_claim_of_more_pixels_than_the_image_has_is_refused_before_reading(tmp_path):
    with h5py.File(tmp_path / 'a.hdf5', 'w') as file:
        file.create_dataset('value', (100_000, 100_000), np.float16, chunks=(100, 100))
    with pytest.raises(MaskomalyError, match='claims 100000 x 100000 pixels'):
        ScoreFolder('rba', tmp_path).read('a', (8, 8))
