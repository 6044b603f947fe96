#!/usr/bin/python3
"""STLS and POP3S: what may be said when, hostile clients, versions and ciphers, certificates and their mistakes, names, tickets,
logins in clear, kills.  (All transcripts run over TLS too, see popscript.py; who holds what is in tests/system/check_tls.py.)
"""

import sys

sys.dont_write_bytecode = True

import os  # noqa: E402
import select  # noqa: E402
import shutil  # noqa: E402
import signal  # noqa: E402
import ssl  # noqa: E402
import struct  # noqa: E402
import socket  # noqa: E402
import subprocess  # noqa: E402
import time  # noqa: E402
import warnings  # noqa: E402

import postern_test as pt  # noqa: E402
import wire_peer  # noqa: E402
from postern_test import check, readable  # noqa: E402

warnings.simplefilter("ignore", DeprecationWarning)  # old versions of TLS are meant here

MESSAGES = [b"Subject: one\n\nfirst\n", b"Subject: two\n\n.second\n"]
BOX, STORED = pt.mbox_join(MESSAGES)
LARGE, LARGE_STORED = pt.mbox_join([b"Subject: large\n\n" + b".0123456789 and so on, for a whole line of text\n" * 200000])
SECRETS = 16 + 1 + 64 + 1  # octets of a ticket secret's file

# Looked up before root is given up.
with open(os.path.join(os.environ.get("top_builddir", "."), "config.h")) as config:
    SANDBOX = "#define SANDBOX 1" in config.read()


def new_run(folder, box=BOX, **settings):
    run = pt.Run(folder, {key.replace("_", "-"): value for key, value in settings.items()}, box=box)
    if "tls-certificate" in run.settings:
        # An installed postern may have left one where the setting's default is.
        run.write_settings({"tls-ticket-secret": run.folder + "/tickets/secret", **run.settings})
    os.utime(run.maildrop, (1795428000, 1795428000))  # a login waits for a file that is just being written
    return run


def tls_run(folder, box=BOX, **settings):
    run = new_run(folder, box, **settings)
    run.use_tls()
    return run


def check_logged(run, event, text):
    """Waits for it: the client may hear the end of a handshake before the log has its reason."""
    until = time.monotonic() + pt.PATIENCE
    while not any(text in line for line in run.log_of(event)):
        check(time.monotonic() < until, "no %s with %s in the log: %s" % (event, text, run.log_lines()))
        time.sleep(0.02)


def trusting(run):
    return pt.client_context(run.settings["tls-certificate"].split()[0])


def capabilities(c):
    return c.ask_multi(b"CAPA").split(b"\r\n")


def clear_octets(c, seconds=pt.PATIENCE):
    """Everything up to the server's end; c is in clear."""
    deadline = time.monotonic() + seconds
    while not c.eof:
        check(c.wait_input(deadline - time.monotonic()), "the server does not close")
    return c._take(len(c.pending))


def looks_like_tls(octets):
    """Records of TLS, as alerts are, or nothing; no POP3."""
    return octets == b"" or 0x15 <= octets[0] <= 0x17 and b"+OK" not in octets and b"-ERR" not in octets


# STLS


def offered(folder):
    run = tls_run(folder)
    with pt.Session(run, "TCP") as c:
        c.read_line()
        check(b"STLS" in capabilities(c), "STLS is not in CAPA")
        c.expect(b"STLS now", b"-ERR syntax error")
        c.expect(b"USER alice", b"+OK")
        c.expect(b"PASS secret", b"+OK")
        check(b"STLS" not in capabilities(c), "STLS is in CAPA after the login")
        c.expect(b"STLS", b"-ERR not in this state")
        c.quit()


def not_configured(folder):
    run = new_run(folder)
    with pt.Session(run, "TCP") as c:
        c.read_line()
        check(b"STLS" not in capabilities(c), "STLS is in CAPA, and nothing is configured")
        c.expect(b"STLS", b"-ERR TLS is not available")
        c.expect(b"USER alice", b"+OK")
        c.expect(b"PASS secret", b"+OK")
        c.quit()
    with pt.Session(run, "TCP", before=shell_tls()) as c:
        check(clear_octets(c) == b"\x15\x03\x01\0\2\2\x50", "no alert")
        c.end()
    check_logged(run, "tls-unavailable", 'error="no tls-certificate in postern.conf(5)"')
    check_logged(run, "session-end", "how=no-tls")


def shell_tls():
    """The same as the transport TLS, without its settings."""
    return ["sh", "-c", 'exec "$@" --tls', "sh"]


def once(folder, transport):
    run = tls_run(folder)
    with pt.Session(run, transport) as c:
        c.read_line()
        caps = capabilities(c)
        check(b"STLS" not in caps and b"USER" in caps, "CAPA: %s" % caps)
        c.expect(b"STLS", b"-ERR TLS is active")
        c.expect(b"USER alice", b"+OK")
        c.expect(b"PASS secret", b"+OK")
        c.expect(b"STLS", b"-ERR not in this state")
        c.quit()
    check_logged(run, "session-end", 'tls=TLSv1.3 cipher=TLS_AES_128_GCM_SHA256 resumed=no sni="localhost"')
    check("truncated" not in run.log_of("session-end")[0], "log: %s" % run.log_lines())


def others_under_way(folder):
    """Descriptors of other connections that postern-tls has not taken yet: Linux counts them by user."""
    run = tls_run(folder)
    with wire_peer.under_way(300), pt.Session(run, "TLS") as c:
        c.log_in()
        c.quit()


