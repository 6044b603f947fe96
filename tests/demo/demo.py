#!/usr/bin/env python3
"""make demo and make demo-server: postern at work on the sample mail of tests/data, without root.

Everything lives in a temporary folder: a users file with fresh hashes, a mailbox, a Maildir, the settings, the state.
The session program is started for each connection by systemd-socket-activate (or, where that is missing, by the few
lines of inetd at the end of this file).  Started by root, it copies all it needs and goes on as user 65534 (nobody),
since postern's personal mode is for ordinary users.

	demo.py --programs FOLDER [--serve] [--port N]

FOLDER holds postern and postern-helper.  Exit status 0: every answer was the expected one, and every message that
came back was the stored one, octet by octet.
"""

import argparse
import ctypes
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time

NOBODY = 65534
DATA = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'data')
PASSWORDS = {'alice': 'looking glass', 'bob': 'builder'}
SECONDS = 20	# longer than any answer takes
SHOWN = 88	# columns of a line in the dialogue


class Surprise(Exception):
    """Something that came out otherwise than it must."""


def say(text=''):
    print(text, flush=True)


def step(title, what=''):
    say()
    say('=== ' + title)
    if what:
        say()
        say(textwrap.fill(what, 79))
    say()


# The folder with two users' mail.


def crypt_hash(password):
    """crypt(3), SHA-512.  Python's own module for it ended with version 3.13."""
    for name in ('libcrypt.so.1', 'libcrypt.so.2', None):
        try:
            crypt = ctypes.CDLL(name).crypt
        except (OSError, AttributeError):
            continue
        crypt.restype = ctypes.c_char_p
        made = crypt(password.encode(), b'$6$' + secrets.token_hex(8).encode())
        if made is not None and made.startswith(b'$6$'):
            return made.decode()
    raise Surprise('no crypt(3) with SHA-512 on this machine')


def write(path, text):
    with open(path, 'w', encoding='utf-8') as f:
        f.write(text)
    os.chmod(path, 0o600)


def copy_mail(folder):
    """Modes are not copied: a source tree may be read-only."""
    os.mkdir(f'{folder}/mail')
    shutil.copyfile(f'{DATA}/alice.mbox', f'{folder}/mail/alice')
    for sub in ('tmp', 'new', 'cur'):
        os.makedirs(f'{folder}/bob/Maildir/{sub}')
        if sub == 'tmp':
            continue	# nothing is ever delivered here, and git keeps no empty folders
        for name in os.listdir(f'{DATA}/bob/{sub}'):
            shutil.copyfile(f'{DATA}/bob/{sub}/{name}', f'{folder}/bob/Maildir/{sub}/{name}')


def furnish(folder):
    copy_mail(folder)
    os.mkdir(f'{folder}/state', 0o700)
    locations = {'alice': f'mbox:{folder}/mail/alice', 'bob': f'maildir:{folder}/bob/Maildir'}
    write(f'{folder}/users', ''.join(
        f'{name}:{crypt_hash(password)}::::{folder}/{name}::userdb_mail={locations[name]}\n'
        for name, password in PASSWORDS.items()))
    write(f'{folder}/postern.conf',
          'authentication = users\n'
          f'users-file = {folder}/users\n'
          f'state-directory = {folder}/state\n'
          'failure-delay = 1\n')


def show_file(folder, name, cut=None):
    say(f'$D/{name}:')
    with open(f'{folder}/{name}', encoding='utf-8') as f:
        for line in f:
            line = line.rstrip('\n').replace(folder, '$D')
            say('    ' + (re.sub(*cut, line) if cut else line))


# What the mail must look like when it comes out.


def with_crlf(stored):
    """As RETR sends it, less byte-stuffing: CRLF where LF alone was, and at the end."""
    text = re.sub(rb'(?<!\r)\n', b'\r\n', stored)
    return text if text == b'' or text.endswith(b'\n') else text + b'\r\n'


def split_mbox(raw):
    """The messages of an mbox, each as (its From_ line, its text); the empty line behind belongs to neither."""
    starts = [m.start() for m in re.finditer(rb'(?:\A|(?<=\n\n))From \S+ \w{3} \w{3} [ \d]\d [\d:]{8} \d{4}\n', raw)]
    blocks = [raw[a:b] for a, b in zip(starts, starts[1:] + [len(raw)])]
    return [(block[:block.index(b'\n') + 1], block[block.index(b'\n') + 1:-1]) for block in blocks]


