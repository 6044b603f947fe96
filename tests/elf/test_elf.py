#!/usr/bin/env python3
"""The programs as the linker left them: hardening, and which libraries they load.  TAP; reads top_builddir.

A build without hardening (--disable-hardening: sanitizers, valgrind) is none to be judged by these; its libraries are.
"""

import glob
import os
import re
import shutil
import subprocess
import sys

BUILD = os.environ.get("top_builddir", ".")
PROGRAMS = [name for name in ("postern", "postern-helper", "postern-pam", "postern-tls")
            if os.path.exists(os.path.join(BUILD, "src", name))]

# Each with its reason.  What these need themselves is in CLOSURE.
NEEDED = {
    "postern": {
        "libc.so.6": "everything",
        "libinih.so.1": "postern.conf(5), where there is no archive of it",
    },
    "postern-helper": {
        "libc.so.6": "everything",
        "libinih.so.1": "postern.conf(5), where there is no archive of it",
        "libcrypt.so.1": "passwords of the users file and of shadow(5); where there is no archive of it",
        "libnettle.so.8": "SHA-256 of a message, for its unique-id; where there is no archive of it",
    },
}
NEEDED["postern-pam"] = {
    "libc.so.6": "everything",
    "libpam.so.0": "PAM",
}
NEEDED["postern-tls"] = {
    "libc.so.6": "everything",
    "libssl.so.3": "TLS",
    "libcrypto.so.3": "TLS, certificates, keys",
}
CLOSURE = {
    "postern-tls": {"linux-vdso.so.1", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"},
    "postern": {"linux-vdso.so.1", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"},
    "postern-helper": {"linux-vdso.so.1", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"},
    "postern-pam": {"linux-vdso.so.1", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1",
                    "libaudit.so.1", "libcap-ng.so.0"},  # libpam's, for the audit log
}

# Where each has its main().
FOLDERS = {"postern": "session", "postern-helper": "helper", "postern-pam": "pam", "postern-tls": "tls"}

results = []


def ok(good, name, why=""):
    results.append(good)
    print("%s %d - %s" % ("ok" if good else "not ok", len(results), name))
    if not good:
        for line in str(why).splitlines():
            print("# " + line)


def skip(name, why):
    results.append(True)
    print("ok %d - %s # SKIP %s" % (len(results), name, why))


def run(*words):
    return subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True,
                          env={**os.environ, "LC_ALL": "C"}).stdout


def hardened():
    with open(os.path.join(BUILD, "Makefile"), encoding="utf-8") as f:
        text = f.read()
    return re.search(r"^HARDEN_CFLAGS = (.*)$", text, re.M).group(1).strip(), re.search(r"^CC = (.*)$", text, re.M).group(1)


def check_hardening(name, path, cflags):
    header, segments, dynamic = run("readelf", "-hW", path), run("readelf", "-lW", path), run("readelf", "-dW", path)
    symbols = run("readelf", "-sW", "--dyn-syms", path)
    ok(re.search(r"Type:\s+DYN", header) and "PIE" in dynamic, name + ": position-independent (PIE)", header)
    ok("GNU_RELRO" in segments and re.search(r"\(FLAGS\).*BIND_NOW|\(BIND_NOW\)|FLAGS_1.*NOW", dynamic),
       name + ": full RELRO, BIND_NOW", dynamic)
    ok(re.search(r"GNU_STACK\s.* RW\s", segments), name + ": no executable stack", segments)
    ok(not [line for line in segments.splitlines() if re.search(r"LOAD.* RWE ", line)],
       name + ": no segment is writable and executable", segments)
    ok(not re.search(r"\((RPATH|RUNPATH)\)", dynamic), name + ": no RPATH", dynamic)
    ok(not re.search(r"\(TEXTREL\)|FLAGS.*TEXTREL", dynamic), name + ": no text relocations", dynamic)
    ok("__stack_chk_fail" in symbols, name + ": stack protector")
    if is_static(path):
        skip(name + ": FORTIFY", "musl has none; the tests' own builds of the same files have it")
    else:
        ok(re.search(r"\b__(memcpy|vsnprintf|snprintf|explicit_bzero|read)_chk\b", symbols), name + ": FORTIFY",
           sorted(set(re.findall(r"\b\w+_chk\b", symbols))))
    calls = run("readelf", "-sW", *compiled(name)) if is_static(path) else symbols
    banned = set(re.findall(r"\bUND (gets|sprintf|vsprintf|strcat|strtok|system|popen|tmpnam|mktemp|exec\w+|fexecve|posix_spawn\w*)(?:@|$)",
                            calls, re.M))
    ok(banned <= ({"execve"} if name in ("postern", "postern-helper", "postern-pam") else set()),
       name + ": calls nothing that runs a program or writes without a bound, "
       "but the monitor's execve, and the helper's and its own of postern-pam", sorted(banned))
    check_cet(name, cflags)
    ok("-fstack-clash-protection" in cflags, name + ": stack clash protection", cflags)


def compiled(name):
    """The objects of the program's own folder."""
    return sorted(glob.glob(os.path.join(BUILD, "src", FOLDERS[name], "*.o")))


def check_cet(name, cflags):
    """In what was compiled here: the linker leaves the mark away where libc's start files have none, as in Debian 12."""
    if "-fcf-protection" not in cflags:
        skip(name + ": CET (IBT, shadow stack)", "the compiler has none for this processor")
        return
    objects = compiled(name)
    bare = [o for o in objects if not re.search(r"IBT, SHSTK", run("readelf", "-nW", o))]
    ok(objects and not bare, name + ": CET (IBT, shadow stack) in all that is compiled", bare)


def is_static(path):
    return "INTERP" not in run("readelf", "-lW", path)


def needed(path):
    return set(re.findall(r"\(NEEDED\).*\[(.*)\]", run("readelf", "-dW", path)))


def check_libraries(name, path, sanitizers):
    if sanitizers:
        skip(name + ": libraries", "built with sanitizers, which are libraries")
        return
    have = needed(path)
    with open(os.path.join(BUILD, "Makefile"), encoding="utf-8") as f:
        musl = re.search(r"^MUSL_LIBS = .*-static-pie", f.read(), re.M)
    if musl and name in ("postern", "postern-helper"):
        ok(is_static(path), name + ": static, as it is linked with musl", run("readelf", "-lW", path))
    if is_static(path):
        ok(name in ("postern", "postern-helper") and have == set(), name + ": static: no libraries", sorted(have))
        return
    ok("libc.so.6" in have and have <= set(NEEDED[name]), name + ": only libraries that have a reason",
       "without one: %s" % sorted(have - set(NEEDED[name])))
    loaded = {os.path.basename(word) for word in re.findall(r"^\s+(\S+)", run("ldd", path), re.M)}
    ok(loaded <= set(NEEDED[name]) | CLOSURE[name], name + ": ldd: and nothing beside them",
       "too many: %s" % sorted(loaded - set(NEEDED[name]) - CLOSURE[name]))


def main():
    missing = [tool for tool in ("readelf", "ldd") if shutil.which(tool) is None]
    if missing:
        print("1..0 # SKIP %s is missing" % missing[0])
        return 0
    cflags, compiler = hardened()
    with open(os.path.join(BUILD, "Makefile"), encoding="utf-8") as f:
        sanitizers = "-fsanitize=" in re.search(r"^CFLAGS = (.*)$", f.read(), re.M).group(1)
    print("# %s, %s" % (compiler, cflags or "no hardening"))
    for name in PROGRAMS:
        path = os.path.join(BUILD, "src", name)
        if cflags:
            check_hardening(name, path, cflags)
        else:
            skip(name + ": hardening", "configured with --disable-hardening")
        check_libraries(name, path, sanitizers)
    print("1..%d" % len(results))
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