def user_forgotten(folder):
    run = tls_run(folder)
    with pt.Session(run, "TCP") as c:
        c.read_line()
        c.expect(b"USER alice", b"+OK")
        c.expect(b"STLS", b"+OK")
        c.handshake(trusting(run))
        c.expect(b"PASS secret", b"-ERR USER first")
        c.expect(b"USER alice", b"+OK")
        c.expect(b"PASS secret", b"+OK")
        c.quit()


def injected(folder, octets):
    """What comes in the same segment as STLS came from whoever sits in between (CVE-2021-38084)."""
    run = tls_run(folder)
    with pt.Session(run, "TCP") as c:
        c.read_line()
        c.send(b"STLS\r\n" + octets)
        check(c.read_line() == b"+OK begin TLS negotiation", "STLS is refused")
        check(not c.pending, "an answer in clear: " + readable(c.pending))
        c.handshake(trusting(run))
        c.expect(b"PASS secret", b"-ERR USER first")
        c.expect(b"CAPA", b"+OK")
        c.read_multi()
        c.quit()


def nothing_in_clear(folder, octets):
    """After STLS there is no way back."""
    run = tls_run(folder)
    with pt.Session(run, "TCP") as c:
        c.read_line()
        c.expect(b"STLS", b"+OK")
        c.send(octets)
        if octets == b"":
            c.finish_sending()
        got = clear_octets(c)
        check(looks_like_tls(got), "in clear: " + readable(got))
        c.end()
    check_logged(run, "tls", "handshake-failed")
    check_logged(run, "session-end", "how=closed")
    run.check_untouched()


def failed_then_another(folder):
    """A client that does not trust the certificate; the next one is served."""
    run = tls_run(folder)
    try:
        with pt.Session(run, "TLS", context=ssl.create_default_context()) as c:
            pass
        check(False, "a client without our certificate among its own has connected")
    except ssl.SSLCertVerificationError:
        pass
    pt.Connection.live = 0
    with pt.Session(run, "TLS") as c:
        c.log_in()
        c.quit()


# Port 995


def garbage(folder, octets, logged):
    run = tls_run(folder)
    with pt.Session(run, "TLS", handshake=False) as c:
        c.send(octets)
        if logged == "the client went away":
            c.finish_sending()
        got = clear_octets(c)
        check(looks_like_tls(got), "in clear: " + readable(got))
        c.end()
    check_logged(run, "tls", 'handshake-failed error="%s"' % logged)
    check_logged(run, "session-end", "how=closed")
    run.check_untouched()


def stall(folder, octets):
    """The login's time is the handshake's too."""
    run = tls_run(folder, login_timeout="1")
    with pt.Session(run, "TLS", handshake=False) as c:
        began = time.monotonic()
        c.send(octets)
        got = clear_octets(c)
        check(looks_like_tls(got), "in clear: " + readable(got))
        check(time.monotonic() - began > 0.9, "closed at once")
        c.end()
    check_logged(run, "session-end", "how=login-timeout")


def client_hello(run):
    """The beginning of a handshake."""
    to_server = ssl.MemoryBIO()
    tls = trusting(run).wrap_bio(ssl.MemoryBIO(), to_server, server_hostname="localhost")
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return to_server.read()


def half_handshakes(folder):
    """A client that goes away behind each part of its first message."""
    run = tls_run(folder)
    hello = client_hello(run)
    for cut in (1, 4, 5, 6, 50, len(hello) - 1, len(hello)):
        c = pt.Connection(run, "TLS", handshake=False)
        c.send(hello[:cut])
        c.end()
    check(len(run.log_of("session-end")) == 7, "log: %s" % run.log_lines())
    run.check_untouched()


def after_login(folder, what):
    """The connection is cut, or spoilt, after DELE: nothing is deleted."""
    run = tls_run(folder)
    with pt.Session(run, "TLS") as c:
        c.log_in()
        c.expect(b"DELE 1", b"+OK")
        what(c)
        c.hang_up()
        c.wait_all()
    run.check_untouched()
    check_logged(run, "session-end", "how=closed")
    return run


def cut_off(c):
    """As a firewall does it: an end without close_notify."""
    c.socket.shutdown(socket.SHUT_WR)
    c.tls = None
    check(looks_like_tls(clear_octets(c)), "in clear")


def quit_cut_off(c):
    """QUIT comes, and its line's end does not."""
    c.send(b"QUIT")
    cut_off(c)


def reset(c):
    c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    c.socket.close()


def quit_in_clear(c):
    """Somebody who cuts in can't speak for the client."""
    c._send_raw(b"QUIT\r\n")
    c.eof = False
    c.tls = None
    got = clear_octets(c)
    check(looks_like_tls(got), "in clear: " + readable(got))


def oversized_record(c):
    c._send_raw(b"\x17\x03\x03\xff\xff" + b"x" * 65535)
    c.tls = None
    clear_octets(c)


def altered_record(c):
    c.tls.write(b"QUIT\r\n")
    octets = bytearray(c.to_server.read())
    octets[-1] ^= 1
    c._send_raw(bytes(octets))
    c.tls = None
    clear_octets(c)


def truncated(folder):
    check_logged(after_login(folder, cut_off), "session-end", " resumed=no truncated=yes ")