def read_bytes(path):
    with open(path, 'rb') as f:
        return f.read()


def maildir_messages(path):
    """Ordered as postern numbers them: by the time at the start of the name, then by name."""
    names = [f'{path}/{sub}/{name}' for sub in ('new', 'cur') for name in os.listdir(f'{path}/{sub}')]
    names.sort(key=lambda n: (int(os.path.basename(n).split('.')[0]), os.path.basename(n)))
    return [read_bytes(n) for n in names]


# The dialogue.


def readable(octets):
    """A line for the eyes: UTF-8 as it is, other 8-bit octets and controls as \\x..."""
    text = octets.rstrip(b'\r\n').decode('utf-8', 'backslashreplace')
    text = ''.join(c if c.isprintable() or c == '\t' else f'\\x{ord(c):02x}' for c in text)
    encoding = sys.stdout.encoding or 'ascii'
    return text.encode(encoding, 'backslashreplace').decode(encoding)


def cut_line(octets):
    text = readable(octets)
    return text if len(text) <= SHOWN else f'{text[:SHOWN - 20]} [{len(text) - SHOWN + 20} more]'


class Dialogue:
    """A POP3 session that is printed as it goes."""

    def __init__(self, port):
        self.socket = socket.create_connection(('127.0.0.1', port), timeout=SECONDS)
        self.stream = self.socket.makefile('rb')
        say(f'(connected to 127.0.0.1 port {port})')
        self.status('+OK')

    def line(self):
        line = self.stream.readline()
        if not line.endswith(b'\r\n'):
            raise Surprise(f'the server ended the connection: {line!r}')
        return line

    def status(self, expected):
        line = self.line()
        say('S: ' + cut_line(line))
        if not line.startswith(expected.encode()):
            raise Surprise(f'{expected} was expected')
        return line.decode('ascii').rstrip()

    def ask(self, command, expected='+OK'):
        say('C: ' + command)
        self.socket.sendall(command.encode() + b'\r\n')
        return self.status(expected)

    def text(self, command, shown=1000):
        """A command with a multi-line answer: its lines, byte-stuffing undone, as one text."""
        self.ask(command)
        lines = []
        while (line := self.line()) != b'.\r\n':
            if len(lines) < shown:
                say('S: ' + cut_line(line))
            lines.append(line[1:] if line.startswith(b'.') else line)
        if len(lines) > shown:
            say(f'S: [{len(lines) - shown} more lines]')
        say('S: .')
        return b''.join(lines)

    def quit(self):
        self.ask('QUIT')
        if self.stream.read() != b'':
            raise Surprise('the server went on after QUIT')
        say('(the server closed the connection)')
        self.socket.close()


def expect(what, got, wanted):
    if got != wanted:
        raise Surprise(f'{what}: got {got!r}, expected {wanted!r}')


def log_in(dialogue, name):
    dialogue.ask(f'USER {name}')
    dialogue.ask(f'PASS {PASSWORDS[name]}')


def check_sizes(dialogue, messages):
    """STAT, LIST and the messages themselves have to agree."""
    octets = [len(with_crlf(m)) for m in messages]
    expect('STAT', dialogue.ask('STAT'), f'+OK {len(octets)} {sum(octets)}')
    expect('LIST', dialogue.text('LIST'), b''.join(b'%d %d\r\n' % (n, o) for n, o in enumerate(octets, 1)))


def show_mbox(port, folder):
    path = f'{folder}/mail/alice'
    before = read_bytes(path)
    messages = split_mbox(before)
    d = Dialogue(port)
    d.text('CAPA')
    d.ask('USER alice')
    d.ask('PASS guessed', '-ERR [AUTH]')
    log_in(d, 'alice')
    check_sizes(d, [text for _, text in messages])
    ids = d.text('UIDL').split()[1::2]
    expect('different unique-ids', len(set(ids)), len(messages))
    expect('RETR 1', d.text('RETR 1'), with_crlf(messages[0][1]))
    d.text('TOP 2 0')
    expect('RETR 5', d.text('RETR 5'), with_crlf(messages[4][1]))
    expect('LAST', d.ask('LAST'), '+OK 5')
    d.ask('DELE 6')
    d.ask('DELE 3')
    d.ask('RETR 3', '-ERR')
    d.ask('RSET')
    d.ask('DELE 3')
    d.quit()

    kept = messages[:2] + messages[3:]
    expect('the mailbox afterwards', read_bytes(path), b''.join(f + t + b'\n' for f, t in kept))
    say()
    say(f'$D/mail/alice: {len(before)} bytes before, {os.path.getsize(path)} now;')
    say('message 3 is gone, the other five are the same byte by byte.')


