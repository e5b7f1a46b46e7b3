"""A machine of its own, with systemd and one of Debian's servers, on which fedgate is installed as
a new user would: from its Debian package, and then word for word as README.md or a guide says.

`tests/package.sh` makes the machine's root directory, and names it in RIG_MACHINE.
"""

import os
import re
import time
from pathlib import Path

from ..checks import deliver
from ..client import Client
from ..gate import PUBLIC_PORT, Steering
from ..net import CommandFailed, Node, command
from ..plan import LEGACY, LEGACY_ADDRESS, UNBOUND
from ..process import Died, Process
from ..scene import Failed, Scene
from ..servers.base import CLIENT_PORT, PASSWORD
from ..wait import TimedOut, until
from .base import Scenario
from .federation import STEERINGS

ROOT = os.environ.get("RIG_MACHINE")
SOURCE = Path(__file__).parents[3]
DOCUMENTS = "/usr/share/doc/fedgate"
UNITS = {"jabberd2": "jabberd", "ejabberd": "ejabberd", "prosody": "prosody"}
# how an account is made; Debian's jabberd2 is set up to let everybody in
REGISTER = {
    "jabberd2": "true",
    "ejabberd": f"ejabberdctl register alice {LEGACY} {PASSWORD}",
    "prosody": f"prosodyctl register alice {LEGACY} {PASSWORD}",
}
DOMAIN = "legacy.example"  # in README.md
BOOT_SECONDS = 60
# a person is slower to look than servers are to start
LOOKS = ("dig ", "ejabberdctl ", "prosodyctl shell ", "tail ")
PATIENCE = 20
# the package neither enables nor starts the service, and leaves no configuration behind
INSTALL = (
    "dpkg -i /var/tmp/fedgate.deb; test $(systemctl is-enabled fedgate) = disabled;"
    " test $(systemctl is-active fedgate) = inactive"
)
REMOVE = (
    "! dpkg -s fedgate 2> /dev/null"
    " || { dpkg --purge fedgate; test ! -e /etc/fedgate/conf.d/50-rules.yaml; }"
)
UNPACKED = "/root/fedgate"
UNPACK = f"""
dpkg-deb -x /var/tmp/fedgate.deb {UNPACKED}; cd {UNPACKED}
mkdir -p target/release; cp usr/bin/fedgate target/release; cp -r usr/share/doc/fedgate/* .
cp usr/lib/systemd/system/fedgate.service examples/systemd
cp usr/lib/sysusers.d/fedgate.conf examples/systemd/fedgate.sysusers
"""
TO_BUILD = ("apt-get ", "cargo ")
STEP_SECONDS = 50


class Machine:
    """A booted container that lives in a node's network. What it writes is gone with it."""

    def __init__(self, node: Node, process: Process) -> None:
        self.node = node
        self.process = process
        self._init = 0

    @classmethod
    async def boot(cls, scene: Scene, node: Node, root: str) -> "Machine":
        words = [
            "setpriv", "--pdeathsig=KILL", "--",
            "systemd-nspawn", "--quiet", "--boot", "--volatile=overlay", f"--directory={root}",
            "--register=no", "--keep-unit", "--console=pipe", "--resolv-conf=off",
            "--capability=CAP_NET_ADMIN", f"--machine={node.namespace}",
            f"--network-namespace-path=/run/netns/{node.namespace}",
        ]  # fmt: skip
        process = await Process.start("machine", words, scene.directory / "machine.log")
        machine = cls(node, process)
        scene.cleanup(machine.halt)
        await machine._booted()
        return machine

    def run(self, script: str) -> str:
        """Runs a shell script in the machine."""
        return command(
            "timeout", str(STEP_SECONDS), "nsenter", "-t", str(self._init), "-a", "-r", "-w",
            "--", "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root",
            "sh", "-ec", script,
        )  # fmt: skip

    def write(self, path: str, text: str) -> None:
        """Writes a file."""
        self.run(f"cat > {path} <<'EOF'\n{text}EOF\n")

    async def listens(self, port: int) -> None:
        """Waits until somebody in it does."""

        async def listening() -> bool:
            return await self.node.listens(port)

        await self.process.ready(listening, BOOT_SECONDS)

    async def halt(self) -> None:
        """Shuts it down."""
        await self.process.stop(30)

    async def _booted(self) -> None:
        def up() -> bool:
            self.process.must_run()
            pid = self.process.pid
            # before its init, a child prepares the container
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            self._init = int(children[-1]) if children else 0
            try:
                state = self.run("systemctl is-system-running || true").strip()
            except CommandFailed:
                return False
            return state in ("running", "degraded")

        await until(up, BOOT_SECONDS, "the machine to boot")