def quit_counts(folder):
    """A QUIT that came through the tunnel counts, also when the client goes away without close_notify."""
    run = tls_run(folder)
    with pt.Session(run, "TLS") as c:
        c.log_in()
        c.send(b"DELE 1\r\nQUIT\r\n")
        c.socket.shutdown(socket.SHUT_WR)
        c.hang_up()
        c.wait_all()
    check(pt.read_file(run.maildrop) == b"".join(pt.mbox_split(BOX)[1:]), "the mbox is not as it should be left")


def abort_in_retr(folder):
    run = tls_run(folder, LARGE)
    with pt.Session(run, "TLS") as c:
        c.log_in()
        c.expect(b"DELE 1", b"+OK")
        c.expect(b"RSET", b"+OK")
        c.send(b"RETR 1\r\nDELE 1\r\nQUIT\r\n"[:8])
        check(c.wait_input(pt.PATIENCE), "no answer to RETR")
        reset(c)
        c.wait_all()
    check(pt.read_file(run.maildrop) == LARGE, "the mbox has changed")
    check_logged(run, "session-end", "how=closed")


def large(folder, transport):
    run = tls_run(folder, LARGE)
    with pt.Session(run, transport) as c:
        c.log_in()
        for _ in range(2):
            got = c.ask_multi(b"RETR 1")
            check(got == pt.stuffed(pt.wire_form(LARGE_STORED[0])), "RETR 1: another text, %d octets" % len(got))
        c.quit()


def many_commands(folder):
    """More input than any buffer holds, its answers unread until the end."""
    run = tls_run(folder)
    with pt.Session(run, "TLS") as c:
        c.log_in()
        c.send(b"RETR 2\r\n" * 50000 + b"QUIT\r\n")
        want = b"+OK message follows\r\n" + pt.stuffed(pt.wire_form(STORED[1])) + b".\r\n"
        deadline = time.monotonic() + pt.PATIENCE * 3
        while not c.eof:
            check(c.wait_input(deadline - time.monotonic()), "no end")
        check(not c.truncated, "no close_notify")
        check(bytes(c.pending) == want * 50000 + b"+OK POP3 server signing off\r\n", "%d octets" % len(c.pending))
        c.end()


def client_that_does_not_read(folder):
    run = tls_run(folder, LARGE, idle_timeout="1")
    with pt.Session(run, "TLS") as c:
        c.log_in()
        c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        c.send(b"RETR 1\r\n" * 20)
        deadline = time.monotonic() + pt.PATIENCE
        while not log_has(run, "session-end how=stalled") and session_lives(c):
            check(time.monotonic() < deadline, "the session goes on")
            time.sleep(0.05)
        reset(c)
        c.wait_all()
    check_logged(run, "session-end", "how=stalled")


def log_has(run, text):
    with open(run.log, "rb") as f:
        return text.encode() in f.read()


def members(c):
    """Process ids below the monitor, by name."""
    return {pt.process_status(pid).get("Name"): pid for pid in pt.descendants(c.process.pid)}


def session_lives(c):
    return "postern" in members(c)


def half_close(folder):
    """close_notify behind the last command: the answers still come."""
    run = tls_run(folder)
    with pt.Session(run, "TLS") as c:
        c.log_in()
        c.send(b"STAT\r\nDELE 1\r\nQUIT\r\n")
        c.finish_sending()
        check(c.read_line().startswith(b"+OK 2 "), "STAT")
        check(c.read_line() == b"+OK message deleted", "DELE")
        check(c.read_line() == b"+OK POP3 server signing off", "QUIT")
        check(c.read_line() is None, "more")
        c.end()


def renegotiation(folder):
    """What s_client asks for with a line of "R" is refused; without it the same words are served."""
    run = tls_run(folder)
    for lines, refused in ((["STAT"], False), (["R"], True)):
        out = s_client(run, lines, "-tls1_2", "-crlf")
        check((b"no renegotiation" in out) == refused and (b"-ERR not in this state" in out) != refused,
              "s_client says: " + readable(out[-1500:], 1500))


