"""Every command line and setting in deploy/, held against the command line's parser and `Settings`; nothing is run."""

from __future__ import annotations

import dataclasses
import json
import re
from itertools import pairwise
from pathlib import Path

import click
import pytest
import yaml  # type: ignore[import-untyped]  # it ships no types

from consumer.cli import main
from consumer.settings import PREFIX, Settings

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
TEMPLATES = DEPLOY / "helm" / "consumer" / "templates"

SETTINGS = {PREFIX + field.name.upper() for field in dataclasses.fields(Settings)}

NUMBERS = ("grace", "slots", "ttl", "processes")
"""Values of the chart that are numbers, as `values.schema.json` says."""

KINDS = {"olderThan": "14d", "webhooksTo": "broker"}
"""Values that are no names, and one of their kind."""


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def of_compose() -> list[list[str]]:
    services = yaml.safe_load(read(DEPLOY / "compose.yaml"))["services"]
    return [each["command"] for each in services.values() if each["image"] == "consumer:dev"]


def of_the_image() -> list[list[str]]:
    return [
        json.loads(found)
        for found in re.findall(r"^CMD (\[.*\])$", read(DEPLOY / "Dockerfile"), re.MULTILINE)
    ]


def filled(word: str) -> str:
    """Return a word of a template as its rendering would be: text as it is, a value by one of its kind."""
    if word.startswith('"'):
        return word.strip('"')
    name = word.rpartition(".")[2]
    return "3" if name in NUMBERS else KINDS.get(name, "name")


def of_the_chart() -> list[list[str]]:
    """The lists that `worker`, `relay` and `ingest` begin with and add to, and the jobs' in one line."""
    lines = []
    for path in sorted(TEMPLATES.rglob("*.yaml")):
        text = read(path)
        begun = re.search(r"\$args := list (.*?) }}", text)
        if begun:
            added = re.findall(r"\$args = (?:concat \$args \(list (.*?)\)|append \$args (.*?)) }}", text)
            lines.append([filled(word) for part in (begun[1], *map("".join, added)) for word in part.split()])
        for found in re.findall(r"\bargs: \[(\w.*)\]$", text, re.MULTILINE):
            words = [re.sub(r"{{ (\S+) \| quote }}", r"\1", word) for word in found.split(", ")]
            lines.append([filled(word) if word[0] in '".$' else word for word in words])
    return lines


def parsed(line: list[str]) -> None:
    """Parse a line to its end; what is wrong with it is click's exception."""
    command: click.Command = main
    context = click.Context(main)
    rest = line
    while isinstance(command, click.Group):
        name, found, rest = command.resolve_command(context, rest)
        assert found is not None
        command, context = found, click.Context(found, context, name)
    command.make_context(context.info_name, list(rest), context.parent)


@pytest.mark.parametrize("line", [*of_compose(), *of_the_image(), *of_the_chart()], ids=" ".join)
def test_a_command_line_is_one(line: list[str]) -> None:
    parsed(line)


def test_all_of_them_were_found() -> None:
    assert [line[0] for line in of_compose()] == ["migrate", "run", "relay", "ingest", "migrate", "run"]
    assert [line[0] for line in of_the_image()] == ["run"]
    assert sorted(line[0] for line in of_the_chart()) == [
        "inbox",
        "inbox",
        "ingest",
        "migrate",
        "relay",
        "run",
    ]


def test_a_line_that_is_none_is_refused() -> None:
    """The parser that the other tests rely on says no."""
    for line in (["run", "a:b", "--health-prot", "1"], ["rnu", "a:b"], ["run"], ["inbox", "purge", "--nope"]):
        with pytest.raises(click.UsageError):
            parsed(line)


@pytest.mark.parametrize(
    "path",
    [DEPLOY / "compose.yaml", DEPLOY / "Dockerfile", TEMPLATES / "_pod.tpl"],
    ids=lambda path: path.name,
)
def test_what_the_environment_sets_are_settings(path: Path) -> None:
    named = {name.removesuffix("_FILE") for name in re.findall(rf"\b{PREFIX}[A-Z_]+", read(path))}
    assert named
    assert named <= SETTINGS


def test_what_listens_is_what_is_asked() -> None:
    """The port that Prometheus asks and compose publishes is one that the command says."""
    services = yaml.safe_load(read(DEPLOY / "compose.yaml"))["services"]
    for config in yaml.safe_load(read(DEPLOY / "compose" / "prometheus.yaml"))["scrape_configs"]:
        for found in config.get("dns_sd_configs", ()):
            for name in found["names"]:
                words = services[name]["command"]
                assert str(found["port"]) in {
                    b for a, b in pairwise(words) if a in {"--port", "--health-port"}
                }, name
    ingest = services["ingest"]["command"]
    assert services["ingest"]["ports"][0].endswith(":" + ingest[ingest.index("--port") + 1])
