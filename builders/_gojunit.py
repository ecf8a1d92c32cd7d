"""The program that turns what `go test -json` prints into JUnit XML, as text: a step hands it to python3.

It prints what failing tests said, and what is no event. It imports the standard library only, any Python 3 runs it.
"""

CONVERT = r"""
import json, sys
from xml.sax.saxutils import escape, quoteattr

said, cases, failed, lost = {}, [], set(), []
for line in open(sys.argv[1], encoding="utf-8", errors="replace"):
    try:
        event = json.loads(line)
        action = event["Action"]
    except (ValueError, KeyError, TypeError):
        print(line, end="")
        continue
    key = (event.get("Package") or event.get("ImportPath", ""), event.get("Test", ""))
    if action in ("output", "build-output"):
        said.setdefault(key, []).append(event["Output"])
        if action == "build-output":
            print(event["Output"], end="")
    elif action in ("pass", "fail", "skip"):
        if action == "fail":
            failed.add(key)
        if key[1]:
            cases.append((key, action, event.get("Elapsed", 0)))
packages = {package for package, _ in failed}
for (package, test) in failed:
    inner = any(p == package and t.startswith(test + "/") for p, t in failed)
    if test and not inner or not test and not any(p == package and t for p, t in failed):
        print("".join(said.get((package, test), [])), end="")
fit = lambda c: c in "\t\n" or " " <= c < "\ud800" or "\ue000" <= c <= "\ufffd"
clean = lambda text: "".join(c if fit(c) else "?" for c in text)
with open(sys.argv[2], "w", encoding="utf-8") as out:
    out.write('<testsuites><testsuite name="go" tests="%d">\n' % len(cases))
    for (package, test), action, seconds in cases:
        named = quoteattr(package), quoteattr(clean(test)), seconds
        out.write('<testcase classname=%s name=%s time="%.3f">' % named)
        if action != "pass":
            text = clean("".join(said.get((package, test), [])))
            kind = {"fail": "failure", "skip": "skipped"}[action]
            out.write('<%s message="">%s</%s>' % (kind, escape(text), kind))
        out.write("</testcase>\n")
    out.write("</testsuite></testsuites>\n")
"""