def s_client(run, lines, *words):
    """What openssl's client says of a session in which it types these lines."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = subprocess.Popen(["openssl", "s_client", "-connect", "127.0.0.1:%d" % listener.getsockname()[1], *words],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        theirs = listener.accept()[0]
    with open(run.log, "ab") as log:
        server = subprocess.Popen(run.command() + ["--tls"], stdin=theirs, stdout=theirs, stderr=log, env=run.environment(),
                                  cwd="/")
    theirs.close()
    out = read_until(client.stdout, b"+OK POP3 server ready")
    for line in lines:
        client.stdin.write(line.encode() + b"\n")
        client.stdin.flush()
        out += read_until(client.stdout, b"-ERR not in this state", b"no renegotiation", b"handshake failure")
    client.kill()
    client.communicate()
    server.wait(pt.PATIENCE)
    return out


def read_until(stream, *texts):
    """What a client says, until it has said one of these or nothing for a while."""
    out = b""
    while not any(text in out for text in texts) and select.select([stream], [], [], pt.PATIENCE)[0]:
        octets = os.read(stream.fileno(), 4096)
        if octets == b"":
            break
        out += octets
    return out


# What is spoken


def let_end(c):
    """A server whose handshake has failed: it ends by itself, and says why before; the client may have heard of it earlier."""
    c.hang_up()
    c.process.wait(pt.PATIENCE)
    pt.Connection.live -= 1


def handshake(run, context, name="localhost", session=None):
    """The TLS object after a whole session, or None when the handshake fails."""
    c = pt.Connection(run, "TLS", handshake=False)
    try:
        c.handshake(context, name, session)
    except (ssl.SSLError, pt.Failure):
        let_end(c)
        return None
    check(c.read_line() == pt.GREETING, "no greeting")
    c.quit()
    return c.tls


def old_client(run, version):
    context = trusting(run)
    context.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    return context


def versions(folder, setting, spoken):
    run = tls_run(folder, **({"tls_minimum_version": setting} if setting else {}))
    for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        tls = handshake(run, old_client(run, version))
        check((tls is not None) == (version.name in spoken), "%s: %s" % (version.name, tls and tls.version()))


# RFC 9325 and RFC 7905, in the order of preference, for a certificate with a key of this kind.
CIPHERS = ["ECDHE-%s-AES128-GCM-SHA256", "ECDHE-%s-AES256-GCM-SHA384", "ECDHE-%s-CHACHA20-POLY1305"]


def ciphers(folder, kind, name):
    """Offered everything that there is, less what was chosen before, until nothing is left to choose."""
    certificate, key = pt.make_pair(folder, "kind-" + name, kind=kind)
    run = new_run(folder, tls_certificate=certificate, tls_key=key)
    found, words = [], ["ALL", "COMPLEMENTOFALL", "@SECLEVEL=0"]
    while True:
        context = old_client(run, ssl.TLSVersion.TLSv1_2)
        try:
            context.set_ciphers(":".join(words))
        except ssl.SSLError:
            break
        tls = handshake(run, context)
        if tls is None:
            break
        found.append(tls.cipher()[0])
        words.insert(2, "!" + found[-1])
    check(found == [c % name for c in CIPHERS], "TLS 1.2 has: %s" % found)


def groups(folder):
    run = tls_run(folder)
    for group, good in (("X25519", True), ("P-256", True), ("P-384", True), ("P-521", False), ("X448", False),
                        ("ffdhe2048", False)):
        out = s_client(run, [], "-tls1_3", "-groups", group)
        check((pt.GREETING in out) == good, "%s: s_client says: %s" % (group, readable(out[-1500:], 1500)))


def protocols(folder):
    run = tls_run(folder)
    for offer, good in ((["pop3"], True), (["http/1.1", "pop3"], True), (["http/1.1"], False), (["h2", "imap"], False)):
        context = trusting(run)
        context.set_alpn_protocols(offer)
        tls = handshake(run, context)
        check((tls is not None) == good, "ALPN %s" % offer)
        check(tls is None or tls.selected_alpn_protocol() == "pop3", "ALPN %s" % offer)
    check_logged(run, "tls", "another protocol than pop3")


# Certificates


def names(folder):
    one, two, wild = (pt.make_pair(folder, "sni-" + n.strip("*."), [n]) for n in ("one.example", "two.example", "*.three.example"))
    run = new_run(folder, tls_certificate="%s %s %s" % (one[0], two[0], wild[0]), tls_key="%s %s %s" % (one[1], two[1], wild[1]))
    for name, pair in (("one.example", one), ("two.example", two), ("TWO.example", two), ("a.three.example", wild),
                       ("four.example", one), (None, one)):
        context = pt.client_context(pair[0])
        context.check_hostname = name not in (None, "four.example")
        check(handshake(run, context, name) is not None, "asked for %s: another certificate" % name)
    check_logged(run, "session-end", 'sni="two.example"')


def two_kinds(folder):
    """RSA and ECDSA for one name: the client's choice."""
    rsa = pt.make_pair(folder, "both-rsa", kind=("rsa:2048",))
    ec = pt.make_pair(folder, "both-ec")
    run = new_run(folder, tls_certificate="%s %s" % (rsa[0], ec[0]), tls_key="%s %s" % (rsa[1], ec[1]))
    for pair, kind in ((rsa, "RSA"), (ec, "ECDSA")):
        context = pt.client_context(pair[0])
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("ECDHE-%s-AES256-GCM-SHA384" % kind)
        check(handshake(run, context) is not None, "no certificate with " + kind)


def kinds_of_keys(folder):
    """What authorities issue, with keys in each form that openssl has ever written them in."""
    for name, kind, form in (("rsa3072", ("rsa:3072",), None), ("rsa-old", ("rsa:2048",), "rsa"),
                             ("pss", ("rsa-pss", "-pkeyopt", "rsa_keygen_bits:2048"), None),
                             ("p384", ("ec", "-pkeyopt", "ec_paramgen_curve:P-384", "-sha384"), None),
                             ("ec-old", ("ec", "-pkeyopt", "ec_paramgen_curve:P-256"), "ec"), ("ed25519", ("ed25519",), None)):
        certificate, key = pt.make_pair(folder, name, kind=kind)
        if form is not None:
            pt.openssl(form, "-in", key, "-out", key + ".old", *(["-traditional"] if form == "rsa" else []))
            check(b"BEGIN %s PRIVATE KEY" % form.upper().encode() in pt.read_file(key + ".old"), "openssl writes no such form")
            write(key, pt.read_file(key + ".old"))
        run = new_run(folder, tls_certificate=certificate, tls_key=key)
        check(handshake(run, pt.client_context(certificate)) is not None, "no handshake with " + name)
        check(not run.log_of("tls"), "log: %s" % run.log_lines())


def one_file(folder):
    """Certificate and key in one file."""
    certificate, key = pt.make_pair(folder, "one-file")
    with open(certificate, "ab") as f:
        f.write(pt.read_file(key))
    os.chmod(certificate, 0o600)
    run = new_run(folder, tls_certificate=certificate)
    check(handshake(run, pt.client_context(certificate)) is not None, "no handshake")


