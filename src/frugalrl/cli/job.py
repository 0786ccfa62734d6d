"""One process of a study, which does the job in the file that is named; started by ``frugal compare``, not by hand."""

import sys
from pathlib import Path

from frugalrl.cli import environment


def main() -> int:
    """Do the job in the file that is named."""
    environment.prepare(1)
    from frugalrl.study.job import run_job

    return run_job(Path(sys.argv[1]))


if __name__ == "__main__":
    sys.exit(main())
