"""A candidate on etcd's own Go client, in the same queue as the others."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from etcdleader.testing import EtcdServerError, _children
from etcdleader.testing._go_toolchain import EtcdBuildError, find_gos, go_build
from tests.faults.campaign import Campaign
from tests.faults.candidate import Candidate
from tests.faults.history import GO
from tests.versions.listed import NEWEST

__all__ = ("GoCandidate", "add_go_candidate", "build_go_candidate")

_SOURCE = Path(__file__).with_name("go") / "main.go"


def build_go_candidate(folder: Path) -> Path:
    """Build the program in this folder, and return its path.

    The Go client has the version of the newest listed etcd.

    Raises:
        EtcdBuildError: There is no Go, or the build failed.
    """
    module, programs = folder / "module", folder / "programs"
    module.mkdir(parents=True)
    shutil.copy(_SOURCE, module)
    requires = f"require go.etcd.io/etcd/client/v3 v{NEWEST}"
    (module / "go.mod").write_text(f"module etcdleader.invalid/candidate\n\ngo 1.21\n\n{requires}\n", encoding="utf-8")
    failure = EtcdBuildError("there is no Go to build the candidate on etcd's Go client")
    for go in find_gos():
        try:
            go_build(go, ["."], programs, module=module, checkpoint=lambda: None)
        except EtcdBuildError as error:
            failure = error
        else:
            return programs / "candidate"
    raise failure


class GoCandidate(Candidate):
    """Runs behind a proxy like every other candidate, with a journal of the same form."""

    def __init__(self, program: Path, *arguments: Any, **options: Any) -> None:
        self._program = program
        super().__init__(*arguments, **options)

    def _spawn(self, facts: str, **streams: Any) -> subprocess.Popen[bytes]:
        return _children.spawn(self._network.command(self.name, [str(self._program), facts]), **streams)


def add_go_candidate(campaign: Campaign) -> str:
    """Add a candidate on etcd's Go client to the campaign, and start it.

    Returns:
        An empty string, or why there is none.
    """
    try:
        program = build_go_candidate(campaign.folder / "go")
    except EtcdServerError as error:
        return str(error).partition("\n")[0]
    candidate = GoCandidate(
        program, f"c{len(campaign.candidates)}", GO, campaign.network, campaign.cluster.clients, campaign.folder,
        campaign.options, first=len(campaign.candidates) % len(campaign.cluster.clients),
    )  # fmt: skip
    campaign.candidates.append(candidate)
    campaign.start(candidate)
    return ""