def show_maildir(port, folder):
    path = f'{folder}/bob/Maildir'
    messages = maildir_messages(path)
    d = Dialogue(port)
    log_in(d, 'bob')
    check_sizes(d, messages)
    d.text('UIDL')
    expect('RETR 3', d.text('RETR 3'), with_crlf(messages[2]))
    expect('RETR 4', d.text('RETR 4'), with_crlf(messages[3]))
    d.ask('DELE 1')
    d.quit()

    expect('the Maildir afterwards', maildir_messages(path), messages[1:])
    expect('files in new', os.listdir(f'{path}/new'), [])
    say()
    say('$D/bob/Maildir now holds')
    for sub in ('new', 'cur'):
        for name in sorted(os.listdir(f'{path}/{sub}')):
            say(f'    {sub}/{name}')
    say('Message 1 is removed; 3 and 4, which were read, moved from new to cur with the flag S (seen).')


def show_pipe(server):
    script = 'USER bob\r\nPASS builder\r\nSTAT\r\nNOOP\r\nQUIT\r\n'
    say(f'$ printf {script!r} | postern')
    done = subprocess.run([server.program], input=script.encode(), stdout=subprocess.PIPE, stderr=server.log,
                          env=server.environment, timeout=SECONDS, check=False)
    for line in done.stdout.splitlines():
        say('S: ' + cut_line(line))
    answers = done.stdout.split(b'\r\n')
    expect('answers', [a[:3] for a in answers], [b'+OK'] * 6 + [b''])
    expect('exit status', done.returncode, 0)


def show_curl(port, folder):
    """Returns how many sessions that took."""
    if shutil.which('curl') is None:
        say('curl is missing here (Debian package: curl), so this step is left out.')
        return 0
    texts = {'alice': [t for _, t in split_mbox(read_bytes(f'{folder}/mail/alice'))],
             'bob': maildir_messages(f'{folder}/bob/Maildir')}
    for name, messages in texts.items():
        say(f'$ curl -u "{name}:{PASSWORDS[name]}" pop3://127.0.0.1:{port}/')
        for line in run_curl(port, name, '').splitlines():
            say('  ' + readable(line))
        for n, message in enumerate(messages, 1):
            got = run_curl(port, name, n)
            expect(f"{name}'s message {n}", got, with_crlf(message))
            say(f'$ curl ... pop3://127.0.0.1:{port}/{n}     {len(got)} octets, all as stored')
    return sum(1 + len(messages) for messages in texts.values())


def run_curl(port, name, number):
    done = subprocess.run(['curl', '-q', '--silent', '--show-error', '--noproxy', '*', '--max-time', str(SECONDS),
                           '-u', f'{name}:{PASSWORDS[name]}', f'pop3://127.0.0.1:{port}/{number}'],
                          stdout=subprocess.PIPE, check=False)
    if done.returncode != 0:
        raise Surprise(f'curl ended with status {done.returncode}')
    return done.stdout


# The server.


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