def chain(folder):
    """An intermediate certificate is sent along; the client knows only the root."""
    here = os.path.join(folder, "chain-")
    root, leaf = pt.make_pair(folder, "chain-root", ["root.example"]), (here + "leaf.crt", here + "leaf.key")
    pt.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", here + "middle.key", "-out",
               here + "middle.csr", "-subj", "/CN=middle")
    pt.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", leaf[1], "-out",
               here + "leaf.csr", "-subj", "/CN=localhost")
    for name, issuer, text in (("middle", "root", "basicConstraints=critical,CA:true\n"),
                               ("leaf", "middle", "subjectAltName=DNS:localhost\n")):
        with open(here + "ext", "w") as f:
            f.write(text)
        pt.openssl("x509", "-req", "-in", here + name + ".csr", "-CA", here + issuer + ".crt", "-CAkey", here + issuer + ".key",
                   "-CAcreateserial", "-days", "2", "-extfile", here + "ext", "-out", here + name + ".crt")
    with open(leaf[0], "ab") as f:
        f.write(pt.read_file(here + "middle.crt"))
    os.chmod(leaf[1], 0o600)
    run = new_run(folder, tls_certificate=leaf[0], tls_key=leaf[1])
    check(handshake(run, pt.client_context(root[0])) is not None, "the chain is not whole")


def renewed(folder):
    certificate, key = pt.make_pair(folder, "renewed")
    run = new_run(folder, tls_certificate=certificate, tls_key=key)
    with pt.Session(run, "TLS") as c:
        c.log_in()
        old = pt.client_context(certificate)
        pt.make_pair(folder, "renewed")
        c.expect(b"STAT", b"+OK")
        check(handshake_beside(run, old) is None, "the next connection has the old certificate")
        c.quit()
    check(handshake(run, pt.client_context(certificate)) is not None, "the next connection has not the new one")


def handshake_beside(run, context):
    """handshake() while another session is open: a failure must not end that one."""
    c = pt.Connection(run, "TLS", handshake=False)
    try:
        c.handshake(context)
    except ssl.SSLError:
        let_end(c)
        return None
    c.read_line()
    c.quit()
    return c.tls


def credentials(folder):
    """Names that are no paths are systemd's credentials."""
    place = os.path.join(folder, "credentials")
    os.makedirs(place, exist_ok=True)
    certificate, key = pt.make_pair(place, "pop")
    run = new_run(folder, tls_certificate="pop.crt", tls_key="pop.key")
    context = pt.client_context(certificate)
    with pt.Session(run, "TLS", more={"CREDENTIALS_DIRECTORY": place}, context=context) as c:
        c.log_in()
        c.quit()
    with pt.Session(run, "TCP") as c:
        c.read_line()
        check(b"STLS" not in capabilities(c), "STLS without credentials")
        c.quit()
    check_logged(run, "tls-unavailable", 'file="pop.crt" error="not an absolute path, and there are no credentials: ')


def spoil_missing(certificate, key):
    os.unlink(certificate)


def spoil_missing_key(certificate, key):
    os.unlink(key)


def spoil_unreadable(certificate, key):
    os.chmod(key, 0)


def write(path, octets):
    with open(path, "wb") as f:
        f.write(octets)


def spoil_empty(certificate, key):
    write(certificate, b"")


def spoil_garbage(certificate, key):
    write(certificate, b"-----BEGIN CERTIFICATE-----\nbm8gY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n")


def spoil_garbage_key(certificate, key):
    write(key, bytes(range(256)) * 20)


def spoil_long(certificate, key):
    write(certificate, pt.read_file(certificate) + b"\n" * 70000)


def spoil_other_key(certificate, key):
    other = certificate + ".other"
    pt.openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", other)
    shutil.copy(other, key)


def spoil_encrypted(certificate, key):
    pt.openssl("pkey", "-in", key, "-aes128", "-passout", "pass:secret", "-out", key + ".new")
    write(key, pt.read_file(key + ".new"))


def spoil_rights(certificate, key):
    os.chmod(key, 0o644)


def spoil_folder(certificate, key):
    os.unlink(certificate)
    os.mkdir(certificate)


def again(certificate, key, days):
    pt.openssl("req", "-new", "-key", key, "-subj", "/CN=localhost", "-out", certificate + ".csr")
    pt.openssl("x509", "-req", "-in", certificate + ".csr", "-key", key, "-days", str(days), "-out", certificate)


def spoil_expired(certificate, key):
    again(certificate, key, -1)


def spoil_weak(certificate, key):
    pt.openssl("req", "-x509", "-newkey", "rsa:1024", "-nodes", "-keyout", key, "-out", certificate, "-days", "2", "-subj",
               "/CN=localhost")
    os.chmod(key, 0o600)


