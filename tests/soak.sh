#!/bin/sh
# Steady traffic through one fedgate for some minutes (default 30): streams come and go, it is
# reloaded, the peer and the legacy server restart, connections are cut and packets vanish, all at
# random. Prints what fedgate used of the processor, memory, descriptors and tasks, and fails if any
# of the last three grew from the second fifth of the time to the last, if a message came twice or out
# of order, or if fedgate took one and neither wrote nor bounced it.
#
#   tests/soak.sh [MINUTES]
#
# It needs root and what tests/interop.sh needs. FEDGATE_BIN names the binary (default:
# target/debug/fedgate); SOAK_SEED repeats the events of another run. The load is kept near 20 % of
# a core by the pace of the messages: with a release build 10,000 to 20,000 a second, as busy as the
# machine is, one by one, for which the scripted servers take a third of a core each. Not part of
# tests/run.sh.
set -eu
SOAK_MINUTES="${1:-30}" exec "$(dirname "$0")"/interop.sh soak
