"""The few questions to GitHub's API: labels, the comment of a pull request, code scanning.

A token of a fork's pull request only reads: what it may not write GitHub answers with 403, and that is not a failure.
"""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

from sandbox.ci.comparison import REPORT
from sandbox.errors import printable

MARK = "<!-- seccomp-bootstrap: profiles -->"
"""The first line of our comment, by which the next run finds it."""
LONGEST = 65_000
"""Characters of a comment, where GitHub takes 65,536."""
PAGE, MOST_PAGES = 100, 30
TIMEOUT = 30.0


class NotDone(Exception):
    """A request that GitHub, or the way to it, refused: what was asked, and what came."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Goes nowhere else: urllib would send the token along."""

    def redirect_request(self, *arguments: Any) -> None:
        """None makes a redirection an error."""
        return


class GitHub:
    """One repository's API, with a token."""

    def __init__(self, api: str, repository: str, token: str) -> None:
        """`api` is GITHUB_API_URL, `repository` OWNER/NAME."""
        self._base = f"{api.rstrip('/')}/repos/{repository}"
        self._token = token
        self._opener = urllib.request.build_opener(_NoRedirect)

    def labels(self, number: int) -> set[str]:
        """The labels that a pull request has now. Raises NotDone."""
        return {str(one["name"]) for one in self._pages(f"/issues/{number}/labels")}

    def comment(self, number: int, report: str, *, is_news: bool = True) -> None:
        """Write the report as our one comment of a pull request; what `is_news` not only over an older one.

        Raises NotDone.
        """
        body = f"{MARK}\n{report}"
        if len(body) > LONGEST:
            body = f"{body[:LONGEST]}\n\n... the rest is in {REPORT} of this run's artifact"
        for one in self._pages(f"/issues/{number}/comments"):
            if str(one.get("body", "")).startswith(MARK):
                try:
                    self._ask("PATCH", f"/issues/comments/{int(one['id'])}", {"body": body})
                    return
                except NotDone:
                    continue  # another's, who wrote our mark
        if is_news:
            self._ask("POST", f"/issues/{number}/comments", {"body": body})

    def upload(self, sarif: bytes, commit: str, ref: str) -> None:
        """Give an analysis to code scanning. Raises NotDone."""
        packed = base64.b64encode(gzip.compress(sarif)).decode()
        self._ask("POST", "/code-scanning/sarifs", {"commit_sha": commit, "ref": ref, "sarif": packed})

    def _pages(self, path: str) -> Iterator[dict[str, Any]]:
        for page in range(1, MOST_PAGES + 1):
            found = self._ask("GET", f"{path}?per_page={PAGE}&page={page}")
            yield from found
            if len(found) < PAGE:
                return

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {
            "Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28",
            "Content-Type": "application/json", "User-Agent": "seccomp-bootstrap",
            **({"Authorization": f"Bearer {self._token}"} if self._token else {}),
        }  # fmt: skip
        what = f"{method} {path.partition('?')[0]}"
        try:
            request = urllib.request.Request(self._base + path, data, headers, method=method)
            with self._opener.open(request, timeout=TIMEOUT) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise NotDone(f"{what}: {error.code} {_message(error.read(1 << 16))}") from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            # ValueError: an answer that is not JSON, or no GITHUB_API_URL; HTTPException: an answer that is not HTTP.
            raise NotDone(f"{what}: {printable(str(error))}") from error


def _message(body: bytes) -> str:
    try:
        return printable(str(json.loads(body)["message"]))
    except (ValueError, KeyError, TypeError):
        return "without a reason"
