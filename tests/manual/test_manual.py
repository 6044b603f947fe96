#!/usr/bin/env python3
"""The manual pages against the source: commands, settings, messages and log lines that the programs have are on the
pages, and the pages have no other commands and settings.  TAP; reads top_srcdir from the environment."""

import os
import re
import shutil
import subprocess
import sys

SOURCE = os.environ.get('top_srcdir', '.')
PAGES = ('postern.8', 'postern-helper.8', 'postern-tls.8', 'postern.conf.5', 'postern-users.5', 'postern-maildrop.7')

results = []


def read(path):
    with open(os.path.join(SOURCE, path), encoding='utf-8') as f:
        return f.read()


def sources(folder):
    names = sorted(os.listdir(os.path.join(SOURCE, folder)))
    return '\n'.join(read(f'{folder}/{name}') for name in names if name.endswith('.c'))


def plain(page):
    """A page as words: macros, escapes and quotation marks away, so that a text of the source can be looked for."""
    text = re.sub(r'\\(?:&|\n)', '', read(f'man/{page}'))
    text = text.replace(r'\(dq', '"').replace(r'\e', '\\').replace(r'\-', '-')
    text = re.sub(r'^\.[A-Z][a-z]\b', '', text, flags=re.M)
    text = re.sub(r'\b(?:Pa|Xr|Dv|Ql|Sy|Ic|Cm|Ns|Li)\b', '', text)
    return ' '.join(text.replace('"', '').split())


def check(name, missing, found):
    """missing: what is not on the page.  found: how many things were looked for; none means that this test is blind."""
    results.append((name, found > 0 and not missing))
    for text in missing:
        print(f'# {name}: missing: {text}')
    if found == 0:
        print(f'# {name}: nothing found in the source, this test has to be mended')


def on_page(name, page, texts):
    words = plain(page)
    texts = sorted(set(texts))
    check(name, [t for t in texts if ' '.join(t.replace('"', '').split()) not in words], len(texts))


def section(page, title):
    return re.search(rf'^\.S[sh] {title}$(.*?)(?=^\.S[sh] |\Z)', read(f'man/{page}'), re.M | re.S).group(1)


def items(text):
    return set(re.findall(r'^\.It Ic (\S+)', text, re.M))


def commands():
    states = {'AUTHORIZATION': set(), 'TRANSACTION': set(), 'AUTHORIZATION | TRANSACTION': set()}
    for name, state in re.findall(r'\{ "([A-Z]+)", ([A-Z |]+), ARG_', read('src/session/command.c')):
        states[state].add(name)
    pages = {'AUTHORIZATION': 'AUTHORIZATION state', 'TRANSACTION': 'TRANSACTION state',
             'AUTHORIZATION | TRANSACTION': 'Either state'}
    for state, title in pages.items():
        check(f'commands: {title}', states[state] ^ items(section('postern.8', title)), len(states[state]))


def settings():
    source = read('src/common/settings.c')
    keys = {k.replace('_', '-') for k in re.findall(r'KEY\((\w+)\),', source)}
    check('settings: keys', keys ^ items(section('postern.conf.5', 'Keys')), len(keys))
    items_of = dict(re.findall(r'^\.It Ic ([a-z-]+)$(.*?)(?=^\.It Ic |\Z)', section('postern.conf.5', 'Keys'), re.M | re.S))
    defaults = re.findall(r'KEY\((\w+)\), NUMBER, NULL, (\d+), (\d+)(?:UL)?, "(\d+)"', source)
    check('settings: defaults', [(key, normal) for key, _, _, normal in defaults
                                 if f'default is {normal}' not in items_of[key.replace('_', '-')].replace('\n', ' ')],
          len(defaults))
    words = re.findall(r'_words\[\] = \{ ("[^}]+), NULL', source)
    on_page('settings: words', 'postern.conf.5', re.findall(r'"(\w+)"', ' '.join(words)))
    errors = re.findall(r'return "([^"]+)";|bad_file\([^"]*"([^"]+)"|error=\\"([^"\\%]+)\\"|wrong = "([a-z ]+)"|\? "([a-z ]+)" :',
                        source)
    on_page('settings: errors', 'postern.conf.5', [e for row in errors for e in row if e and '=%' not in e])


def wire():
    names = re.findall(r'^\tWIRE_(\w+)', read('src/common/wire.h'), re.M)
    on_page('messages', 'postern-helper.8', names)


def monitor_lines():
    source = read('src/session/monitor.c') + read('src/session/main.c')
    on_page('log: events', 'postern.8', re.findall(r'log_line\([^;]*?"([\w-]+)"', source))
    how = re.search(r'how\[END_COUNT\] = \{(.*?)\};', source, re.S).group(1)
    on_page('log: how a session ended', 'postern.8', re.findall(r'"([\w-]+)"', how) + ['terminated'])
    on_page('log: start-failed', 'postern.8', re.findall(r'fail\("(no account )"', source))


