#!/bin/bash
# Checks examples/kubernetes: every object against the schemas of the Kubernetes API, strictly, and
# every configuration in a ConfigMap with fedgate itself.
#
#   FEDGATE_BIN=/path/to/fedgate tests/kubernetes.sh
#
# Needs Python with venv; the schemas are those of the package kubernetes-validate, installed into
# FEDGATE_CACHE (default /var/tmp/fedgate-kubernetes). No cluster is needed.

set -euo pipefail
cd "$(dirname "$0")/.."
cache=${FEDGATE_CACHE:-/var/tmp/fedgate-kubernetes}
fedgate=${FEDGATE_BIN:-${CARGO_TARGET_DIR:-target}/debug/fedgate}
versions=(1.29 1.33) # the first with sidecars, and a newer one

[ -x "$fedgate" ] || { echo "kubernetes.sh: $fedgate is not there: build it, or name it in FEDGATE_BIN" >&2; exit 64; }
if ! [ -x "$cache/bin/kubernetes-validate" ]; then
    echo "installing kubernetes-validate"
    python3 -m venv "$cache"
    "$cache/bin/pip" install --quiet 'kubernetes-validate==1.37.*'
fi
work=$(mktemp -d /tmp/fedgate-kubernetes.XXXXXX)
trap 'rm -rf "$work"' EXIT

passed=0 failed=0
check() { # NAME COMMAND...
    local name=$1
    shift
    if "$@" > "$work/said" 2>&1; then
        passed=$((passed + 1)) && echo "ok    $name"
    else
        failed=$((failed + 1)) && echo "FAIL  $name" && cat "$work/said"
    fi
}

for file in examples/kubernetes/*.yaml; do
    for version in "${versions[@]}"; do
        check "$file is right for Kubernetes $version" \
            "$cache/bin/kubernetes-validate" --strict -k "$version" "$file"
    done
    directory=$work/$(basename "$file" .yaml)
    mkdir "$directory"
    "$cache/bin/python" - "$file" "$directory" <<'EOF'
import pathlib, sys, yaml
for item in yaml.safe_load_all(open(sys.argv[1])):
    if item["kind"] == "ConfigMap":
        for name, text in item["data"].items():
            pathlib.Path(sys.argv[2], name).write_text(text)
EOF
    check "its configuration is in order" "$fedgate" check-config --config "$directory"
done
# What must not be taken is not taken, or the two above say nothing.
sed 's/readOnlyRootFilesystem/readonlyRootFilesystem/' examples/kubernetes/sidecar.yaml > "$work/wrong.yaml"
check "a misspelt key is found" \
    sh -c "! '$cache/bin/kubernetes-validate' --strict -k ${versions[0]} '$work/wrong.yaml'"

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