# (what, how it is made, which file is named, the event, what is said of it)
MISTAKES = (
    ("no certificate", spoil_missing, "crt", "tls-unavailable", "No such file or directory"),
    ("no key", spoil_missing_key, "key", "tls-unavailable", "No such file or directory"),
    ("a key that cannot be read", spoil_unreadable, "key", "tls-unavailable", "Permission denied"),
    ("an empty file", spoil_empty, "crt", "tls", "empty"),
    ("a broken certificate", spoil_garbage, "crt", "tls", "no certificate in it, or a broken one: PEM is what is wanted"),
    ("a key that is none", spoil_garbage_key, "key", "tls", "no key in it, or a broken one: PEM is what is wanted"),
    ("a file that is too long", spoil_long, "crt", "tls", "too long"),
    ("the key of another", spoil_other_key, "key", "tls",
     "the key does not belong to the certificate: tls-certificate and tls-key need the same order"),
    ("an encrypted key", spoil_encrypted, "key", "tls",
     "the key is encrypted: openssl pkey -in FILE writes it without the pass phrase"),
    ("a key that everybody can read", spoil_rights, "key", "tls",
     "the key can be read or written by everybody: chmod o= the file"),
    ("a folder", spoil_folder, "crt", "tls", "not a regular file"),
    ("an expired certificate", spoil_expired, "crt", "tls", "the certificate has expired: renew it"),
    ("a weak key", spoil_weak, "crt", "tls", "too weak: RSA keys need 2048 bits, elliptic curves 224, signatures SHA-256"),
)


def refuses(run, offered_in_capa):
    """In clear everything but STLS goes on; port 995 says in its own language that it can't."""
    with pt.Session(run, "TCP") as c:
        c.read_line()
        check((b"STLS" in capabilities(c)) == offered_in_capa, "CAPA before STLS")
        c.expect(b"STLS", b"-ERR TLS is not available")
        check(b"STLS" not in capabilities(c), "CAPA after STLS")
        c.expect(b"USER alice", b"+OK")
        c.expect(b"PASS secret", b"+OK")
        c.quit()
    with pt.Session(run, "TLS", handshake=False) as c:
        c.send(b"\x16\x03\x01")
        got = clear_octets(c)
        check(got == b"\x15\x03\x01\0\2\2\x50", "on port 995: " + readable(got))
        c.end()
    check_logged(run, "session-end", "how=no-tls")


def mistake(folder, spoil, file, event, error):
    place = os.path.join(folder, spoil.__name__)
    os.mkdir(place)
    certificate, key = pt.make_pair(place, "mistake")
    run = new_run(folder, tls_certificate=certificate, tls_key=key)
    spoil(certificate, key)
    refuses(run, event == "tls")
    check_logged(run, event, 'file="%s" error="%s"' % (certificate if file == "crt" else key, error))


def list_mistake(folder, certificates, keys, error):
    good = pt.make_pair(folder, "list")
    run = new_run(folder, tls_certificate=certificates % good[0], tls_key=keys % good[1])
    with pt.Session(run, "TLS", context=pt.client_context(good[0])) as c:
        c.log_in()
        c.quit()
    check_logged(run, "tls-unavailable", error)


# Tickets


def tickets_run(folder, secret=None):
    run = tls_run(folder)
    os.mkdir(run.folder + "/tickets")
    if secret is not None:
        write(secret_file(run), secret)
        os.chmod(secret_file(run), 0o600)
    return run


def secret_file(run):
    return run.folder + "/tickets/secret"


def context_of(run, version):
    context = trusting(run)
    context.maximum_version = version
    return context


def resumes(folder, version):
    run = tickets_run(folder)
    context = context_of(run, version)
    first = handshake(run, context)
    check(not first.session_reused, "the first handshake is no full one")
    second = handshake(run, context, session=first.session)
    check(second.session_reused, "not resumed")
    check((second.session.id != first.session.id) == (version == ssl.TLSVersion.TLSv1_3), "a new ticket, or none, with the old one")
    third = handshake(run, context, session=second.session)
    check(third.session_reused, "not resumed with the ticket of a resumed one")
    check([" resumed=%s " % word in line for word, line in zip(("no", "yes", "yes"), run.log_of("session-end"))] == [True] * 3,
          "log: %s" % run.log_lines())
    return run, context, first.session


def other_front_end(folder, version):
    """A machine with a copy of the secret takes the ticket; one with a secret of its own does not."""
    run, context, session = resumes(folder, version)
    copy = tickets_run(folder, pt.read_file(secret_file(run)))
    check(handshake(copy, context, session=session).session_reused, "not resumed by the machine with the copy")
    stranger = tickets_run(folder)
    check(not handshake(stranger, context, session=session).session_reused, "resumed by a stranger")


def without_folder(folder):
    run = tls_run(folder)
    context = trusting(run)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    tls = handshake(run, context)
    check(not tls.session.has_ticket, "a ticket without a secret")
    check(not run.log_of("tls"), "log: %s" % run.log_lines())


def hour_now():
    return int(time.time()) // 3600


def secret_text(hour, octet):
    return b"%016x %s\n" % (hour, b"%02x" % octet * 32)


def brought_up_to_date(folder):
    """An old secret goes on to the present, and cannot be had from the file any more."""
    old = secret_text(hour_now() - 30, 7)
    run = tickets_run(folder, old)
    check(handshake(run, trusting(run)) is not None, "no handshake")
    new = pt.read_file(secret_file(run))
    check(len(new) == SECRETS and abs(int(new[:16], 16) + 1 - hour_now()) <= 1 and new[16:] != old[16:],
          "the file holds " + readable(new))
    # Another machine, which had the file at another time, has come to the same.
    between = tickets_run(folder, old)
    handshake(between, trusting(between))
    check(pt.read_file(secret_file(between)) == new or hour_now() + 1 != int(new[:16], 16) + 2, "another chain")
    check(os.listdir(run.folder + "/tickets") == ["secret"], "left: %s" % os.listdir(run.folder + "/tickets"))


