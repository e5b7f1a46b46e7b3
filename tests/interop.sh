#!/bin/sh
# Interoperation with real servers: Prosody, ejabberd and jabberd2 around fedgate, in network
# namespaces with a DNS of their own. Needs root. FEDGATE_BIN names the binary (default:
# target/debug/fedgate). See --help.
set -eu
if [ ! -x /usr/bin/python3 ]; then
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends python3 >&2
fi
# Debian's Python, because the clients are Debian's slixmpp
PYTHONPATH="$(dirname "$0")" exec /usr/bin/python3 -B -m rig "$@"
