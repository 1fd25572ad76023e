"""A site file from disk to a ``LoadedSite``, or every problem in it at once."""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cem.config.bounds import report_bounds
from cem.config.build import build_site
from cem.config.checks import find_problems
from cem.config.draft import Draft
from cem.config.models import SiteFile
from cem.config.paths import missing_files, with_absolute_paths
from cem.config.tree import dotted
from cem.config.typed import UNUSABLE, Typed
from cem.config.yaml_source import YamlSource
from cem.core.site import Site
from cem.errors import ConfigError, Problem


@dataclass(frozen=True, slots=True)
class LoadedSite:
    """A site file that may be used.

    Attributes:
        file: As written, with defaults filled in.
        site: As the core sees it.
        warnings: What the installer should look at.
        notes: What the installer should know.
        path: Where it was read; relative paths in it are relative to its folder.
    """

    file: SiteFile
    site: Site
    warnings: tuple[Problem, ...]
    notes: tuple[Problem, ...]
    path: Path


def load_site_file(
    path: Path,
    *,
    known_models: Collection[str] | None = None,
    environ: Mapping[str, str] | None = None,
    no_dead_man: Mapping[str, str] | None = None,
) -> LoadedSite:
    """Reads, checks and builds.

    Args:
        path: The site file.
        known_models: Names of Modbus maps that exist; ``None`` skips that check.
        no_dead_man: Stations that were learned not to fall back by themselves, and why.
        environ: For ``!env``; the process environment where left out.

    Raises:
        ConfigError: With every problem, errors and warnings, in the order of the file.
    """
    source = YamlSource(os.environ if environ is None else environ)
    typed = Typed()
    tree = source.read(path)
    data = typed.document(tree, SiteFile)
    file = report_bounds(SiteFile, data, typed) if data is not UNUSABLE else None
    problems = [*source.problems, *typed.problems]
    findings = list(find_problems(replace(Draft.of(data), no_dead_man=no_dead_man or {}), known_models))
    if isinstance(file, SiteFile):
        findings += missing_files(file, path.parent)
    for finding in findings:
        mark = typed.mark(finding.path)
        place = dotted(finding.path)
        problems.append(Problem(mark.file, mark.line, mark.column, place, finding.message, finding.severity))
    problems = [_without(source.secrets, problem) for problem in problems]
    problems = sorted(dict.fromkeys(problems), key=lambda p: (p.file != str(path), p.file, p.line, p.column))
    warnings, notes = (tuple(p for p in problems if (p.severity == "note") is told) for told in (False, True))
    if file is None or any(problem.severity == "error" for problem in problems):
        raise ConfigError(warnings)
    assert isinstance(file, SiteFile)  # noqa: S101 - for the type checker
    file = with_absolute_paths(file, path.parent)
    return LoadedSite(file, build_site(file), warnings, notes, path)


def _without(secrets: Collection[str], problem: Problem) -> Problem:
    """A secret that stands where a name or number belongs would be quoted; shorter ones hide nothing."""
    message = problem.message
    for secret in secrets:
        if len(secret) > 3:
            message = message.replace(secret, "(secret)")
    return replace(problem, message=message)