def bad_secret(folder, text, mode, error, replaced):
    run = tickets_run(folder, text)
    os.chmod(secret_file(run), mode)
    context = context_of(run, ssl.TLSVersion.TLSv1_2)
    tls = handshake(run, context)
    check(tls is not None and tls.session.has_ticket == replaced, "ticket: %s" % (tls and tls.session.has_ticket))
    check_logged(run, "tls", 'tickets file="%s" error="%s' % (secret_file(run), error))
    check((pt.read_file(secret_file(run)) != text) == replaced, "the file was%s replaced" % (" not" if replaced else ""))


# Logins in clear


def login_in_clear(folder, setting, address, configured, good):
    run = (tls_run if configured else new_run)(folder, cleartext_login=setting)
    with pt.Session(run, "pipes", more={"REMOTE_ADDR": address}) as c:
        c.read_line()
        caps = capabilities(c)
        check((b"USER" in caps) == (b"SASL PLAIN" in caps) == good, "CAPA: %s" % caps)
        check((b"STLS" in caps) == configured, "CAPA: %s" % caps)
        for line in (b"USER alice", b"AUTH", b"AUTH PLAIN AGFsaWNlAHdyb25n"):
            got = c.ask(line)
            check((got == b"-ERR no login on a connection that is not encrypted") != good, "%s: %s" % (readable(line), got))
            if line == b"AUTH" and good:
                c.read_multi()
        if configured:
            c.expect(b"STLS", b"+OK")
            c.handshake(trusting(run))
            check(b"USER" in capabilities(c), "CAPA after STLS has no USER")
        if configured or good:
            c.expect(b"USER alice", b"+OK")
            c.expect(b"PASS secret", b"+OK")
        c.expect(b"QUIT", b"+OK")
        c.end()


# Processes


def killed(folder, which, number, how):
    run = tls_run(folder)
    with pt.Session(run, "TLS") as c:
        c.log_in()
        c.expect(b"DELE 1", b"+OK")
        there = members(c)
        check(set(there) == {"postern", "postern-tls", "postern-helper"}, "processes: %s" % there)
        os.kill({"monitor": c.process.pid, **there}[which], number)
        while not c.eof:
            check(c.wait_input(pt.PATIENCE), "the connection stays open")
        c.hang_up()
        c.wait_all()
    run.check_untouched()
    if how is not None:
        check_logged(run, "session-end", "how=" + how)
    if which == "postern-tls":
        check_logged(run, "tls-failed", "killed by signal %d" % number)


def terminated_survives(folder):
    """systemd tells all processes of a session to end; postern-tls waits for the session."""
    run = tls_run(folder)
    with pt.Session(run, "TLS") as c:
        c.log_in()
        os.kill(members(c)["postern-tls"], signal.SIGTERM)
        c.expect(b"STAT", b"+OK 2 ")
        c.quit()


def confined(folder):
    run = tls_run(folder)
    with pt.Session(run, "TLS") as c:
        c.log_in()
        for name in ("postern", "postern-tls"):
            status = pt.process_status(members(c)[name])
            check((status["NoNewPrivs"], status["Seccomp"]) == ("1", "2"), "%s: %s" % (name, status))
        c.quit()


def not_started(folder):
    """A connection in clear has no process for TLS."""
    run = tls_run(folder)
    with pt.Session(run, "TCP") as c:
        c.log_in()
        check("postern-tls" not in members(c), "processes: %s" % members(c))
        c.quit()


def missing_program(folder):
    run = tls_run(folder)
    run.tls = folder + "/not-there"
    refuses(run, True)
    check_logged(run, "tls-failed", 'path="%s" error="exec" reason="No such file or directory"' % run.tls)


def without_tls(folder, tap):
    """The other build: a setting that it can't keep is refused."""
    def refused(folder):
        run = new_run(folder, tls_certificate="/some/file")
        with pt.Session(run, "TCP") as c:
            c.read_line()
            c.expect(b"STLS", b"-ERR TLS is not available")
            c.expect(b"USER alice", b"+OK")
            c.expect(b"PASS secret", b"-ERR [SYS/PERM]")
            c.end()
        check_logged(run, "configuration", 'key="tls-certificate" error="this program was built without TLS"')
    tap.run("tls-certificate is refused in a build without TLS", refused, folder)
    tap.run("STLS is refused in a build without TLS", not_configured, folder)


def commands(folder, tap):
    tap.run("STLS is offered before the login", offered, folder)
    tap.run("without a certificate STLS is neither offered nor taken, and --tls says so", not_configured, folder)
    for transport in pt.TLS_TRANSPORTS:
        tap.run("STLS is neither offered nor taken over " + transport, once, folder, transport)
    tap.run("descriptors of other connections under way", others_under_way, folder)
    tap.run("a USER before STLS is forgotten", user_forgotten, folder)
    tap.run("what comes together with STLS is thrown away", injected, folder, b"USER alice\r\n")
    tap.run("so is half a line, and much of it", injected, folder, b"x" * 2000 + b"\r\nUSER alice\r\nCAP")
    for what, octets in (("commands in clear", b"CAPA\r\nUSER alice\r\nPASS secret\r\nQUIT\r\n"), ("garbage", bytes(range(256)) * 9),
                         ("an end", b"")):
        tap.run("STLS, then %s: nothing goes on in clear" % what, nothing_in_clear, folder, octets)
    tap.run("a handshake that the client breaks off leaves nothing", failed_then_another, folder)


