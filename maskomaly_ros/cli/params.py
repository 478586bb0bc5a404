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

"""`maskomaly params`: check a parameter file, print the table of parameters or its schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from maskomaly_ros.cli.common import OUT

app = typer.Typer(
    name='params', help='Check a parameter file, or print what it may contain.',
    no_args_is_help=True,
)  # fmt: skip


@app.command()
def check(file: Annotated[Path, typer.Argument(help='Such as config/camera.yaml.')]) -> None:
    """Check a parameter file as the node would, without ROS; status 1 if it is refused."""
    from maskomaly_ros.parameters import load_settings, read_parameters, with_defaults

    given = read_parameters(file)
    load_settings(with_defaults(given))
    OUT.print(f'{file}: {len(given)} parameters, all right', soft_wrap=True, highlight=False)


@app.command()
def table() -> None:
    """Print all parameters as Markdown, as in docs/parameters.md."""
    from maskomaly_ros.parameter_table import markdown

    typer.echo(markdown(), nl=False)


@app.command()
def schema() -> None:
    """Print the JSON schema of parameter files, as in config/camera.schema.json."""
    from maskomaly_ros.parameter_table import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))