def helper_lines():
    helper = re.sub(r'" SERVICE_USER "', 'postern', sources('src/helper') + sources('src/accounts') + sources('src/pam'))
    maildrop = sources('src/maildrop')
    reasons = set(re.findall(r'VERDICT_\w+, (?:[^";]*\? )?"([\w-]+)"', helper) +
                  re.findall(r'verdict\([^;]*: "([\w-]+)"\)', helper) + re.findall(r'return "([\w-]+)";', helper))
    listed = re.findall(r'^\.It Sy (.*)', section('postern-helper.8', 'Reasons of login-failed'), re.M)
    check('login-failed: reasons', reasons ^ set(' '.join(listed).replace(' ,', '').split()), len(reasons))
    errors = re.findall(r'(?:give_up\(|refuse\(\w+, )"[^;]*?error=\\"([^\\%:]+)', helper) + \
        re.findall(r'return "(\w[^":(]* [^":(]*)', helper)
    on_page('helper-gives-up: errors', 'postern-helper.8', errors)
    notes = re.findall(r'(?:log_note\([^,]*, |complain\()"([\w-]+)[ "]', helper + maildrop)
    on_page('notes', 'postern-helper.8', [n for n in notes if n != 'mbox'])
    mbox = re.findall(r'(?:mbox_note\([^;]*?, |refuse\(\w+, )"([\w-]+)"', maildrop)
    on_page('notes: mbox', 'postern-helper.8', [f'mbox-{n}' for n in mbox])


def code_lines(source):
    """How many are neither empty nor comment nor #include."""
    return len([x for x in re.sub(r'/\*.*?\*/', '', source, flags=re.S).splitlines() if x.strip() and not x.startswith('#include')])


def root_lines():
    """Lines of what may run as root, as the page counts them: below 600, and those that only a postern-pam that stays has."""
    stays = code_lines(read('src/pam/stay.c'))
    others = code_lines(sources('src/helper') + sources('src/pam')) - stays
    stated = re.findall(r'^have (\d+) lines|has (\d+) more\.$', read('man/postern-helper.8'), re.M)
    check('lines that may run as root', [] if stated == [(str(others), ''), ('', str(stays))] and others < 600 else [others, stays],
          others)


def tls_lines():
    source = re.sub(r'" SERVICE_USER "', 'postern', sources('src/tls') + read('src/common/tls_files.c'))
    on_page('tls: events', 'postern-tls.8', re.findall(r'log_note\([^,]*, "([\w-]+)', source))
    errors = re.findall(r'(?:bad|note)\([\w>-]+, "([^"]+)"\)', source) + re.findall(r'error = "([^"]+)"', source) + \
        [e for row in re.findall(r'encrypted \? "([^"]+)"\s+: "([^"]+)"', source) for e in row]
    on_page('tls: errors', 'postern-tls.8', errors)


def diagnosed(title):
    """The items of a list of diagnostics on postern-helper(8)."""
    text = re.sub(r'\\\n', '', section('postern-helper.8', title))
    return [item for line in re.findall(r'^\.It ([a-z].*)', text, re.M) for item in line.split(' , ')]


def nothing_obsolete():
    """What a program no longer says must not stay on the page."""
    source = re.sub(r'" SERVICE_USER "', 'postern', sources('src/helper') + sources('src/accounts') + sources('src/pam') +
                    sources('src/maildrop') + sources('src/common'))
    errors = [re.split('[:(]', item)[0].strip() for item in diagnosed('helper-gives-up')]
    check('helper-gives-up: nothing obsolete', [e for e in errors if e not in source], len(errors))
    notes = [item.split()[0] for title in ('note', 'maildrop') for item in diagnosed(title)]
    check('notes: nothing obsolete', [n for n in notes if f'"{n} ' not in source and
                                      f'"{n.removeprefix("mbox-")}"' not in source], len(notes))


def references():
    known = {re.sub(r'\.(\d)$', r' \1', page) for page in PAGES}
    wanted = {x for page in PAGES for x in re.findall(r'\.?Xr (postern\S* \d)', read(f'man/{page}'))}
    check('references among the pages', wanted - known, len(wanted))


def lint():
    name = 'mandoc has no warning'
    if shutil.which('mandoc') is None:
        results.append((f'{name} # SKIP mandoc is missing (Debian package: mandoc)', True))
        return
    said = subprocess.run(['mandoc', '-Tlint', '-W', 'warning', *(os.path.join(SOURCE, 'man', p) for p in PAGES)],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    for line in said.stdout.splitlines():
        print(f'# {line}')
    results.append((name, said.returncode == 0))


def main():
    for test in (commands, settings, wire, monitor_lines, helper_lines, root_lines, tls_lines, nothing_obsolete, references, lint):
        test()
    for number, (name, good) in enumerate(results, 1):
        print(f'{"ok" if good else "not ok"} {number} - {name}')
    print(f'1..{len(results)}')
    return 0 if all(good for _, good in results) else 1


if __name__ == '__main__':
    sys.exit(main())
