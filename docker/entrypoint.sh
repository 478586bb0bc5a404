#!/bin/bash
# Run a command with the workspace sourced.
set -e
source /opt/maskomaly_ws/install/setup.bash
exec "$@"
