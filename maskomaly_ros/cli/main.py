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

"""The `maskomaly` command. Sub-commands parse, call the library and print."""

from __future__ import annotations

import logging
from typing import Any

import typer
from rich.logging import RichHandler

from maskomaly_ros.cli import (
    analyse,
    benchmark,
    calibrate,
    calibrate_scores,
    checkpoint,
    compare,
    demo,
    evaluate,
    export,
    generate,
    mine,
    params,
    replay,
    top,
    train,
    version,
)
from maskomaly_ros.cli.common import ERR
from maskomaly_ros.errors import MaskomalyError


class _Commands(typer.core.TyperGroup):
    """Turns what the user can put right into one line on stderr and exit status 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except MaskomalyError as error:
            ERR.print(f'Error: {error}', style='red', markup=False, soft_wrap=True)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None


app = typer.Typer(
    name='maskomaly',
    help='Zero-shot obstacle detection on camera images: Mask2Former and Maskomaly.',
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(checkpoint.app)
app.add_typer(params.app)
app.command()(benchmark.benchmark)
app.command()(evaluate.evaluate)
app.command()(calibrate.calibrate)
app.command(name='calibrate-scores')(calibrate_scores.calibrate_scores)
app.command()(analyse.analyse)
app.command()(compare.compare)
app.command()(top.top)
app.command()(replay.replay)
app.command()(mine.mine)
app.command()(export.export)
app.command()(generate.generate)
app.command()(demo.demo)
app.command()(train.train)
app.command()(version.version)


def main() -> None:
    """Run the command line; the console script `maskomaly`."""
    app(prog_name='maskomaly')


@app.callback()
def _set_up() -> None:
    logging.basicConfig(
        format='%(message)s',
        handlers=[RichHandler(console=ERR, show_time=False, show_path=False)],
    )
    logging.getLogger('maskomaly_ros').setLevel(logging.INFO)
