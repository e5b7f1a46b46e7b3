#!/usr/bin/env python3
"""Holds Cargo.lock against deny.toml as far as cargo itself knows: where crates come from, their
licences, how many versions there are of each, and which are not wanted. `cargo deny check` looks at
the same and at advisories; this needs nothing but cargo.

    tests/supply.py
"""

import collections
import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
CRATES_IO = "https://github.com/rust-lang/crates.io-index"


def packages(targets):
    """All that is compiled for the targets, tests and build scripts included."""
    command = ["cargo", "tree", "--locked", "--all-features", "--edges=normal,build,dev"]
    command += ["--prefix=none", "--no-dedupe", "--format={p}|{l}"]
    command += [f"--target={target}" for target in targets]
    tree = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    crates = set()
    for line in filter(None, tree.splitlines()):
        what, licence = line.split("|")
        # what does not come from crates.io says where it comes from
        name, version, *source = what.replace(" (proc-macro)", "").split(" ", 2)
        if (name, source) != ("fedgate", [f"({ROOT})"]):
            crates.add((name, version.removeprefix("v"), licence, *source))
    return [
        {"name": name, "version": version, "license": licence, "source": (*source, CRATES_IO)[0]}
        for name, version, licence, *source in crates
    ]


def is_permitted(expression, allowed):
    """Whether an SPDX expression can be met by what is allowed. `/` is how `OR` was once written."""
    tokens = re.findall(r"\(|\)|[^\s()/]+|/", expression)
    words = {"(": "(", ")": ")", "/": "or", "OR": "or", "AND": "and"}
    python = []
    for n, token in enumerate(tokens):
        if token == "WITH":
            python[-1] = str(f"{tokens[n - 1]} WITH {tokens[n + 1]}" in allowed)
        elif n and tokens[n - 1] == "WITH":
            continue
        else:
            python.append(words.get(token) or str(token in allowed))
    return eval(" ".join(python), {"__builtins__": {}})


def problems(packages, policy):
    """What of them the policy does not want."""
    allowed = set(policy["licenses"]["allow"])
    denied = {entry["crate"] for entry in policy["bans"]["deny"]}
    skipped = {tuple(entry["crate"].split("@")) for entry in policy["bans"]["skip"]}
    versions = collections.defaultdict(set)
    for package in packages:
        name, version = package["name"], package["version"]
        who = f"{name} {version}"
        if package["source"] not in policy["sources"]["allow-registry"]:
            yield f"{who} comes from {package['source']}"
        if not package["license"] or not is_permitted(package["license"], allowed):
            yield f"{who} has the licence {package['license']}"
        if name in denied:
            yield f"{who} is denied"
        versions[name].add(version)
    used = set()
    for name, all_versions in versions.items():
        left = set()
        for version in all_versions:
            skip = {s for s in skipped if s[0] == name and f"{version}.".startswith(f"{s[1]}.")}
            used |= skip
            if not skip:
                left.add(version)
        if len(left) > 1:
            yield f"{name} is there in versions {', '.join(sorted(left))}"
    for name, version in skipped - used:
        yield f"{name}@{version} is skipped and is not there"


def check_myself():
    """A check that finds nothing wrong with what is wrong is worth nothing."""
    policy = {
        "licenses": {"allow": ["MIT", "ISC"]},
        "sources": {"allow-registry": ["https://r"]},
        "bans": {"deny": [{"crate": "bad"}], "skip": [{"crate": "old@1"}, {"crate": "gone@1"}]},
    }

    def package(name, version="1.0.0", license="MIT", source="https://r"):
        return {"name": name, "version": version, "license": license, "source": source}

    found = list(
        problems(
            [
                package("good", license="Apache-2.0/MIT"),
                package("both", license="MIT AND (GPL-3.0 OR ISC)"),
                package("half", license="MIT AND GPL-3.0"),
                package("llvm", license="Apache-2.0 WITH LLVM-exception"),
                package("none", license=None),
                package("git", source="(https://g)"),
                package("bad"),
                package("old"),
                package("old", "2.0.0"),
                package("twice"),
                package("twice", "10.0.0"),
            ],
            policy,
        )
    )
    wanted = [
        "half 1.0.0 has the licence MIT AND GPL-3.0",
        "llvm 1.0.0 has the licence Apache-2.0 WITH LLVM-exception",
        "none 1.0.0 has the licence None",
        "git 1.0.0 comes from (https://g)",
        "bad 1.0.0 is denied",
        "twice is there in versions 1.0.0, 10.0.0",
        "gone@1 is skipped and is not there",
    ]
    assert found == wanted, found


def main():
    check_myself()
    policy = tomllib.loads((ROOT / "deny.toml").read_text())
    compiled = packages(policy["graph"]["targets"])
    wrong = sorted(problems(compiled, policy))
    for line in wrong:
        print(f"deny.toml: {line}")
    print(f"{len(compiled)} crates, {len(wrong)} problems")
    sys.exit(1 if wrong else 0)


main()
