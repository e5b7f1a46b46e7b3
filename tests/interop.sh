#!/bin/sh
# Interoperation with real servers: Prosody, ejabberd and jabberd2 around fedgate, in network
# namespaces with a DNS of their own. Needs root. FEDGATE_BIN names the binary (default:
# target/debug/fedgate). See --help. RIG_ABUSE=full plays the scenarios abuse-* in full size (10,000
# connections; needs some 21,000 descriptors), RIG_STRICT=1 has them judge also how long an honest peer
# waits meanwhile: on a machine that does nothing else. RIG_CUTS and RIG_STANZAS make acknowledged-cuts
# long.
set -eu
if [ ! -x /usr/bin/python3 ]; then
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends python3 >&2
fi
# Debian's Python, because the clients are Debian's slixmpp
PYTHONPATH="$(dirname "$0")" exec /usr/bin/python3 -B -m rig "$@"