class Server:
    """Listens on 127.0.0.1 and starts postern for each connection."""

    def __init__(self, programs, folder, port):
        self.program = f'{programs}/postern'
        self.folder = folder
        self.port = port
        self.log = open(f'{folder}/log', 'ab')
        self.settings = {'POSTERN_CONF': f'{folder}/postern.conf', 'POSTERN_HELPER': f'{programs}/postern-helper'}
        self.environment = {'PATH': os.environ.get('PATH', '/usr/bin:/bin'), **self.settings}
        self.process = None
        self.own = None
        if shutil.which('systemd-socket-activate') is not None:
            self.activate()
        else:
            say('systemd-socket-activate is missing here; this script listens itself, as inetd would.')
            self.own = Inetd(self)

    def activate(self):
        command = ['systemd-socket-activate', '--accept', '--inetd', '-l', f'127.0.0.1:{self.port}',
                   *[f'--setenv={name}={value}' for name, value in self.settings.items()], self.program]
        say('$ ' + ' \\\n      '.join([' '.join(command[:5]), *command[5:]]).replace(self.folder, '$D'))
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=self.log)
        self.wait_until_listening()

    def wait_until_listening(self):
        # A connection as a test would start a session.
        wanted = f'0100007F:{self.port:04X} 00000000:0000 0A' if sys.byteorder == 'little' else \
                 f'7F000001:{self.port:04X} 00000000:0000 0A'
        for _ in range(SECONDS * 50):
            if self.process.poll() is not None:
                break
            with open('/proc/net/tcp', encoding='ascii') as f:
                if wanted in f.read():
                    return
            time.sleep(0.02)
        raise Surprise(f'systemd-socket-activate does not listen on port {self.port}')

    def stop(self):
        if self.own is not None:
            self.own.stop()
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
        self.log.close()


class Inetd:
    """The part of inetd that is needed here: accept, start the program on the connection, forget it."""

    def __init__(self, server):
        self.server = server
        self.listener = socket.create_server(('127.0.0.1', server.port))
        self.children = []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return	# closed: the demonstration is over
            with connection:
                self.children.append(subprocess.Popen([self.server.program], stdin=connection, stdout=connection,
                                                      stderr=self.server.log, env=self.server.environment))
            self.children = [c for c in self.children if c.poll() is None]

    def stop(self):
        self.listener.close()
        for child in self.children:
            child.terminate()
            child.wait()


# The two demonstrations.


def show_settings(folder):
    step('The set-up',
         'Two users, alice with an mbox and bob with a Maildir, in a temporary folder $D; settings, and the users '
         'file with their passwords hashed.  The last line starts the server: for each connection one postern, which '
         'starts postern-helper when somebody logs in.')
    say(f'D={folder}')
    show_file(folder, 'postern.conf')
    show_file(folder, 'users', (r'(\$6\$....)[^:]*', r'\1...'))
    say()


def log_lines(folder, sessions):
    """postern's own lines; systemd-socket-activate has its say there too.  The last ones may come after the client's end."""
    for _ in range(SECONDS * 20):
        lines = [line for line in read_bytes(f'{folder}/log').splitlines() if line.startswith(b'postern[')]
        if sum(b': session-end ' in line for line in lines) >= sessions:
            return lines
        time.sleep(0.05)
    raise Surprise(f'fewer than {sessions} lines "session-end" in the log')


def show_log(folder, sessions):
    lines = log_lines(folder, sessions)
    for line in lines[:5]:
        say(readable(line))
    say(f'[{len(lines) - 5} more lines, of {sessions} sessions in all]')
    for text in (b'login-failed reason=password user="alice" rip=127.0.0.1', b'login user="bob" rip=127.0.0.1 method=users',
                 b'how=quit user="alice" rip=127.0.0.1 retrieved=2 ', b' deleted=1 left=5 ', b' deleted=1 left=3 '):
        expect(f'log line with {text.decode()}', any(text in line for line in lines), True)


def demonstrate(programs, folder, port):
    show_settings(folder)
    server = Server(programs, folder, port)
    try:
        step("alice's mbox, over a socket",
             'C: is sent by the client, S: by postern.  A wrong password, then the right one; the lists; message 1, with '
             'dots at the start of lines; the header of message 2; message 5, with a line of 3306 characters; two '
             'deletions that RSET takes back, and one that QUIT carries out.')
        show_mbox(port, folder)
        step("bob's Maildir",
             'Message 3 is stored with CRLF at its line ends, message 4 has no line end at its end; both come with CRLF.')
        show_maildir(port, folder)
        step('The same mail fetched by curl',
             'A list for each user, then each message, compared with the stored one octet by octet.')
        fetched = show_curl(port, folder)
        step('No socket at all', 'The same program with a script on standard input.')
        show_pipe(server)
        step('The log', 'Where postern is installed, these lines go to the journal or to syslog.')
        show_log(folder, 3 + fetched)
    finally:
        server.stop()
    say()
    say('demo: all answers were right, and all mail came back octet by octet as it is stored.')


