#!/usr/bin/env python
"""The report of a run as one HTML file: numbers, pictures, settings, provenance.

SPEC is a JSON file that names what goes in (mmwood/report/spec.py);
FOLDER/index.html needs no other file and no network.

Example:
    python tools/analysis_tools/report.py work_dirs/demo/report.json \
        --out work_dirs/demo/report
"""

import argparse
from pathlib import Path

from mmwood.utils.command import run, script_parser


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("spec", type=Path, help="JSON file: what goes in")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    return parser.parse_args()


def main() -> None:
    args = parse_args()

    from mmwood.report.page import write_report

    page = write_report(args.spec, args.out)
    print(f"report: {page} ({page.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    run(main)