def hostile(folder, tap):
    tap.run("POP3 in clear on port 995", garbage, folder, b"USER alice\r\n", "not TLS")
    tap.run("HTTP on port 995", garbage, folder, b"GET / HTTP/1.1\r\n\r\n", "HTTP, not TLS")
    tap.run("an end at once on port 995", garbage, folder, b"", "the client went away")
    tap.run("silence on port 995", stall, folder, b"")
    tap.run("half a record on port 995", stall, folder, b"\x16\x03\x01\x02\x00\x01")
    tap.run("half handshakes", half_handshakes, folder)
    tap.run("cut off after DELE", truncated, folder)
    for what in (quit_cut_off, reset, quit_in_clear, oversized_record, altered_record):
        tap.run("%s after DELE: nothing is deleted" % what.__name__.replace("_", " "), after_login, folder, what)
    tap.run("QUIT, then an end without close_notify", quit_counts, folder)
    tap.run("gone in the middle of RETR", abort_in_retr, folder)
    tap.run("a client that does not read", client_that_does_not_read, folder)
    tap.run("renegotiation is refused", renegotiation, folder)


def speech(folder, tap):
    tap.run("TLS 1.2 and 1.3", versions, folder, None, ("TLSv1_2", "TLSv1_3"))
    tap.run("TLS 1.3 alone", versions, folder, "1.3", ("TLSv1_3",))
    tap.run("ciphers of TLS 1.2 with ECDSA", ciphers, folder, ("ec", "-pkeyopt", "ec_paramgen_curve:P-256"), "ECDSA")
    tap.run("ciphers of TLS 1.2 with RSA", ciphers, folder, ("rsa:2048",), "RSA")
    tap.run("groups", groups, folder)
    tap.run("protocols (ALPN)", protocols, folder)
    for transport in pt.TLS_TRANSPORTS:
        tap.run("a large message over " + transport, large, folder, transport)
    tap.run("fifty thousand commands at once", many_commands, folder)
    tap.run("close_notify behind the last command", half_close, folder)


def certificates(folder, tap):
    tap.run("a certificate for each name", names, folder)
    tap.run("certificates with both kinds of key", two_kinds, folder)
    tap.run("kinds of keys", kinds_of_keys, folder)
    tap.run("certificate and key in one file", one_file, folder)
    tap.run("a chain with an intermediate certificate", chain, folder)
    tap.run("a renewed certificate", renewed, folder)
    tap.run("credentials of systemd", credentials, folder)
    for what, spoil, file, event, error in MISTAKES:
        tap.run(what, mistake, folder, spoil, file, event, error)
    tap.run("one pair of two is bad: the other serves", list_mistake, folder, "/nowhere/x.crt %s", "/nowhere/x.key %s",
            'file="/nowhere/x.crt" error="No such file or directory"')
    tap.run("fewer keys than certificates", list_mistake, folder, "%s /nowhere/x.crt", "%s",
            'file="/nowhere/x.crt" error="tls-key names fewer files than tls-certificate"')


def tickets(folder, tap):
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        tap.run("resumption across processes and machines, " + version.name, other_front_end, folder, version)
    tap.run("no folder for the secret: no tickets", without_folder, folder)
    tap.run("an old secret is brought up to date", brought_up_to_date, folder)
    for what, text, mode, error, replaced in (
            ("readable by others", secret_text(hour_now() - 1, 1), 0o644, "others can read it", False),
            ("too short", b"x\n", 0o600, "not what it should be", False),
            ("garbage", b"x" * SECRETS, 0o600, "not what it should be", False),
            ("from next week", secret_text(hour_now() + 168, 1), 0o600, "from another time", True),
            ("from 1970", secret_text(1, 1), 0o600, "from another time", True)):
        tap.run("a secret that is " + what, bad_secret, folder, text, mode, error, replaced)


def main(folder, tap):
    missing = pt.tls_missing(folder)
    if missing == "built without TLS":
        without_tls(folder, tap)
        return
    if missing or pt.WRAPPER:
        tap.skip("TLS", missing or "under a wrapper, only transcripts and what they need")
        return
    for part in (commands, hostile, speech, certificates, tickets):
        part(folder, tap)
    for setting, address, configured, good in (
            ("auto", "192.0.2.1", True, False), ("auto", "127.0.0.1", True, True), ("auto", "::1", True, True),
            ("auto", "2001:db8::1", True, False), ("auto", "192.0.2.1", False, True), ("always", "192.0.2.1", True, True),
            ("never", "127.0.0.1", True, False), ("never", "192.0.2.1", False, False)):
        tap.run("cleartext-login = %s, from %s, %s certificate: %s" % (setting, address, "a" if configured else "no",
                                                                       "yes" if good else "no"),
                login_in_clear, folder, setting, address, configured, good)
    for which, number, how in (("postern-tls", signal.SIGKILL, "closed"), ("postern", signal.SIGKILL, "killed"),
                               ("monitor", signal.SIGTERM, "terminated")):
        tap.run("%s gets %s after DELE" % (which, number.name), killed, folder, which, number, how)
    tap.run("postern-tls gets SIGTERM", terminated_survives, folder)
    if SANDBOX:
        tap.run("session and postern-tls are confined", confined, folder)
    else:
        tap.skip("session and postern-tls are confined", "built with --disable-sandbox")
    tap.run("a connection in clear does not start postern-tls", not_started, folder)
    tap.run("postern-tls is not there", missing_program, folder)


if __name__ == "__main__":
    pt.in_place(main)
