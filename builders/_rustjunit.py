"""The program that turns what `cargo test` prints into JUnit XML, as text: a step hands it to python3.

cargo has no stable report of its own. The text that it prints for people has kept its form since Rust 1.0.
"""

CONVERT = r"""
import os, re, sys
from xml.sax.saxutils import escape, quoteattr

fit = lambda c: c in "\t\n" or " " <= c < "\ud800" or "\ue000" <= c <= "\ufffd"
clean = lambda text: "".join(c if fit(c) else "?" for c in text)
suite, cases, said, current = "", [], {}, None
for raw in open(sys.argv[1], encoding="utf-8", errors="replace"):
    line = re.sub(r"\x1b\[[0-9;]*m", "", raw.rstrip("\n"))
    running = re.match(r"\s*Running (?:unittests )?(\S+) \((.*)\)|\s*Running (\S+)|\s*Doc-tests (\S+)", line)
    test = re.match(r"test (.+?)(?: - should panic)? \.\.\. (ok|FAILED|ignored)\b(.*)", line)
    output = re.match(r"---- (.+) std(?:out|err) ----$", line)
    if running:
        path = running[2] or running[3] or ""
        name = re.sub(r"-[0-9a-f]{16}$", "", os.path.basename(path))
        suite, current = running[4] and running[4] + " (doc)" or name, None
    elif test:
        cases.append((suite, test[1], test[2], test[3].strip(", ")))
    elif output:
        current = said.setdefault((suite, output[1]), [])
    elif re.match(r"(failures:|test result:)", line):
        current = None
    elif current is not None:
        current.append(line)
with open(sys.argv[2], "w", encoding="utf-8") as out:
    out.write('<testsuites><testsuite name="cargo" tests="%d">\n' % len(cases))
    for suite, name, result, why in cases:
        out.write("<testcase classname=%s name=%s>" % (quoteattr(clean(suite)), quoteattr(clean(name))))
        if result == "FAILED":
            out.write('<failure message="">%s</failure>' % escape(clean("\n".join(said.get((suite, name), [])))))
        elif result == "ignored":
            out.write("<skipped message=%s/>" % quoteattr(clean(why)))
        out.write("</testcase>\n")
    out.write("</testsuite></testsuites>\n")
"""
