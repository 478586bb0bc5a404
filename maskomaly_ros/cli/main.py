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

import errno
import logging
import os
import signal
import sys
from types import FrameType
from typing import Annotated, Any

import typer
from rich.logging import RichHandler

from maskomaly_ros import __version__
from maskomaly_ros.cli import (
    analyse,
    benchmark,
    calibrate,
    calibrate_scores,
    checkpoint,
    compare,
    demo,
    evaluate,
    events,
    export,
    fit_novelty,
    generate,
    mine,
    params,
    replay,
    top,
    train,
    version,
)
from maskomaly_ros.cli.common import ERR, INTERRUPTED, OUT
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
            raise typer.Exit(INTERRUPTED) from None
        except OSError as error:  # of what is printed: files have errors of their own
            if error.errno not in (errno.ENOSPC, errno.EPIPE):
                raise
            _forget_stdout()
            ERR.print(f'Error: cannot write the output: {error.strerror}', style='red')
            raise typer.Exit(1) from None


def _forget_stdout() -> None:
    """Let the end of the program not fail on what it could not print."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _interrupt(number: int, frame: FrameType | None) -> None:
    """End the program on Ctrl-C, also where an import swallows KeyboardInterrupt."""
    at: FrameType | None = frame
    while at is not None:
        if at.f_code.co_filename.startswith('<frozen importlib'):
            os._exit(INTERRUPTED)  # nothing has been begun that would have to be ended
        at = at.f_back
    raise KeyboardInterrupt


app = typer.Typer(
    name='maskomaly',
    help='Zero-shot obstacle detection on camera images: Mask2Former and Maskomaly.',
    cls=_Commands,
    no_args_is_help=True,
    context_settings={'help_option_names': ['-h', '--help']},
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
app.command()(events.events)
app.command()(export.export)
app.command()(generate.generate)
app.command()(demo.demo)
app.command()(train.train)
app.command()(fit_novelty.fit_novelty)
app.command()(version.version)


def main() -> None:
    """Run the command line; the console script `maskomaly`."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        app(prog_name='maskomaly')
    except KeyboardInterrupt:  # before or after a command, which have ends of their own
        sys.exit(INTERRUPTED)


def _show_version(value: bool) -> None:
    if value:
        OUT.print(f'maskomaly_ros {__version__}', highlight=False)
        raise typer.Exit


@app.callback()
def _set_up(
    quiet: Annotated[bool, typer.Option('--quiet', '-q', help='Print only problems.')] = False,
    verbose: Annotated[bool, typer.Option('--verbose', help='Say what is being done.')] = False,
    _: Annotated[
        bool,
        typer.Option(
            '--version', callback=_show_version, is_eager=True, help='Print the version and exit.'
        ),
    ] = False,
) -> None:
    handler: logging.Handler = logging.StreamHandler()
    if ERR.is_terminal:
        handler = RichHandler(console=ERR, show_time=False, show_path=False)
    logging.basicConfig(format='%(message)s', handlers=[handler])
    OUT.quiet = quiet
    level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    logging.getLogger('maskomaly_ros').setLevel(level)
