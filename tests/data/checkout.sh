# A checkout of this repository that builds and tests little, for the pages that say how to do both. The environment is ready.
mkdir -p config .venv/bin tests text
cp "$REPOSITORY/Makefile" "$REPOSITORY/pyproject.toml" "$REPOSITORY/conftest.py" .
cp "$REPOSITORY/tests/core/test_frontier.py" tests
cp pyproject.toml .venv/.ready
printf '#!/bin/sh\nexec "%s" "$@"\n' "$(command -v python3)" >.venv/bin/python && chmod +x .venv/bin/python
echo hello >text/words.txt
cat >config/build.yml <<'END'
components:
  text: {kind: command, steps: {shout: {command: "tr a-z A-Z <words.txt >loud.txt", inputs: [words.txt], outputs: [loud.txt]}}}
END