async def from_the_readme(scene: Scene) -> str:
    """The section of README.md, but for the build, which the package stands for."""
    _, guide = _section()
    return await _install(scene, "jabberd2", DOCUMENTS, _steps(guide, "dns"))


async def by_hand(scene: Scene) -> str:
    """The same without the package: what it holds lies where the sources would."""
    install, guide = _section()
    first = install.partition("Or as a Debian package")[0]
    steps = [step for step in _steps(first + guide, "dns") if not step.startswith(TO_BUILD)]
    return await _install(scene, "jabberd2", UNPACKED, steps, UNPACK)


def _section() -> tuple[str, str]:
    """How to install, and all that follows."""
    text = (SOURCE / "README.md").read_text()
    section = text.partition("\n## Five minutes, without docker\n")[2].partition("\n## ")[0]
    install, _, guide = section.partition("\n**2.")
    return install, guide


async def from_the_guide(scene: Scene, kind: str, steering: Steering) -> str:
    """A guide, with one way of steering."""
    text = (SOURCE / "examples" / kind / "README.md").read_text()
    other = "3b" if steering == "dns" else "3a"
    guide = re.sub(rf"^## {other}\..*?(?=^## )", "", text, flags=re.MULTILINE | re.DOTALL)
    # what README.md says once for all
    certificate = [
        f"install -m 0640 -g fedgate fullchain.pem /etc/fedgate/{LEGACY}.crt",
        f"install -m 0640 -g fedgate privkey.pem /etc/fedgate/{LEGACY}.key",
    ]
    steps = certificate + _steps(guide, steering)
    return await _install(scene, kind, f"{DOCUMENTS}/examples/{kind}", steps)


async def _install(
    scene: Scene, kind: str, place: str, steps: list[str], unpack: str = INSTALL
) -> str:
    peer = await scene.peer("prosody")
    node = scene.bare("machine", LEGACY_ADDRESS)
    # as on any machine; the rig allows more
    node.run("sh", "-c", "echo 1024 > /proc/sys/net/ipv4/ip_unprivileged_port_start")
    assert ROOT is not None
    machine = await Machine.boot(scene, node, ROOT)
    root = scene.world.authority.root.read_text()
    machine.write("/etc/resolv.conf", f"nameserver {UNBOUND}\n")
    machine.write("/usr/local/share/ca-certificates/rig.crt", root)
    machine.run("update-ca-certificates")
    # the legacy server as it was before
    machine.run(f"systemctl enable --now {UNITS[kind]}")
    for port in (CLIENT_PORT, PUBLIC_PORT):
        await machine.listens(port)
    machine.run(REGISTER[kind])

    began = time.monotonic()
    machine.run(unpack)
    _certify(scene, machine, place)
    for step in steps:
        await _carry_out(machine, place, step)
    installed = time.monotonic() - began

    await machine.listens(CLIENT_PORT)
    bob = await scene.login(peer, "bob")
    alice = await _login(scene, node)
    await deliver(alice, bob, 10)
    await deliver(bob, alice, 10)
    seconds = time.monotonic() - began
    verdict = _inspect(machine)
    return (
        f"{len(steps)} steps in {installed:.0f} s, messages both ways after {seconds:.0f} s;"
        f" {verdict}"
    )


async def _login(scene: Scene, node: Node) -> Client:
    """alice, at a server whose port may be open before its parts have found each other."""
    deadline = time.monotonic() + BOOT_SECONDS
    while True:
        alice = await Client.launch(node, "alice", LEGACY, scene.directory)
        scene.cleanup(alice.end)
        try:
            await alice.online()
        except Died:
            if time.monotonic() > deadline:
                raise
        else:
            return alice


