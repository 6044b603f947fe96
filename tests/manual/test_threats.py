#!/usr/bin/env python3
"""tests/threats.md: every test that it names exists, stands under that name in its file, and is run; every line has one, or a
reason.  TAP, a point for each line; reads top_srcdir from the environment."""

import glob
import os
import re
import sys

SOURCE = os.environ.get("top_srcdir", ".")
HOLES = 25
POINTS = 27


def read(path):
    with open(os.path.join(SOURCE, path), encoding="utf-8") as f:
        return f.read()


def run_by():
    """What says which tests are run: the make files, and inside.py for the booted machine."""
    makefiles = glob.glob(os.path.join(SOURCE, "tests/*/Makefile.am.inc")) + [os.path.join(SOURCE, "man/Makefile.am.inc")]
    return "\n".join(open(path, encoding="utf-8").read() for path in makefiles), read("tests/system/inside.py")


def fault(path, name, makefiles, inside):
    """What is wrong with a test's name; empty if nothing is."""
    if not os.path.isfile(os.path.join(SOURCE, path)):
        return "no file " + path
    if not re.search(r"(?<!\w)%s(?!\w)" % re.escape(name), read(path)) and not path.endswith("/" + name):
        return "no %s in %s" % (name, path)
    module = os.path.basename(path)[:-3]
    if module.startswith("check_") and not re.search(r"^CHECKS = \([^)]*\b%s\b" % module, inside, re.M) and \
            "%s.run(t)" % module not in inside:
        return "%s is not run by inside.py" % path
    if path.startswith("tests/") and path not in makefiles and path.rsplit(".", 1)[0] not in makefiles:
        return "%s is in no make file" % path
    return ""


def rows():
    """(name of the line, cell with tests or reason)"""
    for line in read("tests/threats.md").splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) >= 3 and cells[0] not in ("hole", "#", "---"):
            yield ("4.2 " + cells[0] + " " + cells[1] if cells[0].isdigit() else "4.1 " + cells[0]), cells[-1]


def main():
    makefiles, inside = run_by()
    found, failed = list(rows()), 0
    for number, (name, cell) in enumerate(found, 1):
        tests = re.findall(r"`([^`:]+)::([^`]+)`", cell)
        faults = [f for f in (fault(path, test, makefiles, inside) for path, test in tests) if f]
        if not tests and not cell.startswith("Does not apply: "):
            faults.append("neither test nor reason")
        failed += bool(faults)
        print("%s %d - %s" % ("not ok" if faults else "ok", number, name))
        for text in faults:
            print("# " + text)
    points = [int(name.split()[1]) for name, _ in found if name.startswith("4.2 ")]
    whole = points == list(range(1, POINTS + 1)) and len(found) == HOLES + POINTS
    print("%s %d - all lines are there" % ("ok" if whole else "not ok", len(found) + 1))
    print("1..%d" % (len(found) + 1))
    return 0 if whole and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
