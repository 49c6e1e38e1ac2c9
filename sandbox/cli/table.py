"""The commands: add a line here for a new one. What one imports is loaded when it runs (sandbox/cli/loading.py)."""

from __future__ import annotations

from collections.abc import Mapping

COMMANDS: Mapping[str, tuple[str, str]] = {
    "init": ("init:init", "Find the functions of a project, and write how to train, check and deploy them"),
    "learn": ("learn:learn", "Run a function on sample events, observe its system calls, write a profile to review"),
    "compile": ("compile:compile_", "Compile a profile to verified seccomp filters: a bundle"),
    "invoke": ("invoke:invoke", "Serve events under a profile and print each result"),
    "run": ("invoke:run", "Run a plain program under a profile"),
    "probe": ("probe:probe", "Attack a process under a profile in every way we know"),
    "doctor": ("doctor:doctor", "Try what the sandbox needs from this platform and what it gives"),
    "events": ("events:events", "Show violations, suspicions or activity from a log"),
    "watch": ("watch:watch", "Watch a function live in the terminal"),
    "promote": ("promote:promote", "Say whether an audit's log speaks for enforcing a profile"),
    "explain": ("explain:explain", "Say what a call, a class, a promise or a violation is, and how to allow it"),
    "report": ("report:report", "Write one page about a profile for whoever approves it"),
    "path": ("path:path", "Print where the bootstrap, the native launcher or the schema of profiles lies"),
    "completion": ("completion:completion", "Print what makes bash, zsh or fish complete commands and options"),
    "verify": ("package:verify", "Check each file of a package against its manifest, and its signature"),
    "profile show": ("show:show", "Show what a profile allows, promises first"),
    "profile diff": ("profile:diff", "Show what a profile newly allows and no longer allows"),
    "profile merge": ("profile:merge_", "Merge profiles of one function"),
    "profile lint": ("profile:lint_", "Check profiles as a reviewer would"),
    "profile amend": ("amend:amend", "Propose the smallest widening that would have allowed the violations of a log"),
    "profile export": ("exchange:export", "Write a profile for container engines and Kubernetes"),
    "profile import": ("exchange:import_", "Make a profile from a container's filter"),
    "profile bom": ("exchange:bom_", "Write the libraries that training loaded, as CycloneDX"),
    "package layer": ("package:layer", "Build a Lambda layer"),
    "package runtime": ("package:runtime", "Repack a provided.* function"),
    "package image": ("package:image", "Build a tar for a container image"),
    "package snippet": ("package:snippet_", "Print the configuration to paste into a deployment"),
    "fleet ingest": ("fleet:ingest", "Add the lines of many functions to a store"),
    "fleet report": ("fleet:report", "Answer every question over a store"),
    "fleet learn": ("fleet_learn:learn", "Write the profiles of functions from the observations in a store"),
    "fleet query": ("fleet:query", "Answer one question over a store, or a SELECT of your own"),
}
"""Each command: its module below sandbox.cli with its function there, and what the list of commands says of it. The
function's own docstring is its help page."""

GROUPS: Mapping[str, str] = {
    "profile": "Show, compare, merge, amend, check, export and import profiles",
    "package": "Package the sandbox with a profile for a platform",
    "fleet": "Many functions: a store of their lines, and questions over it",
}
