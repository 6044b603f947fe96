#!/bin/sh
# The demonstration, as `make demo` runs it: its answers are checked by itself.  TAP; from the environment: PYTHON,
# top_srcdir, top_builddir.
set -u

echo 1..1
shown=$("${PYTHON:?}" "${top_srcdir:?}/tests/demo/demo.py" --programs "${top_builddir:?}/src" 2>&1)
status=$?
printf '%s\n' "$shown" | sed 's/^/# /'
if [ $status -eq 0 ]; then
	echo 'ok 1 - the demonstration shows what it should'
else
	echo 'not ok 1 - the demonstration shows what it should'
	exit 1
fi