async def _carry_out(machine: Machine, place: str, step: str) -> None:
    """One step; raises `Failed` with the end of the journal."""
    problems = []

    def done() -> bool:
        try:
            machine.run(f"cd {place}\n{step}")
        except CommandFailed as problem:
            problems.append(problem)
            return False
        return True

    try:
        await until(done, PATIENCE if step.startswith(LOOKS) else 0, step)
    except TimedOut as late:
        journal = machine.run("journalctl --no-pager -o cat -n 20")
        raise Failed(f"{problems[-1]}\n{journal}") from late


def _inspect(machine: Machine) -> str:
    """The service as it runs, its end, and that of the package; returns systemd's verdict."""
    status = machine.run("cat /proc/$(systemctl show -P MainPID fedgate)/status")
    facts = dict(line.split(":", 1) for line in status.splitlines())
    user, wanted = facts["Uid"].split()[1], machine.run("id -u fedgate").strip()
    if user != wanted or facts["Seccomp"].strip() != "2" or facts["NoNewPrivs"].strip() != "1":
        raise Failed(f"fedgate runs as {user}, not {wanted}, or without its sandbox: {status}")
    machine.run("systemd-analyze verify fedgate.service")
    verdict = machine.run("systemd-analyze security --no-pager fedgate.service | tail -n 1")
    machine.run("systemctl reload fedgate; systemctl is-active fedgate")
    machine.run("systemctl stop fedgate; test $(systemctl show -P Result fedgate) = success")
    machine.run(REMOVE)
    return verdict.strip("→ \n")


def _certify(scene: Scene, machine: Machine, place: str) -> None:
    """The certificate, as a tool leaves it."""
    pair = scene.world.authority.issue(LEGACY, LEGACY)
    for name, file in (("fullchain.pem", pair.cert), ("privkey.pem", pair.key)):
        machine.write(f"{place}/{name}", file.read_text())


def _steps(guide: str, steering: Steering) -> list[str]:
    """The commands of a guide, a line each, as a person would give them for the rig's domain."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    if len(blocks) < 5:
        raise Failed(f"a guide of {len(blocks)} blocks of commands")
    text = "".join(blocks).replace("\\\n", " ").replace(DOMAIN, LEGACY)
    steps = []
    for line in text.splitlines():
        step, _, comment = line.partition("#")
        word = step.partition(" ")[0]
        match word:
            case "":
                continue
            case "editor":
                steps.append(_edit(step.split()[1]))
            case "dig":
                if steering == "dns":
                    expected = comment.removeprefix(" DNS:").strip()
                    steps.append(f'{step} | grep -Fx "{expected}"')
            case "nft":
                if steering == "nftables":
                    steps.append(step)
            case "journalctl" | "tail":
                steps.append(step.replace(" -f", " -n 20"))
            case "grep":  # may find nothing
                steps.append(f"{step} || true")
            case _:
                steps.append(step)
    return steps


def _edit(file: str) -> str:
    """Puts the domain in, and the certificates; the rig's peers have private addresses."""
    edit = f"s/{DOMAIN}/{LEGACY}/g; /rooms/d; s/^#\\(certificates:\\|  - {{ cert\\)/\\1/"
    more = f"$(dirname {file})/90-rig.yaml"
    return f"sed -i '{edit}' {file}; echo 'networks: {{deny_out: []}}' > {more}"


def _guide(kind: str, steering: Steering) -> Scenario:
    async def play(scene: Scene) -> str:
        return await from_the_guide(scene, kind, steering)

    name = f"machine-{kind}-{steering}"
    return Scenario(name, f"a new machine, from the guide for {kind}, steered by {steering}", play)


SCENARIOS = [
    Scenario("machine-readme", "a new machine, from the package and README.md", from_the_readme),
    Scenario("machine-by-hand", "a new machine, from a build and README.md", by_hand),
    *(_guide(kind, steering) for kind in UNITS for steering in STEERINGS),
]
if not ROOT:
    SCENARIOS.clear()