def serve(programs, folder, port):
    show_settings(folder)
    server = Server(programs, folder, port)
    try:
        step('Listening until Ctrl-C.  Type this into a mail program:')
        say(f'    account type           POP3\n    server                 127.0.0.1\n    port                   {port}\n'
            '    connection security    none\n    authentication         normal password')
        for name, password in PASSWORDS.items():
            say(f'    user name, password    {name}, {password}')
        say()
        say(f'or on a command line:  curl -u "alice:{PASSWORDS["alice"]}" pop3://127.0.0.1:{port}/1')
        say(f'or by hand:            telnet 127.0.0.1 {port}')
        say()
        follow(f'{folder}/log')
    except KeyboardInterrupt:
        say()
        say('demo-server: ended; the sample mail is removed')
    finally:
        server.stop()


def follow(path):
    """Prints what comes into the log, until Ctrl-C."""
    with open(path, 'rb') as f:
        while True:
            for line in f:
                if line.startswith(b'postern['):
                    say('log: ' + readable(line))
            time.sleep(0.2)


def run(programs, serving, port):
    folder = tempfile.mkdtemp(prefix='postern-demo.')
    try:
        furnish(folder)
        if serving:
            serve(programs, folder, port)
        else:
            demonstrate(programs, folder, port)
        return 0
    except (Surprise, OSError, subprocess.SubprocessError) as e:
        say(f'demo: FAILED: {e}')
        if os.path.exists(f'{folder}/log'):
            for line in read_bytes(f'{folder}/log').splitlines():
                say('log: ' + readable(line))
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# Root becomes nobody.


def as_nobody(*command):
    return ['setpriv', f'--reuid={NOBODY}', f'--regid={NOBODY}', '--clear-groups', *command]


def reachable_folder():
    """A temporary folder in which user nobody can start programs."""
    for parent in (tempfile.gettempdir(), '/tmp', '/var/tmp'):
        folder = tempfile.mkdtemp(prefix='postern-demo.', dir=parent)
        os.chmod(folder, 0o755)
        shutil.copy(shutil.which('true'), f'{folder}/true')
        if subprocess.run(as_nobody(f'{folder}/true'), stderr=subprocess.DEVNULL, check=False).returncode == 0:
            return folder
        shutil.rmtree(folder)
    raise Surprise('user nobody can start programs in none of the temporary folders')


def again_as_nobody(programs, serving, port):
    if shutil.which('setpriv') is None:
        say('demo: started by root, and setpriv (package util-linux) is missing: start it as an ordinary user')
        return 1
    folder = reachable_folder()
    try:
        os.makedirs(f'{folder}/tests/demo')
        for program in ('postern', 'postern-helper'):
            shutil.copy(f'{programs}/{program}', folder)
            os.chmod(f'{folder}/{program}', 0o755)	# whatever it was: not setuid
        shutil.copyfile(os.path.abspath(__file__), f'{folder}/tests/demo/demo.py')
        shutil.copytree(DATA, f'{folder}/tests/data', copy_function=shutil.copyfile)
        os.mkdir(f'{folder}/work')
        os.chown(f'{folder}/work', NOBODY, NOBODY)
        say(f'demo: started by root; from here on all runs as user {NOBODY} (nobody), on copies in {folder}')
        child = subprocess.Popen(as_nobody(sys.executable, f'{folder}/tests/demo/demo.py', '--programs', folder,
                                           '--port', str(port), *(['--serve'] if serving else [])),
                                 cwd='/', env={**os.environ, 'TMPDIR': f'{folder}/work', 'HOME': '/'})
        signal.signal(signal.SIGINT, signal.SIG_IGN)	# Ctrl-C is for the child, which got it too
        try:
            return child.wait()
        finally:
            child.terminate()
            child.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--programs', required=True, help='folder with postern and postern-helper')
    parser.add_argument('--serve', action='store_true', help='listen until Ctrl-C')
    parser.add_argument('--port', type=int, help='where to listen [a free port]')
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))	# clean up then as well
    port = args.port or free_port()
    programs = os.path.abspath(args.programs)
    start = again_as_nobody if os.getuid() == 0 else run
    return start(programs, args.serve, port)


if __name__ == '__main__':
    sys.exit(main())
