#!/bin/sh
# Builds the fuzz targets with libFuzzer, AddressSanitizer and UndefinedBehaviorSanitizer in FOLDER, runs each for SECONDS, and
# says how many executions it had and what it covered.  New inputs are kept in FOLDER/corpus-TARGET; --keep merges them into
# tests/fuzz/corpus, the smallest set that covers as much.
#
#	tests/fuzz/run.sh FOLDER SECONDS [--keep] [TARGET...]
set -eu

folder=${1:?"usage: run.sh FOLDER SECONDS [--keep] [TARGET...]"}
seconds=${2:?"usage: run.sh FOLDER SECONDS [--keep] [TARGET...]"}
shift 2
keep=no
if [ "${1-}" = --keep ]; then
	keep=yes
	shift
fi
source=$(cd "$(dirname "$0")/../.." && pwd)

mkdir -p "$folder"
cd "$folder"
if [ ! -e Makefile ]; then
	"$source/configure" CC=clang --enable-libfuzzer --disable-sandbox --disable-hardening \
		CFLAGS='-g -O1 -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer' \
		>configure.out
fi
make -s src/common/syscall_names.h >make.out
targets=${*:-"login logrecord maildir maildrop mbox_scan session settings state stuffing users"}
for target in $targets; do
	make -s "tests/fuzz/fuzz_$target" >make.out
done

failed=0
passed=0
for target in $targets; do
	mkdir -p "corpus-$target"
	# A leak is looked for at the end; -close_fd_mask keeps what the target logs out of the way.
	if "tests/fuzz/fuzz_$target" -max_total_time="$seconds" -max_len=8192 -timeout=20 -rss_limit_mb=2048 -close_fd_mask=2 \
		-print_final_stats=1 -artifact_prefix="crash-$target-" "corpus-$target" "$source/tests/fuzz/corpus/$target" \
		>"$target.out" 2>&1; then
		passed=$((passed + 1))
		verdict=ok
	else
		failed=$((failed + 1))
		verdict='not ok'
	fi
	awk -v target="$target" -v verdict="$verdict" '
		/cov: / { for (i = 1; i <= NF; i++) { if ($i == "cov:") cov = $(i + 1); if ($i == "ft:") ft = $(i + 1) } }
		/stat::number_of_executed_units/ { units = $2 }
		END { printf "%s - %s: %s executions, %s edges, %s features\n", verdict, target, units, cov, ft }' "$target.out"
	if [ "$keep" = yes ]; then
		"tests/fuzz/fuzz_$target" -merge=1 "$source/tests/fuzz/corpus/$target" "corpus-$target" >merge.out 2>&1
	fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
